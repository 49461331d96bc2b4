"""Make a picture larger with any model that draws from text, tile by tile, without seams.

Example:
    python scripts/upscale_tile.py --init-img small.png --factor 4 --prompt "a fantasy landscape"
"""

import os
import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # see ldm/programs/interrupts.py

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ldm.programs.start import leave
from ldm.programs.tile_upscaling import TileUpscaleProgram


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    description = "Make a picture larger with any model that draws from text, in tiles, seamlessly."
    return TileUpscaleProgram(description).main(argv)


if __name__ == "__main__":
    leave(main())
