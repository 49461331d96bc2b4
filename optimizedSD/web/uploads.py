"""Pictures over HTTP: visitors' are taken into a folder, finished ones are handed out.

What a file is follows from its first bytes. Nothing else is taken or handed out, whatever its
name, and a visitor's name for a file is never used.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from ldm.atomic import replacing
from ldm.budgets import UPLOADS
from ldm.errors import UserError
from ldm.paths import file_size, is_file, listing, modified, real_path, remove

# The formats that are taken: extension, how its files begin, and its type if browsers show it.
_FORMATS = (
    ("png", rb"\x89PNG\r\n\x1a\n", "image/png"),
    ("jpg", rb"\xff\xd8\xff", "image/jpeg"),
    ("webp", rb"RIFF....WEBP", "image/webp"),
    ("gif", rb"GIF8[79]a", "image/gif"),
    ("bmp", rb"BM.{4}\0\0\0\0", "image/bmp"),
    ("avif", rb"....ftypavi[fs]", "image/avif"),
    ("tiff", rb"II[*+]\0|MM\0[*+]", ""),
    ("ppm", rb"P[1-6]\s", ""),
)
_SHOWN = {f".{extension}" for extension, _, shown in _FORMATS if shown} | {".jpeg"}
_HEAD = 16  # bytes that tell a format
_NAME = re.compile(r"[0-9a-f]{64}\.[a-z]{3,4}")


class Uploads:
    """A folder of uploaded pictures; the oldest are deleted when they are too many.

    Args:
        folder: Where they go; made if missing.
        most: Bytes of all of them together.
    """

    def __init__(self, folder: Path, most: int = UPLOADS) -> None:
        self.folder, self._most = folder, most
        self._writing = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)

    def take(self, file: IO[bytes]) -> Path:
        """Copy a picture into the folder; the same one twice is one file.

        Raises:
            UserError: It is no picture of a format that is read.
        """
        kind = _kind(file.read(_HEAD))
        if kind is None:
            names = ", ".join(extension for extension, _, _ in _FORMATS)
            raise UserError(f"what was uploaded is no picture; expected one of: {names}")
        file.seek(0)
        digest = hashlib.sha256()
        while chunk := file.read(2**20):
            digest.update(chunk)
        path = self.folder / f"{digest.hexdigest()}.{kind[0]}"
        file.seek(0)
        with self._writing:
            with replacing(path) as part, part.open("wb") as out:
                shutil.copyfileobj(file, out)
            self._forget_oldest(path)
        return path

    def holds(self, path: str) -> bool:
        """Return whether a path is that of a picture in the folder."""
        folder, name = os.path.split(path)
        known = folder == str(self.folder) and _NAME.fullmatch(name) is not None
        return known and is_file(path)

    def _forget_oldest(self, newest: Path) -> None:
        files = sorted(listing(self.folder), key=modified)
        left = sum(map(file_size, files))
        for path in files:
            if left > self._most and path != newest:
                left -= file_size(path)
                remove(path)


def shown_picture(path: str, folders: Iterable[str | Path]) -> tuple[Path, str] | None:
    """Find a picture that a browser may show.

    Args:
        path: What was asked for.
        folders: Those whose pictures are handed out, at any depth: none that is hidden, and none
            outside that a link leads to.

    Returns:
        The file, and its media type; None if there is no such picture.
    """
    real = real_path(path)
    below = (_parts_below(real, real_path(folder)) for folder in folders)
    if not any(parts and not any(part.startswith(".") for part in parts) for parts in below):
        return None
    if real.suffix.lower() not in _SHOWN or not is_file(real):
        return None
    with real.open("rb") as file:
        kind = _kind(file.read(_HEAD))
    return (real, kind[1]) if kind and kind[1] else None


def _parts_below(path: Path, folder: Path) -> tuple[str, ...]:
    """Return the parts of a path below a folder; none if it is not in there."""
    return path.relative_to(folder).parts if path.is_relative_to(folder) else ()


def _kind(head: bytes) -> tuple[str, str] | None:
    """Return the extension and the media type of a picture that begins so; None if none does."""
    for extension, begins, shown in _FORMATS:
        if re.match(begins, head, re.DOTALL):
            return extension, shown
    return None
