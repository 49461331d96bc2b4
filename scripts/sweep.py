"""Compare settings: a picture for each combination, on a sheet with labels and in a table.

Example:
    python scripts/sweep.py --prompt "a red apple" --x "scale: 2-8 [4]" --y "seed: 1-3"
"""

import os
import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # see ldm/programs/interrupts.py

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ldm.programs.start import leave
from ldm.programs.sweeping import SweepProgram


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    return SweepProgram("Compare settings: a picture for each combination of them.").main(argv)


if __name__ == "__main__":
    leave(main())
