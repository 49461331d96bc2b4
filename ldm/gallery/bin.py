"""The bin: pictures that are moved out of the gallery, and back; deleted only by ``empty``.

A folder's bin is ``.trash`` in it, so that moving copies nothing. What is in it lies as it lay in
the folder, below a number for each throw: ``.trash/1700000000000000000/samples/00001.png``.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from ldm.errors import UserError
from ldm.gallery.index import Gallery
from ldm.legible import quoted
from ldm.paths import ERRORS, is_file, listing, real_path, reason, remove

BIN = ".trash"
_NUMBER = re.compile(r"\d{1,20}")


@dataclass(frozen=True)
class Thrown:
    """A picture in the bin.

    Attributes:
        name: What ``restore`` is told.
        path: Where it is now.
        origin: Where it was.
        time: When it was thrown away, in seconds since 1970.
    """

    name: str
    path: Path
    origin: Path
    time: float


class Bin:
    """The bins of a gallery's folders.

    Args:
        gallery: What is thrown away has to be in it.
    """

    def __init__(self, gallery: Gallery) -> None:
        self.gallery = gallery

    def throw(self, path: str | Path) -> Thrown:
        """Move a picture into the bin.

        Raises:
            UserError: It is not in the gallery, or cannot be moved.
        """
        folder = self.gallery.folder_of(path)
        origin = self.gallery.inside(path)
        within = origin.relative_to(folder)
        if not self._is_own(folder / BIN, folder):
            raise _unmovable(origin, OSError(f"{folder / BIN} is a link to elsewhere"))
        number = time.time_ns()
        while True:
            place = folder / BIN / str(number) / within
            try:
                place.parent.mkdir(parents=True)
                break
            except FileExistsError:
                number += 1  # two throws at once
            except ERRORS as error:
                raise _unmovable(origin, error) from error
        _move(origin, place)
        return self._thrown(folder, str(number), within)

    def thrown(self) -> list[Thrown]:
        """Return what is in the bins, the latest first."""
        found = []
        for folder in self.gallery.folders:
            for place in listing(folder / BIN):
                if _NUMBER.fullmatch(place.name) and self._is_own(place, folder):
                    within = [each.relative_to(place) for each in _files_under(place)]
                    found += [self._thrown(folder, place.name, each) for each in within]
        return sorted(found, key=lambda each: (-each.time, each.name))

    def restore(self, name: str) -> Path:
        """Move a picture back to where it was; return its path.

        Args:
            name: As ``Thrown.name``.

        Raises:
            UserError: It is not in the bin, its place is taken, or it cannot be moved.
        """
        found = next((each for each in self.thrown() if each.name == name), None)
        if found is None:
            raise UserError(
                f"{quoted(name)} is not in the bin; expected one of what is shown there"
            )
        try:
            found.origin.parent.mkdir(parents=True, exist_ok=True)
        except ERRORS as error:
            raise _unmovable(found.path, error) from error
        _move(found.path, found.origin)
        _drop_empty(found.path.parent, self._bin_of(found))
        return found.origin

    def empty(self) -> int:
        """Delete what is in the bins for good; return how many pictures that were."""
        found = self.thrown()
        for each in found:
            remove(each.path)
            _drop_empty(each.path.parent, self._bin_of(each))
        return sum(not is_file(each.path) for each in found)

    def _thrown(self, folder: Path, number: str, within: Path) -> Thrown:
        number_of_folder = self.gallery.folders.index(folder)
        name = f"{number_of_folder}/{number}/{within.as_posix()}"
        return Thrown(name, folder / BIN / number / within, folder / within, int(number) / 1e9)

    def _bin_of(self, thrown: Thrown) -> Path:
        return self.gallery.folders[int(thrown.name.partition("/")[0])] / BIN

    def _is_own(self, place: Path, folder: Path) -> bool:
        """Return whether a place of the bin is in the folder itself: no link leads elsewhere."""
        return real_path(place) == real_path(folder) / place.relative_to(folder)


def _files_under(place: Path) -> list[Path]:
    """Return the files below a throw; links are not followed."""
    return [
        Path(folder, name)
        for folder, _, names in os.walk(place)
        for name in sorted(names)
        if is_file(Path(folder, name))
    ]


def _move(origin: Path, place: Path) -> None:
    """Move a file, but never over another one."""
    taken = UserError(
        f"{place} is there already; expected its place to be free, as nothing is ever replaced; "
        "move it away"
    )
    if os.path.lexists(place):
        raise taken
    linked = False
    try:
        try:
            os.link(origin, place, follow_symlinks=False)
            linked = True
        except FileExistsError as error:
            raise taken from error
        except OSError:  # a file system without hard links
            os.rename(origin, place)
        else:
            os.unlink(origin)
    except OSError as error:
        if linked:
            remove(place)
        raise _unmovable(origin, error) from error


def _unmovable(path: Path, error: Exception) -> UserError:
    return UserError(
        f"{path} cannot be moved ({reason(error)}); expected a folder that can be written to; "
        "check its permissions"
    )


def _drop_empty(folder: Path, top: Path) -> None:
    """Remove folders that are empty, from one upwards to the bin, which goes too."""
    while folder.is_relative_to(top):
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent
