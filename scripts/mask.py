"""Make masks of pictures for scripts/inpaint.py: white where to repaint.

By words, by colour, of what a picture is of, or of the background behind it.

Example:
    python scripts/mask.py photo.png --kind background --box 0.2,0.1,0.8,1
    python scripts/inpaint.py --init-img photo.png --mask photo_mask.png --prompt "a beach"
"""

from __future__ import annotations

import os
import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # see ldm/programs/interrupts.py

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ldm.programs.console import Console
from ldm.programs.start import leave, run_settings_program
from ldm.settings.masks import MaskProgramSettings


def mask(console: Console, settings: MaskProgramSettings) -> None:
    """Make the masks and write them."""
    from ldm.programs.masking import write_masks

    write_masks(console, settings)


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    left = "finished masks are kept"
    return run_settings_program(MaskProgramSettings, __doc__, mask, argv, left=left)


if __name__ == "__main__":
    leave(main())
