"""Drawings that steer: what a user gives, as tensors of the right size.

Shapes: n pictures, 1 for all rows of a batch or one for each; H W pixels; values in [0, 1], and -1
where an inpainting ControlNet is to paint (``inpaint_values`` makes those).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ldm.errors import UserError
from ldm.hints.masked import hidden
from ldm.images.io import upright_eight_bit
from ldm.modules.attention_control.parts import part_of_call

logger = logging.getLogger(__name__)

Picture = Image.Image | Tensor | Sequence[Image.Image]
"""A picture; a tensor (n, 3, H, W) or (n, 1, H, W) in [0, 1]; several pictures of one size."""

MISSING = -1.0
"""What stands in a hint where there is to be painted; no picture holds it."""
SEEN = 0.5
"""A resampled pixel has a colour where more than this share of it had one."""
RESIZES = ("stretch", "crop", "fill")


def hint_tensor(image: Picture) -> Tensor:
    """Return a hint as a float32 tensor (n, 3, H, W).

    Raises:
        UserError: It is no picture, of another shape, or of other values.
    """
    if isinstance(image, Image.Image):
        return _of_picture(image)
    if not isinstance(image, Tensor):
        return _of_pictures(image)
    if image.ndim == 3:
        image = image[None]
    if image.ndim != 4 or image.shape[1] not in (1, 3) or not image.numel():
        raise UserError(
            f"a hint of shape {tuple(image.shape)} given; expected a picture, or a tensor "
            "(1 or B, 3, H, W) with values from 0 to 1; reshape it"
        )
    hint = image.detach().float()
    low, high = float(hint.min()), float(hint.max())
    if not -1.0 <= low <= high <= 1.0:  # NaN is in no order
        raise UserError(
            f"a hint with values from {low:g} to {high:g} given; expected 0 to 1 (-1 where an "
            "inpainting ControlNet paints); divide bytes by 255"
        )
    return hint.expand(-1, 3, -1, -1)


def inpaint_values(picture: Image.Image, mask: Image.Image) -> Tensor:
    """Return what an inpainting ControlNet is given: the picture, and -1 where a mask is white.

    Args:
        picture: RGB.
        mask: Of the same size.

    Returns:
        (1, 3, H, W).

    Raises:
        UserError: The sizes differ.
    """
    values = hint_tensor(picture).clone()
    values[:, :, torch.from_numpy(hidden(picture, mask))] = MISSING
    return values


def check_resize(resize: str) -> None:
    """Refuse an unknown way to resize.

    Raises:
        UserError: It is none of ``RESIZES``.
    """
    if resize not in RESIZES:
        raise UserError(f"resize {resize!r} given; expected one of {', '.join(RESIZES)}")


def fitted(hint: Tensor, size: tuple[int, int], resize: str = "stretch") -> Tensor:
    """Return a hint (n, 3, H, W) at another size (H, W) in pixels.

    Args:
        hint: The hint.
        size: What is wanted.
        resize: ``stretch`` to the size; ``crop`` what stands over when the rest fills it; ``fill``
            with the colour of the hint's rim (the median) what it leaves free.
    """
    sides = tuple(hint.shape[-2:])
    if sides == tuple(size):
        return hint
    rates = [wanted / side for wanted, side in zip(size, sides, strict=True)]
    if resize == "stretch":
        return _resampled(hint, size)
    rate = max(rates) if resize == "crop" else min(rates)
    whole = _resampled(hint, tuple(max(1, round(side * rate)) for side in sides))
    return _cropped(whole, size) if resize == "crop" else _on_ground(whole, size)


def _resampled(hint: Tensor, size: tuple[int, ...]) -> Tensor:
    """Resample; pixels to paint have no colour, and give none to their neighbours."""
    seen = (hint >= 0).all(dim=1, keepdim=True).float()
    share, colour = (
        F.interpolate(each, size, mode="bilinear", antialias=True) for each in (seen, hint * seen)
    )
    colour = (colour / share.clamp_min(torch.finfo(share.dtype).eps)).clamp(0, 1)
    return torch.where(share > SEEN, colour, -1.0)


def _cropped(hint: Tensor, size: tuple[int, int]) -> Tensor:
    top, left = ((have - want) // 2 for have, want in zip(hint.shape[-2:], size, strict=True))
    return hint[..., top : top + size[0], left : left + size[1]]


def _on_ground(hint: Tensor, size: tuple[int, int]) -> Tensor:
    rim = [hint[..., 0, :], hint[..., -1, :], hint[..., :, 0], hint[..., :, -1]]
    ground = torch.cat(rim, dim=-1).median(dim=-1).values[..., None, None]  # (n, 3, 1, 1)
    whole = ground.expand(-1, -1, *size).clone()
    top, left = ((want - have) // 2 for have, want in zip(hint.shape[-2:], size, strict=True))
    whole[..., top : top + hint.shape[-2], left : left + hint.shape[-1]] = hint
    return whole


class Hint:
    """A hint that is fitted to the latents of whatever walk comes.

    Args:
        image: See ``hint_tensor``.
        resize: See ``fitted``.
        rate: Pixels of a picture along one position of its latent.
        wanted: Pixels of the hint along one position of the latent.
    """

    def __init__(self, image: Picture, resize: str, rate: int, wanted: int) -> None:
        check_resize(resize)
        self.pixels = hint_tensor(image)
        self._resize, self._rate, self._wanted = resize, rate, wanted
        self._told: set[tuple[int, int]] = set()
        self._fitted: tuple[tuple[int, int], Tensor] | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    def at(self, latent: tuple[int, int]) -> Tensor:
        """Return it (n, 3, H, W) for latents of a size (h, w); say so if it has to be resized.

        Where those are a part of the picture, it is that part of the hint.
        """
        if (part := part_of_call()) is not None:
            whole = part.height, part.width
            if self._fitted is None or self._fitted[0] != whole:
                self._fitted = whole, self._whole(whole)
            rows, columns = part.scaled(self._wanted)
            return self._fitted[1][..., rows, columns]
        return self._whole(latent)

    def _whole(self, latent: tuple[int, int]) -> Tensor:
        size = tuple(side * self._wanted for side in latent)
        picture = tuple(side * self._rate for side in latent)
        own = tuple(self.pixels.shape[-2:])
        if own not in (size, picture) and picture not in self._told:
            self._told.add(picture)
            logger.warning(
                "the hint of %s pixels is resized (%s) to the picture's %dx%d",
                _size(self.pixels),
                self._resize,
                picture[1],
                picture[0],
            )
        return fitted(self.pixels, size, self._resize)

    def of_pictures(self, made: Tensor, pictures: Sequence[int]) -> Tensor:
        """Return what was made of it, (n, ...), for rows by the numbers of their pictures.

        Raises:
            UserError: There are more pictures than hints.
        """
        if len(made) == 1:
            return made
        if max(pictures) >= len(made):
            raise UserError(
                f"{len(made)} hints given for {max(pictures) + 1} pictures or more; expected one "
                "for all, or one for each; give as many as n_samples"
            )
        return made[list(pictures)]


def _of_picture(image: Image.Image) -> Tensor:
    rgb = np.asarray(upright_eight_bit(image).convert("RGB"), dtype=np.float32) / 255.0
    return torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))[None]


def _of_pictures(images: Any) -> Tensor:
    if not isinstance(images, Sequence) or not all(isinstance(e, Image.Image) for e in images):
        raise UserError(
            f"a {type(images).__name__} given for a hint; expected a picture, several, or a tensor"
        )
    sizes = {image.size for image in images}
    if len(sizes) != 1:
        raise UserError(
            f"hints of {len(sizes)} sizes given; expected pictures of one size; resize them"
        )
    return torch.cat([_of_picture(image) for image in images])


def _size(hint: Tensor) -> str:
    return f"{hint.shape[-1]}x{hint.shape[-2]}"
