"""FreeU: louder features and quieter low frequencies of their skips, at the two deepest levels.

arXiv:2309.11497, Eq. 3 to 6, in the form with one number for all of a map's places (the paper's
first; diffusers and the authors' demo have it): half of the channels of h times b, and

    skip' = IFFT(FFT(skip) * m),   m(r) = s where r is below the threshold 1, else 1

Shapes: B rows, C channels, h w a map's sides.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ldm.adapters.handle import require_unet
from ldm.errors import UserError
from ldm.wrapping import with_attribute

LEVELS = 2
"""The deepest levels that the paper changes."""


class FreeU:
    """What a UNet's second half does at its joints.

    Args:
        unet: With ldm's layout.
        b: For each of the two deepest levels, the deepest first: the weight of its features.
        s: In the same way, the weight of its skips' low frequencies.

    Raises:
        UserError: The UNet does not say which levels it has.
    """

    def __init__(self, unet: nn.Module, b: tuple[float, float], s: tuple[float, float]) -> None:
        layout = getattr(unet, "layout", None)
        if layout is None:
            raise UserError(
                f"--freeu was given for a {type(unet).__name__}, which does not say which levels "
                "it has; expected ldm's UNetModel; leave it out"
            )
        self._scales: list[tuple[float, float]] = []
        for level, pair in zip(reversed(layout.levels), zip(b, s, strict=True), strict=False):
            self._scales += [pair] * (level.res_blocks + 1)

    def __call__(self, number: int, h: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
        """Change h (B, C, h, w) and skip (B, C', h, w) before output block ``number``."""
        if number >= len(self._scales):
            return h, skip
        b, s = self._scales[number]
        if b != 1.0:
            half = h.shape[1] // 2
            h = torch.cat([h[:, :half] * b, h[:, half:]], dim=1)
        return h, skip if s == 1.0 else scale_low(skip, s)


def scale_low(x: Tensor, scale: float) -> Tensor:
    """Scale the lowest frequencies of maps (B, C, h, w): those of the numbers -1 and 0.

    They are the 2x2 around the middle of the centred spectrum, which the threshold 1 leaves; as
    they have no counterparts of the number 1 the result is not real, and its real part is taken.
    """
    spectrum = torch.fft.fft2(x.float())  # (B, C, h, w), complex
    mask = torch.ones(x.shape[-2:], device=x.device)
    for row in {0, x.shape[-2] - 1}:
        mask[row, [0, -1]] = scale
    return torch.fft.ifft2(spectrum * mask).real.to(x.dtype)


@contextmanager
def freed(model: nn.Module, b1: float, b2: float, s1: float, s2: float) -> Iterator[FreeU]:
    """Let a model's UNet draw by FreeU inside the block; 1, 1, 1, 1 changes nothing."""
    unet = require_unet(model)
    change = FreeU(unet, (b1, b2), (s1, s2))
    with with_attribute(unet, "joints", (*unet.joints, change)):
        yield change
