"""Look at paths without raising, and say in words why a wanted one cannot be used.

``Path.exists`` and its relatives raise where the answer is only "not there": below a folder that
may not be entered, for a name that is too long, in a loop of links. What is optional is then
absent; what a user asked for is refused with the reason. Everything in the project that looks at
a path does so through this module.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import glob
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager as ContextManager
from pathlib import Path
from typing import IO

PathLike = str | os.PathLike[str]
ERRORS = (OSError, ValueError)
"""What looking at, opening or making a path raises; ValueError is a name that cannot be one."""

MISSING = "does not exist"


def exists(path: PathLike) -> bool:
    """Check whether something that can be reached is there; a broken link is nothing."""
    return _mode(path) is not None


def is_file(path: PathLike) -> bool:
    """Check whether an ordinary file is there, or a link to one."""
    mode = _mode(path)
    return mode is not None and stat.S_ISREG(mode)


def is_folder(path: PathLike) -> bool:
    """Check whether a folder is there, or a link to one."""
    mode = _mode(path)
    return mode is not None and stat.S_ISDIR(mode)


def _mode(path: PathLike) -> int | None:
    try:
        return os.stat(path).st_mode
    except ERRORS:
        return None


def first_file(candidates: Iterable[PathLike]) -> Path | None:
    """Return the first path that is a file; None if there is none."""
    return next((Path(each) for each in candidates if is_file(each)), None)


def listing(folder: PathLike, pattern: str = "*") -> list[Path]:
    """List what a folder holds, sorted by name; empty where it cannot be listed.

    Args:
        folder: The folder.
        pattern: As in a shell; the ending of a name may be in any case. Names that begin with a
            dot match "*".
    """
    try:
        names = os.listdir(folder)
    except ERRORS:
        return []
    return [
        Path(folder, name)
        for name in sorted(names)
        if fnmatch.fnmatchcase("".join(_lower_ending(name)), pattern)
    ]


def _lower_ending(name: PathLike) -> tuple[str, str]:
    stem, ending = os.path.splitext(name)
    return stem, ending.lower()


def matching(pattern: str) -> list[str]:
    """List the paths that match a pattern with ``*``, ``?`` or ``[...]``, sorted; may be none."""
    try:
        return sorted(glob.glob(pattern))
    except ERRORS:
        return []


def file_size(path: PathLike) -> int:
    """Return a file's length in bytes; 0 where there is none."""
    try:
        return os.stat(path).st_size
    except ERRORS:
        return 0


def modified(path: PathLike) -> float:
    """Return when a file was last written, in seconds since 1970; 0 where there is none."""
    try:
        return os.stat(path).st_mtime
    except ERRORS:
        return 0.0


def identity(path: PathLike) -> tuple[int, ...] | None:
    """Return what a file has in common with no other and with no other state of its own.

    Returns:
        Its length in bytes, when its content and its entry were last changed in nanoseconds since
        1970, its file system and its number there; None where there is none.
    """
    try:
        found = os.stat(path)
    except ERRORS:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_dev, found.st_ino


