"""The jobs of two lessons: the way of a picture from noise, and where the words of one look.

one run of one picture -> its glimpses or maps -> a strip with labels, saved beside it
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from apps.studio.words import say
from ldm.errors import UserError
from ldm.images.io import save_numbered
from ldm.pipelines.attention_panels import captioned_tiles, overlay
from ldm.pipelines.postprocess import Watermark
from ldm.programs.output import OutputFolder
from ldm.settings.generation import GenerationSettings
from optimizedSD.web.drawing import drawn_by

if TYPE_CHECKING:
    from ldm.pipelines.previewing import Glimpse
    from ldm.pipelines.progress import Picture
    from optimizedSD.web.worker import Desk

FOLDER, NAMES = "lessons", "lesson-{:04d}.png"
SHOWN = 8  # guesses of a way
TILE = 256  # pixels of the longer side of a picture on a strip
COLUMNS = 3


@dataclass(frozen=True)
class Showing:
    """A job: one picture, and what happens inside the model while it is drawn.

    Attributes:
        settings: Of the picture.
        kind: ``way`` or ``looks``.
        outdir: The studio's folder.
        language: The visitor's.
    """

    settings: GenerationSettings
    kind: str
    outdir: Path
    language: str = "en"

    @property
    def seed(self) -> int:
        """The picture's."""
        return self.settings.seed

    def do(self, desk: Desk) -> None:
        """Draw the picture and save the strip; raises UserError for what cannot be drawn."""
        folder = self.outdir / FOLDER
        output = OutputFolder(folder)
        output.check()
        settings = replace(self.settings, n_iter=1, n_samples=1)
        show = self._way if self.kind == "way" else self._looks
        picture, tiles = show(desk, settings)
        output.take(picture)
        pixels = Watermark.of(settings.watermark, settings.format)(strip(tiles))
        path, _ = save_numbered(pixels, folder, NAMES, format=settings.format)
        desk.took(path, seed=self.seed)

    def _way(self, desk: Desk, settings: GenerationSettings) -> tuple[Picture, list[Tile]]:
        from ldm.pipelines.previewing import preview_of

        if preview_of(desk.pipeline.choice) is None:
            raise UserError(say(self.language, "no_preview"))
        seen: list[Glimpse] = []
        picture = _drawn(desk, settings, preview=seen.append, every=0.0)
        height, width = picture.plain.shape[:2]
        chosen = [seen[k] for k in evenly(len(seen), SHOWN)]
        tiles = [(f"step {each.step}", _enlarged(each.pixels[0], width, height)) for each in chosen]
        return picture, [*tiles, ("picture", picture.plain)]

    def _looks(self, desk: Desk, settings: GenerationSettings) -> tuple[Picture, list[Tile]]:
        from ldm.modules.attention_control.words import read_prompt
        from ldm.pipelines.edits import tokenizer_of
        from optimizedSD.web.word_maps import WordMaps

        prompt = read_prompt(tokenizer_of(desk.pipeline.model), settings.prompt)
        watcher = WordMaps([prompt], 1)
        picture = _drawn(desk, settings, controller=watcher)
        looks = watcher.looks(picture)
        if looks is None:
            raise UserError(
                "nobody looked at a word of this prompt; expected words, and a model that attends "
                "to them; change the prompt"
            )
        heats = zip(looks.words, looks.maps, strict=True)
        tiles = [(word, overlay(picture.plain, heat / 255.0)) for word, heat in heats]
        return picture, [("picture", picture.plain), *tiles]


Tile = tuple[str, np.ndarray]
"""A label, and uint8 (H, W, 3)."""


def strip(tiles: Sequence[Tile]) -> np.ndarray:
    """Return pictures in rows with their labels, uint8 (H, W, 3).

    Args:
        tiles: The pictures; all of one size.
    """
    return captioned_tiles(
        [_fitted(pixels) for _, pixels in tiles], [label for label, _ in tiles], COLUMNS
    )


def evenly(count: int, most: int) -> list[int]:
    """Return at most so many numbers below a count, the first and the last among them.

    Example:
        >>> evenly(10, 4), evenly(2, 4), evenly(0, 4)
        ([0, 3, 6, 9], [0, 1], [])
    """
    if count <= most:
        return list(range(count))
    return [round(k * (count - 1) / (most - 1)) for k in range(most)]


def _drawn(desk: Desk, settings: GenerationSettings, **watched: Any) -> Picture:
    """Draw the one picture of a run."""
    request = desk.pipeline.prepare(settings)
    with contextlib.closing(drawn_by(desk, request, **watched)) as drawn:
        return next(drawn)


def _fitted(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(
        ImageOps.contain(Image.fromarray(pixels), (TILE, TILE), Image.Resampling.LANCZOS)
    )


def _enlarged(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return a small picture in squares of its pixels, so that the latent's places are seen."""
    image = Image.fromarray(pixels)
    return np.asarray(image.resize((width, height), Image.Resampling.NEAREST))
