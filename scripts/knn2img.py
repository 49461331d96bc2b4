"""Draw pictures from a text prompt and its nearest neighbours in a picture database.

Example:
    python scripts/knn2img.py --prompt "a city at night" --use_neighbors --database artbench-baroque
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ldm.programs.retrieval import RetrievalProgram

DESCRIPTION = "Draw pictures from a text prompt and its nearest neighbours in a picture database."


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    return RetrievalProgram(DESCRIPTION).main(argv)


if __name__ == "__main__":
    sys.exit(main())
