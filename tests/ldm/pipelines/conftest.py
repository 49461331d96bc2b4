from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ldm.pipelines.pipeline import Pipeline


@pytest.fixture(scope="session")
def pipeline(tiny_ckpt):
    """The tiny model, loaded on the CPU. Not to be modified."""
    return Pipeline.load(tiny_ckpt, device="cpu")


@pytest.fixture(scope="module")
def init_img(tmp_path_factory):
    """A picture of 16x12 pixels."""
    path = tmp_path_factory.mktemp("init") / "sketch.png"
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path
