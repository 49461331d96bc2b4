"""The program that makes pictures larger by tiles, held to the picture by a ControlNet if given.

Does not import torch itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ldm.programs.drawing import DrawingProgram
from ldm.settings.upscale_tile import TileUpscaleSettings

if TYPE_CHECKING:  # these import NumPy, Pillow and OmegaConf, which --help can do without
    from ldm.pipelines.pipeline import Pipeline
    from ldm.pipelines.progress import Picture


class TileUpscaleProgram(DrawingProgram):
    """Makes a picture larger.

    Args:
        description: First lines of ``--help``.
    """

    def __init__(self, description: str) -> None:
        super().__init__(TileUpscaleSettings, description)

    def prepare(self, given: dict[str, Any]) -> None:
        """Work out the request; check the output folder and that the ControlNet is there."""
        super().prepare(given)
        if self.settings.control_tile is not None:
            path = _found(self.settings.control_tile)
            self.settings = replace(
                self.settings, control_tile=path, control_tile_hash=_hash_of(path)
            )
            self.request = replace(self.request, settings=self.settings)
        self.wants_grid = self.wants_grid and self.request.pictures > 1
        (height, width), choice = self.request.shown_size, self.request.choice
        tile, overlap = self.settings.tiling(choice.size, choice.multiple)
        self.console.say(
            f"{self.request.image.path} becomes {width}x{height}, in tiles of {tile} pixels that "
            f"overlap by {overlap}."
        )

    def draw(self, pipeline: Pipeline) -> Iterator[Picture]:
        """Return the pictures of the request."""
        if self.settings.control_tile is None:
            yield from super().draw(pipeline)
            return
        from ldm.adapters.control import read_control  # imports torch

        control = read_control(self.settings.control_tile, pipeline.model)
        self.console.say(f"{control.report.summary()}.")
        for text in control.report.warnings():
            self.console.warn(text)
        shown, scale = self.request.image.pixels, self.settings.control_tile_scale
        with control.attach(pipeline.model, shown, scale=scale):
            yield from super().draw(pipeline)


def _found(named: str) -> str:
    """Return a ControlNet's path, which may be given as its name in models/controlnet.

    Raises:
        UserError: There is neither a file nor one of that name.
    """
    from ldm.paths import MISSING, unreachable
    from ldm.pipelines.adapter_files import CONTROLS, find_adapter

    if unreachable(named) != MISSING:
        return named
    return str(find_adapter(replace(CONTROLS, flag="--control_tile", what="ControlNet"), named))


def _hash_of(path: str) -> str:
    """Return the SHA-256 of a ControlNet's file; empty for a folder.

    Raises:
        UserError: There is neither.
    """
    from ldm.digests import file_hash
    from ldm.errors import UserError
    from ldm.paths import ERRORS, MISSING, is_folder, reason, unreachable

    if fault := unreachable(path):
        what = ": there is no such file" if fault == MISSING else f" {fault}"
        raise UserError(
            f"--control_tile {path}{what}; expected a ControlNet for tiles; check the path"
        )
    if is_folder(path):
        return ""
    try:
        return file_hash(path)
    except ERRORS as error:
        raise UserError(
            f"--control_tile {path} cannot be read ({reason(error)}); expected a ControlNet "
            "for tiles; check the file"
        ) from error
