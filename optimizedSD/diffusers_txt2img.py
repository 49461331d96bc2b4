"""Draw pictures of a text with the diffusers library, from a diffusers folder on this machine.

Example:
    python optimizedSD/diffusers_txt2img.py --model FOLDER --prompt "a red apple" --offload model
"""

from __future__ import annotations

import os
import sys
import warnings
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ldm.errors import UserError
from ldm.pipelines.console import Console, ConsoleLog
from ldm.pipelines.parser import parse
from ldm.pipelines.program import INTERRUPTED, OK, USER_ERROR
from optimizedSD.diffusers_settings import DiffusersSettings

if TYPE_CHECKING:  # these import NumPy and Pillow, which --help can do without
    from ldm.pipelines.output import OutputFolder
    from ldm.pipelines.plan import Batch
    from optimizedSD.diffusers_folder import DiffusersFolder

DESCRIPTION = "Draw pictures of a text with the diffusers library."


class Program:
    """One run: what it shows and what it has written so far."""

    def __init__(self) -> None:
        self.console = Console(DiffusersSettings.program, sys.stdout, sys.stderr)
        self.output: OutputFolder | None = None

    def run(self, given: dict[str, Any]) -> None:
        """Draw what the command line asks for.

        Raises:
            UserError: what is wrong, told before torch is imported where that can be.
        """
        settings, folder, batches = self._prepare(given)
        self._draw(settings, folder, batches)
        self.console.close()
        written = self.output.summary()
        self.console.say(f"Written: {written}" if written else "Nothing was written, as asked.")

    def _prepare(
        self, given: dict[str, Any]
    ) -> tuple[DiffusersSettings, DiffusersFolder, list[Batch]]:
        from ldm.pipelines.naming import PromptNaming
        from ldm.pipelines.output import OutputFolder
        from ldm.pipelines.plan import plan, read_prompts
        from optimizedSD.diffusers_folder import DiffusersFolder

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
        from ldm.pipelines.finish import Marker
        from ldm.pipelines.generate import resolve_device
        from ldm.pipelines.job import LARGEST_GRID
        from optimizedSD.diffusers_drawing import Drawing, load

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
            self.output.save_grids(settings.n_samples, Marker(settings.format))

    def report_interruption(self) -> None:
        """Say what an interrupted run leaves behind."""
        written = self.output.summary() if self.output is not None else ""
        left = f"finished pictures are kept: {written}" if written else "nothing was written"
        self.console.fail(left, kind="stopped")


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code: 0, 2 for a user's error, 130 for Ctrl-C."""
    program = Program()
    try:
        with ConsoleLog(program.console), warnings.catch_warnings():
            if not sys.warnoptions:  # libraries' advice to programmers; python -W shows it
                warnings.simplefilter("ignore")
            program.run(parse(DiffusersSettings, DESCRIPTION, argv))
    except UserError as error:
        program.console.fail(str(error))
        return USER_ERROR
    except KeyboardInterrupt:
        program.report_interruption()
        return INTERRUPTED
    finally:
        program.console.close()
    return OK


if __name__ == "__main__":
    sys.exit(main())
