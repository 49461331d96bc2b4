"""Show what a ControlNet would be given of a picture: its edges, its depth, its regions.

Example:
    python scripts/hint.py photo.png --kind canny --out edges.png
"""

from __future__ import annotations

import os
import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # see ldm/programs/interrupts.py

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ldm.errors import UserError
from ldm.paths import file_writing_fault
from ldm.programs.console import Console
from ldm.programs.start import run_settings_program
from ldm.settings.hints import HintProgramSettings


def hint(console: Console, settings: HintProgramSettings) -> None:
    """Make the hint and write it."""
    import numpy as np

    from ldm.hints.make import make_hint
    from ldm.images.io import load_image, save_picture

    if fault := file_writing_fault(settings.out):
        raise UserError(f"--out {settings.out} {fault}; give a file that can be written")
    picture = load_image(settings.image)
    made = make_hint(settings.kind, picture, **settings.options())
    saved = save_picture(np.asarray(made), settings.out, synthetic=False)
    console.say(f"{settings.image} -> {saved} ({settings.kind}, {made.width}x{made.height})")


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    return run_settings_program(HintProgramSettings, __doc__, hint, argv)


if __name__ == "__main__":
    sys.exit(main())
