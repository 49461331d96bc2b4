"""What people think of pictures, in one SQLite file: thumbs, stars and notes.

A picture is known by the SHA-256 of its file, so that it may be moved and given a new name. Each
person has one opinion of it, which a later click changes. Several threads and processes may use a
file at once: every call opens it anew, in SQLite's write-ahead mode.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ldm.digests import file_hash
from ldm.errors import UserError
from ldm.images.embed import encodable
from ldm.images.io import open_image
from ldm.images.recipes import read_recipe
from ldm.legible import quoted
from ldm.paths import ERRORS, exists, file_fault, reason

STARS = range(1, 6)
THUMBS = (-1, 0, 1)
LONGEST_NOTE = 2000  # characters
LONGEST_NAME = 100
_VERSION = 1
_PATIENCE = 10.0  # seconds to wait for another process
_TABLE = """
CREATE TABLE IF NOT EXISTS feedback (
    hash TEXT NOT NULL, person TEXT NOT NULL, time REAL NOT NULL, path TEXT NOT NULL,
    prompt TEXT NOT NULL, recipe TEXT NOT NULL,
    thumb INTEGER NOT NULL, stars INTEGER, note TEXT NOT NULL,
    PRIMARY KEY (hash, person))
"""
_COLUMNS = "hash, person, time, path, prompt, recipe, thumb, stars, note"


@dataclass(frozen=True)
class Opinion:
    """What one person thinks of one picture.

    Attributes:
        hash: SHA-256 of the picture's file.
        person: Who, "" for nobody in particular.
        time: When it was last changed, in seconds since 1970.
        path: Where the picture was then.
        prompt: What it was drawn from; "" where its file does not say.
        recipe: How it was made, as JSON of names and values; "{}" where its file does not say.
        thumb: 1 is up, -1 is down, 0 is neither.
        stars: 1 to 5; None is none given.
        note: In words.
    """

    hash: str
    person: str
    time: float
    path: str
    prompt: str
    recipe: str
    thumb: int = 0
    stars: int | None = None
    note: str = ""

    def verdict(self, min_stars: int) -> int:
        """Return 1 for good, -1 for bad, 0 for neither; a thumb counts before stars.

        Args:
            min_stars: How many stars are good; 2 and fewer are bad in any case.
        """
        if self.thumb or self.stars is None:
            return self.thumb
        return 1 if self.stars >= min_stars else -int(self.stars <= 2)


class FeedbackStore:
    """A file of opinions.

    Args:
        path: The file; it is made, and its folder too, with the first opinion.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def give(
        self,
        picture: str | Path,
        *,
        person: str = "",
        thumb: int | None = None,
        stars: int | None = None,
        note: str | None = None,
    ) -> Opinion:
        """Keep or change a person's opinion of a picture; return it as it is now.

        Args:
            picture: The picture's file.
            person: Who it is from.
            thumb: 1, -1 or 0; None leaves it as it is, and so with the others.
            stars: 1 to 5, or 0 to take them back.
            note: In words; "" takes it back.

        Raises:
            UserError: A value is out of range, or a file cannot be read or written.
        """
        _check(thumb, stars, note, person)
        path = Path(picture)
        self.check([path])
        recipe = _recipe_of(path)
        fixed = {"hash": file_hash(path), "person": encodable(person), "time": time.time()}
        fixed |= {"path": str(path.absolute()), "prompt": recipe.pop("prompt", "")}
        fixed["recipe"] = json.dumps(recipe, ensure_ascii=False)
        with self._open(write=True) as file:
            file.execute("BEGIN IMMEDIATE")  # what is read and then written is nobody else's
            before = self._one(file, fixed["hash"], fixed["person"])
            changed = Opinion(
                **{key: _stored(value) for key, value in fixed.items()},
                thumb=thumb if thumb is not None else before.thumb if before else 0,
                stars=(stars or None) if stars is not None else before.stars if before else None,
                note=encodable(note) if note is not None else before.note if before else "",
            )
            marks = ", ".join(f":{name}" for name in _COLUMNS.split(", "))
            file.execute(f"REPLACE INTO feedback ({_COLUMNS}) VALUES ({marks})", vars(changed))
            file.execute("COMMIT")
        return changed

    def of(self, picture: str | Path, person: str = "") -> Opinion | None:
        """Return a person's opinion of a picture; None if there is none.

        Raises:
            UserError: A file cannot be read.
        """
        if fault := file_fault(picture):
            raise UserError(f"picture {picture} {fault}; expected a picture's file; check the path")
        with self._open() as file:
            return None if file is None else self._one(file, file_hash(picture), encodable(person))

    def check(self, pictures: Iterable[str | Path]) -> None:
        """Check that files can be judged, before the first is.

        Raises:
            UserError: One is not there, or is no picture.
        """
        for path in pictures:
            if fault := file_fault(path):
                raise UserError(
                    f"picture {path} {fault}; expected a picture's file; check the path"
                )
            open_image(path)

    def opinions(self) -> list[Opinion]:
        """Return all opinions, the oldest first.

        Raises:
            UserError: The file cannot be read.
        """
        with self._open() as file:
            if file is None:
                return []
            rows = file.execute(f"SELECT {_COLUMNS} FROM feedback ORDER BY time, hash, person")
            return [Opinion(*row) for row in rows]

    def _one(self, file: sqlite3.Connection, digest: str, person: str) -> Opinion | None:
        found = f"SELECT {_COLUMNS} FROM feedback WHERE hash = ? AND person = ?"
        row = file.execute(found, (digest, person)).fetchone()
        return None if row is None else Opinion(*row)

    @contextmanager
    def _open(self, *, write: bool = False) -> Iterator[sqlite3.Connection | None]:
        """Yield a connection; None where nothing was ever written and nothing is to be."""
        try:
            if write:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            elif not exists(self.path):
                yield None
                return
            with closing(
                sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)
            ) as file:
                self._prepare(file)
                if write:
                    _keep_readers_free(file)
                yield file
        except (sqlite3.Error, *ERRORS) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(
                f"feedback in {self.path} cannot be kept or read ({reason(error)}); expected a "
                "SQLite file of ours in a folder that can be written to; give another one"
            ) from error

    def _prepare(self, file: sqlite3.Connection) -> None:
        (version,) = file.execute("PRAGMA user_version").fetchone()
        if version > _VERSION:
            raise UserError(
                f"feedback in {self.path} is of version {version}; expected {_VERSION} or less, as "
                "this program writes; use a newer program"
            )
        if version < _VERSION:
            file.execute("BEGIN EXCLUSIVE")
            file.execute(_TABLE)
            file.execute(f"PRAGMA user_version={_VERSION}")
            file.execute("COMMIT")


