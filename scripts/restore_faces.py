"""Redraw the faces in pictures: sharp where they were small, blurred or badly drawn.

Results are new files OUTDIR/NAME_00000.png; nothing is replaced. A picture without a face is copied
byte for byte.

Example:
    python scripts/restore_faces.py group.jpg --model models/faces/GFPGANv1.4.pth
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
from ldm.settings.faces import RestoreFacesSettings


def restore_faces(console: Console, settings: RestoreFacesSettings) -> None:
    """Redraw the faces of every picture and write it."""
    from ldm.programs.restoring import restore

    restore(console, settings)


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    left = "finished pictures are kept"
    return run_settings_program(RestoreFacesSettings, __doc__, restore_faces, argv, left=left)


if __name__ == "__main__":
    leave(main())
