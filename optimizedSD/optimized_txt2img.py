"""Draw pictures from a text prompt, on a device with little memory.

The model's four parts (text encoder, the UNet's two halves, autoencoder) take turns
on the device.

Example:
    python optimizedSD/optimized_txt2img.py --prompt "tabby cat:0.25 white duck:0.75" --seed 27
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
from ldm.settings.low_memory import LowMemoryTxt2ImgSettings


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    return DrawingProgram(
        LowMemoryTxt2ImgSettings,
        "Draw pictures from a text prompt, on a device with little memory.",
        by_prompt=True,
        log=RunLog("txt2img_logs.csv"),
    ).main(argv)


if __name__ == "__main__":
    leave(main())
