"""Edge maps: of pictures by their slopes, of drawings as they are; and their latents.

Shapes: B pictures, H W pixels, C channels of the latents, h w their sides.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

SLOPES = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8  # Sobel's, of gain 1
GAIN = 4.0
"""Slopes of a quarter of the range between two pixels are full edges."""


def edges_of(pictures: Tensor) -> Tensor:
    """Return the edge maps of pictures (B, 3, H, W) in [-1, 1]: bright on black, (B, 3, H, W)."""
    grey = pictures.float().mean(1, keepdim=True) / 2  # 1 from black to white
    kernels = torch.stack([SLOPES, SLOPES.mT])[:, None].to(grey)  # (2, 1, 3, 3)
    slopes = F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), kernels)  # (B, 2, H, W)
    strength = (GAIN * slopes.norm(dim=1, keepdim=True)).clamp(0, 1)
    return (2 * strength - 1).expand(-1, 3, -1, -1)


def edges_drawn(sketch: Image.Image, size: tuple[int, int], *, dark_lines: bool) -> Tensor:
    """Return a drawing as an edge map (1, 3, H, W) in [-1, 1] of a size (H, W)."""
    grey = ImageOps.grayscale(sketch)
    if dark_lines:
        grey = ImageOps.invert(grey)
    shrunk = grey.resize((size[1], size[0]), Image.Resampling.LANCZOS)
    unit = torch.from_numpy(np.asarray(shrunk).astype(np.float32) / 255.0)
    return (2 * unit - 1).expand(1, 3, -1, -1).contiguous()


@torch.no_grad()
def latents_of(model: Any, maps: Tensor) -> Tensor:
    """Return the mean latents (B, C, h, w) of edge maps (B, 3, H, W)."""
    found = model.encode_first_stage(maps.to(model.device))
    return model.scale_factor * (found if isinstance(found, Tensor) else found.mode())
