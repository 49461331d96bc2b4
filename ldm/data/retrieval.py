"""Databases of picture embeddings that retrieval searches: reading, writing, holding in memory.

A database is a folder of parts, ``*.npz`` with the arrays

    embedding  (n, D) float: CLIP's image embeddings
    name       (n,) text: the pictures' files, relative to their folder

and ``database.json``, which says what embedded them. The reference's databases, whose parts have
``img_id`` and ``patch_coords`` in place of ``name``, can be read too.

Shape legend: N pictures, n of them in a part, D width of an embedding.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ldm.atomic import replacing
from ldm.errors import UserError
from ldm.paths import ERRORS, at_home, folder_fault, is_file, is_folder, listing, reason

PART, RECORD = "part-{:05d}.npz", "database.json"


@dataclass(frozen=True)
class Embedder:
    """The model that embedded a database's pictures; queries must be embedded by the same.

    Attributes:
        clip_type: CLIP's architecture, such as ``ViT-L/14``.
        weights: Short hash of its weights.
    """

    clip_type: str
    weights: str


@dataclass(frozen=True, eq=False)
class RetrievalDatabase:
    """Embedded pictures.

    Attributes:
        embeddings: (N, D) float32, each of unit length.
        names: (N,) text: the pictures' files or numbers; empty if the parts have none.
        path: Where the database was read from.
        embedder: What embedded the pictures, if the folder says so.
    """

    embeddings: np.ndarray
    names: np.ndarray
    path: Path
    embedder: Embedder | None = None

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def width(self) -> int:
        """Width of an embedding, D."""
        return self.embeddings.shape[1]

    @classmethod
    def read(cls, path: str | Path) -> RetrievalDatabase:
        """Read a database: a folder of parts, or a single ``.npz``.

        Raises:
            UserError: nothing is found, a part is damaged, or its embeddings cannot be used.
        """
        path = at_home(path)
        files = part_files(path)
        parts = [_read_part(file) for file in files]
        widths = {embeddings.shape[1] for embeddings, _ in parts}
        if len(widths) > 1:
            raise UserError(
                f"database {path} has embeddings of {' and '.join(map(str, sorted(widths)))} "
                "numbers; expected one width; keep databases of different models apart"
            )
        names = [names for _, names in parts if len(names)]
        return cls(
            unit_length(np.concatenate([embeddings for embeddings, _ in parts]), f"{path}"),
            np.concatenate(names) if len(names) == len(parts) else np.empty(0, dtype=str),
            path,
            read_record(path) if is_folder(path) else None,
        )


def part_files(path: Path) -> list[Path]:
    """Return the files of a database, in order.

    Raises:
        UserError: there are none.
    """
    if is_file(path):
        return [path]
    files = listing(path, "*.npz")
    if not files:
        raise UserError(
            f"database {path} {folder_fault(path) or 'has no .npz files'}; expected a folder of "
            "embeddings; build one by `python scripts/train_searcher.py --database NAME "
            "--images FOLDER`"
        )
    return files


def _read_part(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the embeddings (n, D) of a part and the names (n,) or (0,) of its pictures."""
    try:
        with np.load(path, allow_pickle=False) as part:
            arrays = {key: part[key] for key in ("embedding", "name", "img_id") if key in part}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"database part {path} cannot be read ({error}); expected a whole .npz of numbers and "
            "text; build it again"
        ) from error
    embeddings = arrays.get("embedding")
    if embeddings is None or embeddings.ndim != 2 or embeddings.dtype.kind != "f":
        given = "no such array" if embeddings is None else f"{embeddings.dtype} {embeddings.shape}"
        raise UserError(
            f"database part {path} has as 'embedding' {given}; expected floats (n, D); "
            "give a database of CLIP embeddings"
        )
    names = arrays.get("name", arrays.get("img_id", np.empty(0)))
    if len(names) != len(embeddings):
        names = np.empty(0)
    return embeddings, names.astype(str)


def unit_length(embeddings: np.ndarray, what: str) -> np.ndarray:
    """Return embeddings (N, D) as float32 of unit length.

    Args:
        embeddings: Not modified.
        what: Where they come from, for messages.

    Raises:
        UserError: one is zero or not finite.
    """
    embeddings = embeddings.astype(np.float32)
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    bad = int((~np.isfinite(lengths) | (lengths == 0)).sum())
    if bad:
        raise UserError(
            f"{what}: {bad} of {len(embeddings)} embeddings are zero or not finite; expected "
            "directions; embed those pictures again"
        )
    embeddings /= lengths
    return embeddings


def read_record(folder: Path) -> Embedder | None:
    """Return what embedded a folder's pictures; None if the folder does not say.

    Raises:
        UserError: its record is damaged.
    """
    try:
        entries = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return Embedder(str(entries["clip_type"]), str(entries["weights"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder / RECORD} cannot be read ({error}); expected what embedded the database; "
            "build it again"
        ) from error


class DatabaseWriter:
    """Adds parts to a database's folder, each complete or not at all, so that building can resume.

    Args:
        folder: The database; made with its first part.
        embedder: What embeds the pictures.

    Raises:
        UserError: the folder holds a database of other embeddings, or a damaged one.
    """

    def __init__(self, folder: Path, embedder: Embedder) -> None:
        self.folder, self.embedder = folder, embedder
        files = listing(folder, "*.npz")
        there = read_record(folder) if files else None
        if files and there != embedder:
            by = "something unknown" if there is None else f"{there.clip_type} ({there.weights})"
            raise UserError(
                f"database {folder} was embedded by {by}, this is {embedder.clip_type} "
                f"({embedder.weights}); expected the same; give another --database"
            )
        self.names = {str(name) for file in files for name in _read_part(file)[1]}
        numbers = [int(file.stem[5:]) for file in files if file.stem[5:].isdecimal()]
        self._next = max(numbers, default=-1) + 1

    def add(self, embeddings: np.ndarray, names: Sequence[str]) -> None:
        """Write one part.

        Args:
            embeddings: (n, D) float.
            names: n files.

        Raises:
            UserError: the part cannot be written.
        """
        path = self.folder / PART.format(self._next)
        try:
            with replacing(self.folder / RECORD) as part:
                record = json.dumps(asdict(self.embedder), indent=1)
                part.write_text(record + "\n", encoding="utf-8")
            with replacing(path) as part, part.open("wb") as file:
                np.savez(file, embedding=embeddings.astype(np.float32), name=np.array(names, str))
        except ERRORS as error:
            raise UserError(
                f"database {self.folder} cannot be written ({reason(error)}); expected a "
                "folder with space; make room, or give another --database"
            ) from error
        self.names.update(names)
        self._next += 1
