"""Read the header of a safetensors file, within ``ldm.budgets``. No torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ldm import budgets


class HeaderFault(ValueError):
    """A header is damaged or claims too much; the message says what is wrong."""


def read_header(path: str | Path) -> dict[str, Any]:
    """Return what stands in a safetensors file before its numbers, unchecked but for its extent.

    Raises:
        HeaderFault: It is no header, or a longer one than any model has.
        OSError: The file cannot be read.
    """
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > budgets.SAFETENSORS_HEADER:
            raise HeaderFault(f"a header of {length} bytes, over {budgets.SAFETENSORS_HEADER}")
        text = file.read(length)
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HeaderFault("a header that is no JSON") from error
    if not isinstance(header, dict):
        raise HeaderFault("a header that is no mapping")
    if len(header) > budgets.SAFETENSORS_TENSORS:
        raise HeaderFault(f"{len(header)} tensors, over {budgets.SAFETENSORS_TENSORS}")
    return header
