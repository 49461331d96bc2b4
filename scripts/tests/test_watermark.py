"""Print the invisible watermark of a picture file, or "null" where there is none.

Exit code: 0 when a watermark was found, 1 when not, 2 when the file cannot be read.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # runs from a checkout, uninstalled

from ldm.arguments import ArgumentParser
from ldm.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; see the module's description for its exit codes."""
    parser = ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("file", help="a PNG or JPEG picture")
    try:
        options = parser.parse_args(argv)
        text = _read(options.file)
    except UserError as error:
        print(f"test_watermark: {error}", file=sys.stderr)
        return 2
    print("null" if text is None else text)
    return 1 if text is None else 0


def _read(path: str) -> str | None:
    import numpy as np

    from ldm.images.io import open_image
    from ldm.safety.watermark import read_watermark

    # As stored: an EXIF orientation must not turn the blocks that carry the bits.
    return read_watermark(np.asarray(open_image(path).convert("RGB")))


if __name__ == "__main__":
    sys.exit(main())
