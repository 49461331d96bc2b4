"""Which way surfaces face, from how near they are."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ldm.hints.filters import as_picture, blurred, brightness, slopes
from ldm.hints.learned import depth

_HEIGHT = 64.0
"""By how many pixels white is nearer than black."""


def normal(
    picture: Image.Image, sigma: float, relief: float, model: str | None, device: str
) -> Image.Image:
    """Return normals as colours, as ControlNet 1.1 has them: blue is front, red left, green up.

    Args:
        picture: A depth picture, near in white; with a ``model``, any picture.
        sigma: By how much depth is smoothed first, in pixels.
        relief: How steep the slopes are.
        model: Folder of a depth network, see ``depth``.
        device: Where it computes.

    Raises:
        UserError: As ``depth``.
    """
    if model is not None:
        picture = depth(picture, model, device)
    nearness = blurred(brightness(picture) / 255 * (_HEIGHT * relief), sigma)
    across, down = slopes(nearness)
    # Where it comes nearer to the right, the surface faces left; where downwards, up.
    facing = np.stack([across, down, np.ones_like(across)], axis=2)
    facing /= np.linalg.norm(facing, axis=2, keepdims=True)
    return as_picture((facing + 1) * 127.5)
