"""Repaint parts of pictures: what a mask marks is redrawn, and the rest stays exactly as it is.

Without --prompt, the hole is filled from its surroundings, as CompVis's inpaint.py does.

Example:
    python scripts/inpaint.py --indir pictures --outdir repainted
    python scripts/inpaint.py --prompt "a cat" --init-img room.png --mask chair.png
"""

import os
import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # see ldm/programs/interrupts.py

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ldm.programs.inpainting import InpaintProgram
from ldm.programs.start import leave

DESCRIPTION = (
    "Repaint parts of pictures: what a mask marks is redrawn, and the rest stays exactly as it is. "
    "Without --prompt, the hole is filled from its surroundings."
)


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    return InpaintProgram(DESCRIPTION).main(argv)


if __name__ == "__main__":
    leave(main())
