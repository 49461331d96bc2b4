"""Draw pictures from a text prompt with the diffusers library and a model folder in its layout.

Example:
    python optimizedSD/diffusers_txt2img.py --model FOLDER --prompt "a red apple" --offload model
"""

from __future__ import annotations

import os
import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # see ldm/programs/interrupts.py

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ldm.errors import UserError
from ldm.programs.drawing import PictureProgram
from ldm.programs.start import leave
from optimizedSD.by_diffusers.settings import DiffusersSettings

if TYPE_CHECKING:  # these import NumPy and Pillow, which --help can do without
    from collections.abc import Iterator

    from ldm.pipelines.progress import Picture

DESCRIPTION = "Draw pictures from a text prompt with the diffusers library."


class Program(PictureProgram):
    """Text-to-image by the diffusers library."""

    def prepare(self, given: dict[str, Any]) -> None:
        """Check the settings, read the folder's JSON files and plan the batches."""
        from ldm.pipelines.batches import plan, read_prompts
        from ldm.pipelines.known_words import EMPTY
        from ldm.pipelines.request import LARGEST_GRID
        from ldm.pipelines.translating import in_models_language
        from ldm.programs.naming import PromptNaming
        from ldm.programs.output import OutputFolder
        from optimizedSD.by_diffusers.folder import DiffusersFolder

        settings = DiffusersSettings(**given).with_seed()
        settings.validate()
        folder = DiffusersFolder.read(settings.model)
        folder.check_steps(settings.ddim_steps)
        sides = {side: folder.side(f"--{side}", getattr(settings, side)) for side in ("H", "W")}
        settings = replace(settings, **sides)
        # diffusers' Stable Diffusion has CLIP for its text encoder, which reads English.
        settings, prompts = in_models_language(settings, read_prompts(settings), ["en"])
        batches = plan(settings, prompts)
        naming = PromptNaming(settings.originals)
        self.output = OutputFolder(settings.outdir, settings.format, naming)
        self.output.check(prompts)
        if {"prompt", "from_file"} <= given.keys():
            self.console.warn(f"--prompt is not used: the prompts come from {settings.from_file}")
        if not all(map(str.strip, prompts)):
            self.console.warn(EMPTY)
        if find_spec("diffusers") is None:
            raise UserError(
                "the diffusers library is not installed; expected the extra of that name; "
                'run pip install -e ".[diffusers]"'
            )
        self.settings, self._folder, self._batches = settings, folder, batches
        total = sum(len(batch.prompts) for batch in batches)
        self.columns = settings.n_samples
        self.wants_grid = not settings.skip_grid and total <= LARGEST_GRID

    def pictures(self) -> Iterator[Picture]:
        """Load the folder's networks and return the pictures, drawn one batch after another."""
        os.environ["HF_HUB_OFFLINE"] = "1"  # read when the libraries are imported
        from ldm.pipelines.pipeline import resolve_device
        from ldm.pipelines.precision import settled
        from optimizedSD.by_diffusers.drawing import Run, load

        device, folder = resolve_device(self.settings.device), self._folder
        name, words = settled(self.settings.precision, device)
        if words:
            self.console.say(words)
        settings = self.settings = replace(self.settings, precision=name)
        pipe = load(folder, settings, device)
        self.console.say(
            f"Seed {settings.seed} (per-image), {settings.sampler} in {settings.ddim_steps} "
            f"steps, {folder.path} on {device}."
        )
        observer = self.console.observe
        return Run(pipe, folder, settings, device, self._batches, observer).pictures()


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code: 0, 2 for a user's error, 130 for Ctrl-C."""
    return Program(DiffusersSettings, DESCRIPTION).main(argv)


if __name__ == "__main__":
    leave(main())
