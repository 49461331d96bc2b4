"""List a folder's pictures, in the same order on every machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ldm.errors import UserError

PICTURE_ENDINGS = frozenset(
    (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".avif")
)
"""In lower case; files may have them in any case."""


def picture_files(root: str | Path) -> list[str]:
    """List the pictures under a folder.

    Args:
        root: The folder; subfolders are searched too, symbolic links included. Names that begin
            with a dot are skipped: they are other programs' thumbnails.

    Returns:
        Paths relative to ``root`` with "/" between their parts, sorted.

    Raises:
        UserError: There is no such folder.
    """
    return sorted(
        name for name in all_files(root) if os.path.splitext(name)[1].lower() in PICTURE_ENDINGS
    )


def all_files(root: str | Path) -> Iterator[str]:
    """Yield every file under a folder as a path relative to it, in no order.

    Raises:
        UserError: There is no such folder.
    """
    root = check_folder(root)
    seen: set[str] = set()  # a link to a parent folder would make an endless loop
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        folders[:] = [] if real in seen else [n for n in folders if not n.startswith(".")]
        if real in seen:
            continue
        seen.add(real)
        prefix = os.path.relpath(folder, root).replace(os.sep, "/")
        for name in names:
            if not name.startswith("."):
                yield name if prefix == "." else f"{prefix}/{name}"


def check_folder(root: str | Path) -> Path:
    """Return the path of a folder that exists.

    Raises:
        UserError: It does not.
    """
    path = Path(root).expanduser()
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise UserError(f"{path} {what}; expected a folder of pictures; check the path")
    return path


def check_file(path: str | Path, what: str) -> Path:
    """Return the path of a file that exists; ``what`` names the expected file in the message.

    Raises:
        UserError: It does not.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        how = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"{path} {how}; expected {what}; check the path")
    return path
