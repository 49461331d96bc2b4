"""Mark what words name, by CLIPSeg from a local folder. Nothing is ever downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ldm.hints.learned import device_named, read_folder

_FILES = ("config.json", "tokenizer_config.json")


def by_words(
    picture: Image.Image, *, words: Sequence[str], model: str, threshold: float, device: str
) -> np.ndarray:
    """Return the mask of what words name, uint8 (H, W).

    Args:
        picture: RGB.
        words: Each names a thing; what any of them names is marked.
        model: Folder of CLIPSeg, as transformers saves it.
        threshold: How sure the network must be, from 0 to 1.
        device: Where it computes; ``auto`` is CUDA where there is one.

    Raises:
        UserError: The folder is not there, or does not hold such a network.
    """
    import torch

    network, processor = _load(Path(model))
    where = device_named(device)
    inputs = processor(
        text=list(words), images=[picture] * len(words), padding=True, return_tensors="pt"
    )
    with torch.inference_mode():
        logits = network.to(where)(**inputs.to(where)).logits.float()
    logits = logits.reshape(len(words), 1, *logits.shape[-2:])
    sure = torch.nn.functional.interpolate(
        logits.sigmoid(), size=picture.size[::-1], mode="bilinear", align_corners=False
    )
    return np.where(sure.amax((0, 1)).cpu().numpy() >= threshold, 255, 0).astype(np.uint8)


def _load(folder: Path) -> tuple[Any, Any]:
    from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor

    return read_folder(folder, "CLIPSeg", CLIPSegForImageSegmentation, CLIPSegProcessor, _FILES)
