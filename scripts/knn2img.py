"""Draw pictures from a text prompt and its nearest neighbours in a picture database.

Example:
    python scripts/knn2img.py --prompt "a city at night" --use_neighbors --database artbench-baroque
"""

import os
import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # see ldm/programs/interrupts.py

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ldm.programs.retrieval import RetrievalProgram
from ldm.programs.start import leave

DESCRIPTION = "Draw pictures from a text prompt and its nearest neighbours in a picture database."


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    return RetrievalProgram(DESCRIPTION).main(argv)


if __name__ == "__main__":
    leave(main())
