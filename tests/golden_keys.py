"""The reference's checkpoint keys and shapes, recorded once."""

from __future__ import annotations

import functools
import gzip
import json
from pathlib import Path

_FILE = Path(__file__).parent / "golden" / "checkpoint_keys.json.gz"
V1 = "configs/stable-diffusion/v1-inference.yaml"


@functools.cache
def recorded_keys() -> dict[str, dict[str, list[int]]]:
    """Return {configuration: {key: shape}} of its 32 configurations; losses' keys are left out."""
    return json.loads(gzip.decompress(_FILE.read_bytes()))
