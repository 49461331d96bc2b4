"""Draw pictures from a text prompt and an init image, on a device with little memory.

Example:
    python optimizedSD/optimized_img2img.py --prompt "a fantasy landscape" --init-img a.jpg
"""

import os
import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # see ldm/programs/interrupts.py

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ldm.programs.drawing import DrawingProgram
from ldm.programs.run_log import RunLog
from ldm.programs.start import leave
from ldm.settings.low_memory import LowMemoryImg2ImgSettings


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    return DrawingProgram(
        LowMemoryImg2ImgSettings,
        "Draw pictures from a text prompt and an init image, on a device with little memory.",
        by_prompt=True,
        log=RunLog("img2img_logs.csv"),
    ).main(argv)


if __name__ == "__main__":
    leave(main())
