"""Download one file over HTTP: resume a partial download, check it, put it in place complete.

Only ``scripts/download_models.py`` uses this; nothing else in the project touches the network.
Until the file is complete and checked, its bytes are in ``NAME.part`` beside the target, which one
run at a time writes to. A part is gone on with only where the whole can be checked by a digest, or
where the server says that the file is the one it began to send.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

from ldm.checkpoint.download.connection import Source
from ldm.checkpoint.download.transfer import Notice, Patience, Progress, Transfer, sha256_of
from ldm.errors import UserError
from ldm.paths import ERRORS, exists, file_size, is_at, reason, remove


def fetch(
    source: Source,
    target: Path,
    *,
    progress: Progress = lambda _done, _total: None,
    notice: Notice = lambda _text: None,
    patience: Patience = Patience(),  # noqa: B008 - frozen
) -> bool:
    """Download a file to ``target``; resume a partial download if there is one.

    Args:
        source: What to fetch.
        target: Where it goes; its folder is made.
        progress: Called after every block.
        notice: Told in a sentence what could not be checked.
        patience: See ``Patience``.

    Returns:
        False if the file was there already.

    Raises:
        UserError: Not allowed, not found, no connection, too slow, disk full, a different file
            than expected, another run that fetches it, or ``target`` exists and is something else.
    """
    part = target.with_name(f"{target.name}.part")
    if not exists(target):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except ERRORS as error:
            raise UserError(f"folder {target.parent} cannot be made ({reason(error)})") from error
        with _alone(part) as file:
            if not exists(target):  # another run may have put it there just now
                transfer = Transfer(source, part, file, progress)
                transfer.run(patience)
                transfer.check(target.name, notice)
                if os.name == "nt":
                    file.close()  # an open file cannot be renamed there
                os.replace(part, target)
                return True
    _check_present(source, target, notice)
    return False


def _check_present(source: Source, target: Path, notice: Notice) -> None:
    other = source.size not in (None, file_size(target))
    if other or (source.sha256 is not None and sha256_of(target) != source.sha256):
        raise UserError(
            f"{target} exists and is another file than {source.url}; it is left as it is; "
            "move it away, or name another folder with --dest"
        )
    if source.sha256 is None:
        checked = "it was not checked" if source.size is None else "only its size was checked"
        notice(f"{target.name} was there; no SHA-256 of it is published, {checked}")


@contextlib.contextmanager
def _alone(part: Path) -> Iterator[io.FileIO]:
    """Open a part to append to while no other run does; one that stays empty is removed.

    Raises:
        UserError: It cannot be opened, or another run has it.
    """
    while True:
        try:
            file = io.FileIO(part, "ab")
        except ERRORS as error:
            raise UserError(
                f"{part} cannot be written ({reason(error)}); expected a folder that can be "
                "written to; name another one with --dest"
            ) from error
        with file:
            _lock(file, part)
            if not is_at(file, part):  # what another run has just put in its place
                continue
            try:
                yield file
            finally:
                if (file.closed or is_at(file, part)) and file_size(part) == 0:
                    remove(part)
            return


def _lock(file: io.FileIO, part: Path) -> None:
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(
            f"{part} is being written by another run; expected one at a time; wait for it, or "
            "name another folder with --dest"
        ) from error
    except (ImportError, OSError):  # no locks on this system or this disk
        return
