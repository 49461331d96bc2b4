"""Draw pictures of a text with the diffusers library, from a diffusers folder on this machine.

Example:
    python optimizedSD/diffusers_txt2img.py --model FOLDER --prompt "a red apple" --offload model
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ldm.errors import UserError
from ldm.programs.drawing import PictureProgram
from optimizedSD.by_diffusers.settings import DiffusersSettings

if TYPE_CHECKING:  # these import NumPy and Pillow, which --help can do without
    from ldm.pipelines.batches import Batch
    from optimizedSD.by_diffusers.folder import DiffusersFolder

DESCRIPTION = "Draw pictures of a text with the diffusers library."


class Program(PictureProgram):
    """Text-to-image by the diffusers library."""

    def run(self, given: dict[str, Any]) -> None:
        self._draw(*self._prepare(given))

    def _prepare(
        self, given: dict[str, Any]
    ) -> tuple[DiffusersSettings, DiffusersFolder, list[Batch]]:
        from ldm.pipelines.batches import plan, read_prompts
        from ldm.programs.naming import PromptNaming
        from ldm.programs.output import OutputFolder
        from optimizedSD.by_diffusers.folder import DiffusersFolder

        settings = DiffusersSettings(**given).with_seed()
        settings.validate()
        folder = DiffusersFolder.read(settings.model)
        folder.check_steps(settings.ddim_steps)
        sides = {side: folder.side(f"--{side}", getattr(settings, side)) for side in ("H", "W")}
        settings = replace(settings, **sides)
        batches = plan(settings, prompts := read_prompts(settings))
        self.output = OutputFolder(settings.outdir, settings.format, PromptNaming())
        self.output.check(prompts)
        if {"prompt", "from_file"} <= given.keys():
            self.console.warn(f"--prompt is not used: the prompts come from {settings.from_file}")
        if find_spec("diffusers") is None:
            raise UserError(
                "the diffusers library is not installed; expected the extra of that name; "
                'run pip install -e ".[diffusers]"'
            )
        return settings, folder, batches

    def _draw(
        self, settings: DiffusersSettings, folder: DiffusersFolder, batches: list[Batch]
    ) -> None:
        os.environ["HF_HUB_OFFLINE"] = "1"  # read when the libraries are imported
        from ldm.pipelines.pipeline import resolve_device
        from ldm.pipelines.postprocess import Watermark
        from ldm.pipelines.request import LARGEST_GRID
        from optimizedSD.by_diffusers.drawing import Drawing, load

        device = resolve_device(settings.device)
        pipe = load(folder, settings, device)
        self.console.say(
            f"Seed {settings.seed} (per-image), {settings.sampler} in {settings.ddim_steps} "
            f"steps, {folder.path} on {device}."
        )
        drawing = Drawing(pipe, folder, settings, device, batches, self.console.observe)
        wants_grid = not settings.skip_grid and drawing.total <= LARGEST_GRID
        for picture in drawing.pictures():
            self.output.take(picture, save=not settings.skip_save, keep=wants_grid)
        if wants_grid:
            self.output.save_grids(settings.n_samples, Watermark(settings.format))


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code: 0, 2 for a user's error, 130 for Ctrl-C."""
    return Program(DiffusersSettings).main(DESCRIPTION, argv)


if __name__ == "__main__":
    sys.exit(main())
