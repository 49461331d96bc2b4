"""Draw pictures from a text prompt and an init image.

Example:
    python scripts/img2img.py --prompt "a fantasy landscape" --init-img sketch.png --strength 0.8
"""

import os
import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # see ldm/programs/interrupts.py

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ldm.programs.drawing import DrawingProgram
from ldm.programs.start import leave
from ldm.settings.generation import Img2ImgSettings


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    description = "Draw pictures from a text prompt and an init image."
    return DrawingProgram(Img2ImgSettings, description).main(argv)


if __name__ == "__main__":
    leave(main())
