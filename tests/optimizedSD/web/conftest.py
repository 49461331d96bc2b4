from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ldm.pipelines.pipeline import Pipeline
from ldm.pipelines.staging import Staging


@pytest.fixture(scope="session")
def pipeline(tiny_ckpt):
    """The tiny model, its parts taking turns, as pages load it."""
    return Pipeline.load(tiny_ckpt, device="cpu", staging=Staging())


@pytest.fixture(scope="session")
def picture():
    """A picture of 16x12 pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="session")
def painted(picture):
    """What the editor holds of that picture after a stroke over its middle."""
    layer = np.zeros((12, 16, 4), np.uint8)
    layer[4:8, 6:12] = 255
    stroke = Image.fromarray(layer)
    background = picture.convert("RGBA")
    composite = Image.alpha_composite(background, stroke)
    return {"background": background, "layers": [stroke], "composite": composite}
