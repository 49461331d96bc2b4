"""Serve a web page that edits a picture by editing its prompt.

Example:
    python optimizedSD/swap_gradio.py --port 7860
"""

import os
import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # see ldm/programs/interrupts.py

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from optimizedSD.web.page import SWAP
from optimizedSD.web.server import run_page

DESCRIPTION = "Serve a web page that edits a picture by editing its prompt."


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    return run_page(SWAP, DESCRIPTION, argv)


if __name__ == "__main__":
    sys.exit(main())