def is_at(file: IO, path: PathLike) -> bool:
    """Check whether an open file is the one that a path leads to now."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except ERRORS:
        return False


def real_path(path: PathLike) -> Path:
    """Return the absolute path behind all links; a path that cannot be followed stays as it is."""
    try:
        return Path(os.path.realpath(path))
    except ERRORS:
        return Path(path)


def at_home(path: PathLike) -> Path:
    """Return a path with its ``~`` replaced; unchanged where nobody knows a home folder."""
    return Path(os.path.expanduser(path))


def beside(path: PathLike, *names: str) -> list[Path]:
    """List files of given names in a path's folder and, for a link, in that of its target.

    A hub's cache holds links whose targets lie elsewhere, and people link a checkpoint into the
    folder of a program; what belongs to it may be in either place.

    Args:
        path: The file.
        *names: Names to look for, the preferred first; ``*`` stands for the file's own stem.

    Returns:
        Files that exist: those beside the path itself first.
    """
    places = dict.fromkeys((Path(path), real_path(path)))
    near = [
        other_case(each.parent, name.replace("*", each.stem)) for each in places for name in names
    ]
    return [each for each in dict.fromkeys(near) if each is not None]


def other_case(folder: PathLike, name: str) -> Path | None:
    """Find a file by its name, or by one that differs in the case of its ending alone.

    Returns:
        The file of that very name if there is one; else the first in order; None without any.

    Example:
        >>> other_case("docs", "notation.MD")
        PosixPath('docs/notation.md')
    """
    exact = Path(folder, name)
    if is_file(exact):
        return exact
    wanted = _lower_ending(exact.name)
    return first_file(each for each in listing(exact.parent) if _lower_ending(each.name) == wanted)


def file_fault(path: PathLike) -> str | None:
    """Say why a path cannot be read as a file, as the end of a sentence that begins with it.

    Returns:
        None if it can be read.

    Example:
        >>> file_fault("docs"), file_fault("docs/no"), file_fault("README.md/no")
        ('is a folder', 'does not exist', 'lies below README.md, which is no folder')
    """
    if is_file(path):
        return _refusal(open, path, "read")
    if is_folder(path):
        return "is a folder"
    return unreachable(path) or "is no ordinary file"


def folder_fault(path: PathLike) -> str | None:
    """Say why a folder cannot be listed, as ``file_fault`` does; None if it can."""
    if not is_folder(path):
        return unreachable(path) or "is a file"
    if not os.access(path, os.X_OK):
        return "may not be entered (no permission)"
    return _refusal(os.scandir, path, "listed")


def _refusal(act: Callable[[PathLike], ContextManager], path: PathLike, what: str) -> str | None:
    try:
        with act(path):
            return None
    except ERRORS as error:
        return f"cannot be {what} ({reason(error)})"


def writing_fault(folder: PathLike) -> str | None:
    """Say why no files can be written into a folder, which need not exist yet; None if they can.

    Leaves nothing behind. The words end a sentence that begins with the folder.
    """
    place = Path(folder)
    if not exists(place):
        fault = unreachable(place)
        if fault not in (None, MISSING):
            return f"cannot be written to (it {fault})"
        place = _nearest(place)
    try:
        with tempfile.TemporaryFile(dir=place):
            return None
    except ERRORS as error:
        above = "" if place == Path(folder) else f"{place}: "
        return f"cannot be written to ({above}{reason(error)})"


def file_writing_fault(path: PathLike) -> str | None:
    """Say why a file cannot be written under a name, as ``writing_fault`` does for a folder.

    What is no ordinary file, such as /dev/null, is never to be replaced by one.
    """
    fault = unreachable(path)
    if fault is None and not is_file(path):
        fault = "is a folder" if is_folder(path) else "is no ordinary file"
    if fault not in (None, MISSING):
        return f"cannot be written (it {fault})"
    above = writing_fault(Path(path).parent)
    return above and f"cannot be written (its folder {above})"


def room_fault(folder: PathLike, needed: int) -> str | None:
    """Say that a folder, which need not exist yet, has less room than is needed; None if it has.

    The words end a sentence that begins with what is to be written; ``needed`` is in bytes.
    """
    place = Path(folder)
    free = shutil.disk_usage(place if exists(place) else _nearest(place)).free
    if free >= needed:
        return None
    return f"needs {needed / 1e9:.2f} GB and {free / 1e9:.2f} GB are free there"


def remove(path: PathLike) -> None:
    """Delete a file if it is there and that is possible: for what an interrupted write left."""
    with contextlib.suppress(*ERRORS):
        os.unlink(path)


def unreachable(path: PathLike) -> str | None:
    """Say why nothing can be reached under a path; None if something can."""
    try:
        os.stat(path)
    except OSError as error:
        return _in_words(Path(path), error)
    except ValueError as error:
        return f"is no possible name ({reason(error)})"
    return None


def reason(error: Exception) -> str:
    """Return in a few words why a file could not be opened, made or written."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, UnicodeError):
        return "it has characters that file names cannot have"
    if "null" in str(error):  # "embedded null byte", "embedded null character"
        return "it holds a NUL character"
    return " ".join(str(error).split()) or type(error).__name__


def _in_words(path: Path, error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return _missing(path)
    if error.errno == errno.ENOTDIR:
        return f"lies below {_nearest(path)}, which is no folder"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"cannot be reached: {_nearest(path)} may not be entered (no permission)"
    if error.errno == errno.ENAMETOOLONG:
        return "has a name that is too long for the file system"
    if error.errno == errno.ELOOP:
        return "leads into a circle of links"
    return f"cannot be reached ({reason(error)})"


def _missing(path: Path) -> str:
    """Say of what does not exist whether a broken link is the cause."""
    for each in (path, *path.parents):
        if os.path.islink(each) and not exists(each):
            link = "is a broken link" if each == path else f"lies below the broken link {each}"
            return f"{link}: its target {os.readlink(each)} does not exist"
    return MISSING


def _nearest(path: Path) -> Path:
    """Return the nearest existing path above one, or above the target of a link."""
    place = real_path(path) if os.path.islink(path) else path
    return next((each for each in place.parents if exists(each)), Path())
