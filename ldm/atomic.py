"""Write files and folders that appear complete or not at all, and clear up what killed runs left.

What is being written has a hidden name beside its place, ``.NAME.ldm-HOST-PID-RUN-N.part``, which
says who writes it. A killed run leaves it there; the next program that writes into that folder
removes it. Nothing else is ever removed: the name has to be of this form, and the process that it
names has to be dead (or, if it ran on another machine, the file a day old).

A folder cannot take another's place in one step. The older one steps aside as ``...old``, and comes
back if the run was killed before the newer one was in its place.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import itertools
import logging
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from ldm.paths import ERRORS, PathLike, file_size, is_file, is_folder

logger = logging.getLogger(__name__)

DAY = 86_400.0  # seconds
_FORM = re.compile(
    r"\.(?P<name>.+)\.ldm-(?P<host>[0-9a-f]{8})-(?P<pid>[0-9]{1,9})-(?P<run>[0-9a-f]{8})-[0-9]{1,9}"
    r"\.(?P<kind>part|old)",
    re.DOTALL,
)
_RUN = secrets.token_hex(4)  # an earlier process may have had this one's number; forks share it
_numbers = itertools.count()
_looked_into: set[Path] = set()


@contextlib.contextmanager
def replacing(path: PathLike) -> Iterator[Path]:
    """Yield a path to write to, and give what is written there its name if the block succeeds.

    Args:
        path: The file or folder; its parent folder is made. An existing one is replaced, but no
            folder by a file.

    Yields:
        A path in the same folder that does not exist yet.

    Raises:
        OSError: The folder cannot be made, or the name cannot be given.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_beside(path)
    try:
        yield part
        put_in_place(part, path)
    finally:
        discard(part)


def part_beside(path: Path) -> Path:
    """Return a name for a file while it is being written, after clearing its folder up once."""
    folder = path.parent.absolute()
    if folder not in _looked_into:
        _looked_into.add(folder)
        clear(folder)
    return _hidden(path, "part")


def is_hidden(path: Path) -> bool:
    """Check by its name whether this is something that a program is writing, or was."""
    return _FORM.fullmatch(path.name) is not None


def put_in_place(part: Path, path: Path) -> None:
    """Give a finished file or folder its name; what bore it is replaced.

    Raises:
        OSError: The name cannot be given; what bore it still does.
    """
    if not is_folder(path):
        os.replace(part, path)
        return
    if not is_folder(part):  # a folder, even an empty one, is more than a file's name
        raise IsADirectoryError(errno.EISDIR, "Is a folder", str(path))
    aside = _hidden(path, "old")
    os.replace(path, aside)
    try:
        os.replace(part, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.replace(aside, path)
        raise
    _drop(aside)


def discard(path: Path) -> None:
    """Remove a file, or a folder with all that is in it, if it is there and that is possible."""
    with contextlib.suppress(*ERRORS):  # below a plain file even asking raises
        if is_folder(path) and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def clear(folder: PathLike) -> None:
    """Remove what killed runs left in a folder, and bring back what one had put aside; say so."""
    removed: list[int] = []  # bytes of each
    for path, match in _hidden_in(Path(folder)):
        if not _abandoned(path, match):
            continue
        if match["kind"] == "old" and not os.path.lexists(path.with_name(match["name"])):
            _bring_back(path, path.with_name(match["name"]))
            continue
        size = _bytes_of(path)
        _drop(path)
        if not os.path.lexists(path.with_suffix(".part")):
            removed.append(size)
    if removed:
        size = sum(removed) / 1e6
        logger.warning("removed from %s what killed runs left there, %.1f MB", folder, size)


def _hidden_in(folder: Path) -> Iterator[tuple[Path, re.Match[str]]]:
    """List what is hidden in a folder in this module's way, in the order of names."""
    try:
        names = os.listdir(folder)
    except ERRORS:
        return
    for match in sorted(filter(None, map(_FORM.fullmatch, names)), key=lambda match: match.string):
        yield folder / match.string, match


def _hidden(path: Path, kind: str) -> Path:
    # A name of 255 bytes leaves no room for more; only what steps aside needs its whole name.
    name = path.name if kind == "old" else path.name[:50]
    mark = f"{_host()}-{os.getpid()}-{_RUN}-{next(_numbers)}"
    return path.with_name(f".{name}.ldm-{mark}.{kind}")


def _drop(path: Path) -> None:
    """Remove what has been replaced; half of it is never taken for what could be brought back."""
    part = path.with_suffix(".part")
    with contextlib.suppress(OSError):
        os.replace(path, part)
    discard(part)


def _bring_back(aside: Path, path: Path) -> None:
    try:
        os.rename(aside, path)
    except OSError:  # another program was faster
        return
    logger.warning("%s is back: a run was killed while it replaced it", path)


@functools.cache
def _host() -> str:
    """Name the machine, and the container, within which a process's number means something."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux
        space = ""
    return hashlib.sha256(f"{platform.node()} {space}".encode()).hexdigest()[:8]


def _abandoned(path: Path, match: re.Match[str]) -> bool:
    """Check whether nobody writes to a part any more."""
    pid = int(match["pid"])
    if (pid, match["run"]) == (os.getpid(), _RUN):
        return False
    if match["host"] == _host() and os.name == "posix":  # elsewhere asking would end the process
        return pid == os.getpid() or not _runs(pid)
    try:
        return time.time() - os.lstat(path).st_mtime > DAY
    except OSError:
        return False


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's
        return True
    return True


def _bytes_of(path: Path) -> int:
    """Return the bytes in a file or in all files below a folder."""
    below = (Path(root, name) for root, _, names in os.walk(path) for name in names)
    return file_size(path) if is_file(path) else sum(file_size(each) for each in below)
