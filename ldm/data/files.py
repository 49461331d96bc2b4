"""List a folder's pictures, in the same order on every machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from ldm.errors import UserError
from ldm.images.opening import PICTURE_ENDINGS
from ldm.paths import at_home, file_fault, folder_fault, real_path, reason

logger = logging.getLogger(__name__)


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

    A subfolder that cannot be listed is left out with a warning.

    Raises:
        UserError: There is no such folder, or it cannot be listed.
    """
    root = check_folder(root)
    seen: set[str] = set()  # a link to a parent folder would make an endless loop
    for folder, folders, names in os.walk(root, onerror=_warn, followlinks=True):
        real = str(real_path(folder))
        folders[:] = [] if real in seen else [n for n in folders if not n.startswith(".")]
        if real in seen:
            continue
        seen.add(real)
        prefix = os.path.relpath(folder, root).replace(os.sep, "/")
        for name in names:
            if not name.startswith("."):
                yield name if prefix == "." else f"{prefix}/{name}"


def _warn(error: OSError) -> None:
    logger.warning("%s cannot be listed (%s) and is left out", error.filename, reason(error))


def check_folder(root: str | Path) -> Path:
    """Return the path of a folder that can be listed.

    Raises:
        UserError: It does not.
    """
    path = at_home(root)
    if fault := folder_fault(path):
        raise UserError(f"{path} {fault}; expected a folder of pictures; check the path")
    return path


def check_file(path: str | Path, what: str) -> Path:
    """Return the path of a file that can be read; ``what`` names the expected file in the message.

    Raises:
        UserError: It does not.
    """
    path = at_home(path)
    if fault := file_fault(path):
        raise UserError(f"{path} {fault}; expected {what}; check the path")
    return path
