"""Small pictures of what is being drawn: latents to colours by fixed factors, without a decoder.

A latent's channels are nearly a linear picture already. So each pixel of a preview, of which there
is one for each latent position, is the latent's vector there times a matrix, plus a colour: a
fraction of a millisecond where a decoder takes as long as several steps. A small autoencoder packs
more into a position, which is told better from the 3x3 vectors around it.

    def show(glimpse): Image.fromarray(glimpse.pixels[0]).show()
    pipeline.generate(settings, preview=show, every=0.5)

The factors stand in a model's YAML beside ``model``; ``fit_preview`` finds them:

    preview: { factors: [[0.1, 0.2, 0.1], ...], bias: [0.0, 0.0, 0.0] }

Shapes: B pictures, C channels, h w latent, K vectors that a pixel is made of: 1 or 9.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from ldm.errors import UserError
from ldm.legible import quoted
from ldm.pipelines.progress import Notice, Observer

if TYPE_CHECKING:  # what stands in a YAML is read without torch
    from torch import Tensor

    from ldm.pipelines.models import ModelChoice
    from ldm.types import SamplerState

COLOURS = 3
AROUND = range(3)
FITTER = f"{__name__}.fit_preview"
V1_SCALE, V1_CHANNELS = 0.18215, 4
# Of the autoencoder that Stable Diffusion 1 and 2 share, as published in ComfyUI's
# comfy/latent_formats.py (class SD15); its weights are not at hand here to fit our own.
V1_FACTORS = (
    (0.3512, 0.2297, 0.3227),
    (0.3250, 0.4974, 0.2350),
    (-0.2829, 0.1762, 0.2721),
    (-0.2120, -0.2616, -0.7177),
)


@dataclass(frozen=True)
class Preview:
    """From latents to small pictures.

    Attributes:
        factors: For each latent channel its share of red, green and blue, for colours in [-1, 1];
            nine times as many for the 3x3 positions around, line by line.
        bias: The colour of a latent of zeros.
    """

    factors: tuple[tuple[float, ...], ...]
    bias: tuple[float, ...] = (0.0,) * COLOURS

    def __call__(self, x0: Tensor) -> np.ndarray:
        """Return pictures of clean latents (B, C, h, w), scaled as they are sampled.

        Returns:
            uint8 (B, h, w, 3), RGB.
        """
        vectors = _vectors(x0, around=len(self.factors) > x0.shape[1])
        colours = np.einsum("bkhw,kr->bhwr", vectors, np.asarray(self.factors, np.float32))
        colours = np.nan_to_num(colours + np.asarray(self.bias, np.float32))
        return np.clip((colours + 1.0) * 127.5, 0.0, 255.0).astype(np.uint8)


def _vectors(latents: Tensor, *, around: bool) -> np.ndarray:
    """Return what pixels are made of, float32 (B, K C, h, w)."""
    here = latents.detach().float().cpu().numpy()
    if not around:
        return here
    h, w = here.shape[2:]
    wide = np.pad(here, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    return np.concatenate([wide[:, :, y : y + h, x : x + w] for y in AROUND for x in AROUND], 1)


def preview_of(choice: ModelChoice) -> Preview | None:
    """Return a model's preview: what its YAML says, or what is published; None if nothing is.

    Raises:
        UserError: What stands in the YAML is none.
    """
    entry = OmegaConf.select(choice.config, "preview", default=None)
    if entry is not None:
        return _read(entry, choice)
    scale = OmegaConf.select(choice.config, "model.params.scale_factor", default=None)
    is_v1 = (scale, choice.channels) == (V1_SCALE, V1_CHANNELS)
    return Preview(V1_FACTORS) if is_v1 else None


def fit_preview(
    latents: Tensor, pictures: Tensor, *, around: bool = False
) -> tuple[Preview, float]:
    """Return the preview that is nearest to pictures, by least squares.

    Args:
        latents: (B, C, h, w), scaled as they are sampled, such as ``encode_picture`` returns.
        pictures: What they are decoded to, (B, 3, H, W) in [-1, 1]; each f x f pixels of them are
            compared by their mean with one latent position.
        around: Whether the 3x3 positions around one have a part in its colour.

    Returns:
        The preview, and the root of its mean squared error in [-1, 1].

    Example:
        latents = pipeline.model.encode_picture(photographs)
        found, error = fit_preview(latents, pipeline.model.decode_first_stage(latents))
    """
    vectors = _vectors(latents, around=around)
    colours = pictures.detach().float().cpu().numpy()
    b, size, h, w = vectors.shape
    blocks = colours.reshape(b, COLOURS, h, colours.shape[2] // h, w, colours.shape[3] // w)
    wanted = blocks.mean(axis=(3, 5)).transpose(0, 2, 3, 1).reshape(-1, COLOURS)
    known = vectors.transpose(0, 2, 3, 1).reshape(-1, size)
    known = np.concatenate([known, np.ones_like(known[:, :1])], axis=1).astype(np.float64)
    found = np.linalg.lstsq(known, wanted.astype(np.float64), rcond=None)[0]
    error = float(np.sqrt(np.mean((known @ found - wanted) ** 2)))
    *factors, bias = (tuple(round(float(value), 4) for value in row) for row in found)
    return Preview(tuple(factors), bias), error


def _read(entry: Any, choice: ModelChoice) -> Preview:
    given = OmegaConf.to_container(entry) if isinstance(entry, DictConfig) else None
    given = given if isinstance(given, dict) and given.keys() <= {"factors", "bias"} else {}
    factors, bias = given.get("factors"), given.get("bias", [0.0] * COLOURS)
    counts = choice.channels, choice.channels * len(AROUND) ** 2
    rows = factors if isinstance(factors, list) and len(factors) in counts else [None]
    if not all(map(_is_colour, [*rows, bias])):
        raise UserError(
            f"config {choice.config_path}: preview is {quoted(entry)}; expected factors, a list of "
            f"red, green and blue for each of {counts[0]} channels, or for those of the 3x3 "
            f"positions around, and perhaps bias, a colour; correct it, or let {FITTER} find them"
        )
    return Preview(tuple(map(tuple, rows)), tuple(bias))


def _is_colour(row: Any) -> bool:
    return (
        isinstance(row, list)
        and len(row) == COLOURS
        and all(type(each) in (int, float) and np.isfinite(each) for each in row)
    )


@dataclass(frozen=True, eq=False)
class Glimpse:
    """What a batch looks like after a step: the pictures that the model expects to arrive at.

    Attributes:
        pixels: uint8 (B, h, w, 3), RGB, a pixel for each latent position.
        numbers: Which picture of the run each of them is, counted from 0; which request, where
            several are drawn together.
        step: Steps taken.
        steps: Steps of the walk.
    """

    pixels: np.ndarray
    numbers: tuple[int, ...]
    step: int
    steps: int


class Glimpses:
    """Shows what is being drawn, now and then.

    Args:
        make: Makes small pictures of latents.
        show: Called with each.
        every: Least time between two of them, in seconds.
        clock: In seconds.
    """

    def __init__(
        self,
        make: Preview,
        show: Callable[[Glimpse], None],
        every: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make, self._show, self._every, self._clock = make, show, every, clock
        self._shown = -np.inf

    @classmethod
    def of(
        cls,
        choice: ModelChoice,
        show: Callable[[Glimpse], None],
        every: float,
        observer: Observer,
    ) -> Glimpses | None:
        """Return what shows a model's runs; None, and a notice, if its colours are not known."""
        make = preview_of(choice)
        if make is None:
            observer(
                Notice(
                    f"No preview while pictures are drawn: {choice.config_path} has no factors for "
                    f"one; {FITTER} finds them."
                )
            )
            return None
        return cls(make, show, every)

    def numbered(self, number: int) -> Glimpses:
        """Return the same for runs of one picture, whose number is this one."""
        return Glimpses(
            self._make,
            lambda glimpse: self._show(replace(glimpse, numbers=(number,))),
            self._every,
            self._clock,
        )

    def take(self, state: SamplerState, numbers: Mapping[int, int]) -> None:
        """Show a state of a walk, unless one was shown just now.

        Args:
            state: After a step.
            numbers: The number of each row's picture, of those that are wanted.
        """
        now = self._clock()
        if now - self._shown < self._every:
            return
        self._shown = now
        pixels = self._make(state.x0[list(numbers)])
        self._show(Glimpse(pixels, tuple(numbers.values()), state.i + 1, state.total))
