"""Say which invisible watermark a picture file carries, or that it carries none.

Exit code: 0 when a watermark was found, 1 when not, 2 when the file cannot be read.
"""

import os
import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # see ldm/programs/interrupts.py

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # runs from a checkout, uninstalled

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ldm.legible import quoted
from ldm.programs.console import Console, exit_codes
from ldm.programs.start import read_flags
from ldm.settings.option import REQUIRED, Settings, max_pixels_option, option


@dataclass(frozen=True, kw_only=True)
class WatermarkSettings(Settings):
    """Settings of this program."""

    program: ClassVar[str] = "test_watermark"

    file: str = option(REQUIRED, "a PNG or JPEG picture", str, positional=True, metavar="FILE")
    max_pixels: int = max_pixels_option()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; see the module's description for its exit codes."""
    console = Console(WatermarkSettings.program, sys.stdout, sys.stderr)
    with exit_codes(console) as ending:
        settings = WatermarkSettings(**read_flags(WatermarkSettings, __doc__, argv))
        size, text = _read(settings.file)
        console.say(_in_words(settings.file, size, text))
        ending.code = 1 if text is None else 0
    return ending.code


def _in_words(path: str, size: tuple[int, int], text: str | None) -> str:
    if text is not None:
        return f"{path} carries the invisible watermark {quoted(text)}."
    from ldm.safety.watermark import Watermarker

    width, height = size
    why = "" if Watermarker().fits(height, width) else f": {width}x{height} is too small for one"
    return f"{path} carries no invisible watermark{why}."


def _read(path: str) -> tuple[tuple[int, int], str | None]:
    """Return a picture's width and height, and its watermark."""
    import numpy as np

    from ldm.images.io import open_image
    from ldm.safety.watermark import read_watermark

    # As stored: an EXIF orientation must not turn the blocks that carry the bits.
    image = open_image(path).convert("RGB")
    return image.size, read_watermark(np.asarray(image))


if __name__ == "__main__":
    sys.exit(main())