def _keep_readers_free(file: sqlite3.Connection) -> None:
    """Have readers wait for no writer from now on; where others are at work, a later call does."""
    if file.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        with suppress(sqlite3.OperationalError):
            file.execute("PRAGMA journal_mode=WAL")


def _check(thumb: int | None, stars: int | None, note: str | None, person: str) -> None:
    if thumb is not None and thumb not in THUMBS:
        raise UserError(f"thumb {quoted(thumb)} was given; expected 1, 0 or -1; change it")
    if stars is not None and stars not in (0, *STARS):
        raise UserError(f"stars {quoted(stars)} were given; expected 0 to 5; change them")
    for name, text, most in (("note", note or "", LONGEST_NOTE), ("name", person, LONGEST_NAME)):
        if len(text) > most:
            raise UserError(
                f"a {name} of {len(text)} characters was given; expected at most {most}; shorten it"
            )


def _recipe_of(path: Path) -> dict[str, str]:
    """Return how a picture was made; empty where its file does not say, or nobody understands."""
    try:
        found = read_recipe(path)
    except UserError:
        if fault := file_fault(path):
            raise UserError(f"picture {path} {fault}; check the path") from None
        return {}
    if found is None:
        return {}
    negative = {"negative_prompt": found.negative_prompt} if found.negative_prompt else {}
    return {"prompt": found.prompt, **negative, **found.entries}


def _stored(value: str | float) -> str | float:
    return encodable(value) if isinstance(value, str) else value
