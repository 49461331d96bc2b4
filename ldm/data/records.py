"""Read the lines of a JSONL file that name pictures and captions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from ldm.data.caption_texts import joined
from ldm.data.skipping import logger
from ldm.errors import UserError

PICTURE_KEYS = ("file_name", "image", "path")
CAPTION_KEYS = ("text", "caption", "prompt")
_SHOWN = 5


class Record(NamedTuple):
    """A picture's path as written in the file, and its captions as ``joined`` returns them."""

    picture: str
    texts: str


def read_records(path: Path) -> list[Record]:
    """Read a JSONL file; give one warning for all bad lines. Blank lines are ignored.

    Raises:
        UserError: No line can be used.
    """
    records, bad, lines = [], [], 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            lines += 1
            try:
                records.append(parse_record(line.decode("utf-8-sig")))
            except ValueError as error:  # bad UTF-8 and bad JSON are ValueErrors too
                bad.append(f"line {number} ({error})")
    if bad:
        shown = "; ".join(bad[:_SHOWN]) + ("; ..." if len(bad) > _SHOWN else "")
        if not records:
            raise UserError(
                f"{path}: none of {lines} lines can be used: {shown}; expected objects such as "
                '{"file_name": "a.jpg", "text": "a cat"}, one a line'
            )
        logger.warning("%s: %d of %d lines are left out: %s", path, len(bad), lines, shown)
    return records


def parse_record(line: str) -> Record:
    """Read one line.

    Raises:
        ValueError: It is not a JSON object with a picture and a caption.
    """
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg}") from error
    if not isinstance(entry, dict):
        raise ValueError("not an object")
    picture = _first(entry, PICTURE_KEYS)
    if not isinstance(picture, str) or not picture:
        raise ValueError(f"no picture under {', '.join(PICTURE_KEYS)}")
    texts = joined(_first(entry, CAPTION_KEYS))
    if texts is None:
        raise ValueError(f"no caption under {', '.join(CAPTION_KEYS)}")
    return Record(picture, texts)


def _first(entry: dict, keys: tuple[str, ...]):
    return next((entry[key] for key in keys if key in entry), None)
