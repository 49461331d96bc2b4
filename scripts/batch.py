"""Draw a whole file of jobs, by any number of workers; go on where an earlier run stopped.

Example:
    python scripts/batch.py prompts.txt --out pictures --workers 2
"""

import os
import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # see ldm/programs/interrupts.py

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ldm.programs.batch import BatchProgram
from ldm.programs.start import leave


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    return BatchProgram("Draw the pictures that a file of jobs asks for.").main(argv)


if __name__ == "__main__":
    leave(main())
