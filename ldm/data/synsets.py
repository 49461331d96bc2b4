"""ImageNet's classes: the number and name that belong to each folder (synset)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from ldm.data.files import check_file
from ldm.errors import UserError

SYNSET_FILE = Path(__file__).resolve().parents[2] / "data" / "imagenet_synsets.txt"
"""Lines ``n01440764 tench, Tinca tinca``; line k (from 0) is class k of ILSVRC 2012."""


@cache
def read_synsets(path: Path = SYNSET_FILE) -> Mapping[str, str]:
    """Read a list of classes, in their order: identifier -> name.

    Raises:
        UserError: There is no such file.
    """
    lines = check_file(path, "a list of classes, 'n01440764 tench' a line").read_text("utf-8")
    pairs = (line.split(maxsplit=1) for line in lines.splitlines() if line.strip())
    return {pair[0]: pair[-1].strip() for pair in pairs}


def chosen_classes(text: str, synsets: Mapping[str, str]) -> set[str]:
    """Return the identifiers of class numbers such as "0-9, 50-58, 100"; ranges are inclusive.

    Raises:
        UserError: It is not a list of class numbers.
    """
    names = list(synsets)
    chosen: set[str] = set()
    for part in str(text).replace(" ", "").split(","):
        first, _, last = part.partition("-")
        try:
            numbers = range(int(first), int(last or first) + 1)
            chosen.update(names[number] for number in numbers)
        except (ValueError, IndexError) as error:
            raise UserError(
                f"sub_indices {text!r}: {part!r} cannot be read; expected numbers from 0 to "
                f"{len(names) - 1} and ranges of them, as in '0-9, 50-58'"
            ) from error
    return chosen
