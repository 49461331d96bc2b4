"""Opinions as a table, and the good pictures as a captioned folder that ``main.py`` trains on."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ldm.atomic import replacing
from ldm.digests import file_hash
from ldm.errors import UserError
from ldm.feedback.store import Opinion
from ldm.paths import ERRORS, exists, is_file, listing, reason, unreachable
from ldm.settings.tags import without_loras
from ldm.tables import write_table

_COLUMNS = ("time", "person", "thumb", "stars", "note", "path", "hash", "prompt", "recipe")
_NAME = 16  # digits of the hash in a file's name


@dataclass(frozen=True)
class Exported:
    """What became of the good pictures.

    Attributes:
        folder: Where they are.
        written: How many there are.
        gone: Paths of those that are no longer where they were, or have changed.
        unsaid: Paths of those whose files do not say a prompt.
    """

    folder: Path
    written: int
    gone: tuple[str, ...]
    unsaid: tuple[str, ...]


def write_csv(opinions: Iterable[Opinion], path: str | Path) -> int:
    """Write opinions as a table, a row for each; return how many there are.

    Raises:
        UserError: The file cannot be written.
    """
    return write_table(path, _COLUMNS, map(_row, opinions))


def _row(opinion: Opinion) -> dict[str, object]:
    moment = datetime.fromtimestamp(opinion.time).astimezone().isoformat(timespec="seconds")
    return {name: getattr(opinion, name) for name in _COLUMNS} | {"time": moment}


def good_ones(opinions: Iterable[Opinion], min_stars: int = 4) -> list[Opinion]:
    """Return an opinion of each picture that more people call good than bad.

    Args:
        opinions: All of them.
        min_stars: How many stars are good, where there is no thumb.

    Returns:
        The latest good opinion of each, in the order in which pictures were first judged.
    """
    by_picture: dict[str, list[Opinion]] = defaultdict(list)
    for each in opinions:
        by_picture[each.hash].append(each)
    return [
        max((each for each in given if each.verdict(min_stars) > 0), key=lambda each: each.time)
        for given in by_picture.values()
        if sum(each.verdict(min_stars) for each in given) > 0
    ]


def write_folder(good: Sequence[Opinion], folder: str | Path) -> Exported:
    """Copy pictures into a new folder, each with its prompt in a text file beside it.

    LoRA tags are left out of the prompts. The folder is what ``ldm.data.captions.CaptionedFolder``
    reads; it appears whole or not at all.

    Args:
        good: What to copy, as ``good_ones`` returns it.
        folder: A folder that is not there yet, or empty.

    Raises:
        UserError: The folder holds something, cannot be written, or there is nothing to write.
    """
    folder = Path(folder)
    if exists(folder) and (listing(folder) or is_file(folder)):
        raise UserError(
            f"folder {folder} holds something already; expected a new or an empty one, as nothing "
            "is ever replaced; give another one"
        )
    there = [each for each in good if _is_there(each)]
    said = [each for each in there if _caption(each)]
    gone = tuple(each.path for each in good if each not in there)
    unsaid = tuple(each.path for each in there if each not in said)
    if not said:
        raise UserError(
            f"none of {len(good)} good pictures can be trained on ({len(gone)} gone or changed, "
            f"{len(unsaid)} say no prompt); expected pictures as they were drawn; rate some first"
        )
    try:
        with replacing(folder) as part:
            part.mkdir()
            for each in said:
                stem = part / each.hash[:_NAME]
                shutil.copyfile(each.path, stem.with_suffix(Path(each.path).suffix.lower()))
                stem.with_suffix(".txt").write_text(_caption(each) + "\n", encoding="utf-8")
            notes = [{**vars(each), "recipe": json.loads(each.recipe)} for each in said]
            text = json.dumps(notes, ensure_ascii=False, indent=1)
            (part / "feedback.json").write_text(text, encoding="utf-8")
    except ERRORS as error:
        raise UserError(
            f"folder {folder} cannot be written ({reason(error)}); expected a place that can be "
            "written to; give another one"
        ) from error
    return Exported(folder, len(said), gone, unsaid)


def _is_there(opinion: Opinion) -> bool:
    try:
        return unreachable(opinion.path) is None and file_hash(opinion.path) == opinion.hash
    except ERRORS:
        return False


def _caption(opinion: Opinion) -> str:
    return " ".join(without_loras(opinion.prompt).split())
