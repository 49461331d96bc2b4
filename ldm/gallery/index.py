"""The pictures in output folders, found by words of their recipes; never a file outside them.

    Gallery(["outputs"]).find("cat -fog sampler:ddim") -> those with the first word and without the
    second whose recipe says that sampler, the newest first

Files are looked at, not watched: what another process writes or removes is there, or gone, the next
time. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ldm.data.files import picture_files
from ldm.errors import UserError
from ldm.images.opening import PICTURE_ENDINGS, opened
from ldm.images.recipes import Recipe, recipe_in
from ldm.legible import quoted
from ldm.paths import ERRORS, folder_fault, is_file, modified, real_path

if TYPE_CHECKING:
    from ldm.pipelines.request import Request

MOST_REMEMBERED = 20_000  # recipes of files that have not changed; one takes about 2 KB
MOST_WORDS = 50  # of a search
_WORD = re.compile(r'(-?)(?:(\w+):)?(?:"([^"]*)"|(\S+))')


@dataclass(frozen=True)
class Shown:
    """A picture of the gallery.

    Attributes:
        path: Its file.
        folder: Which of the gallery's folders it is in.
        time: When it was written, in seconds since 1970.
        recipe: How it was made; None where its file does not say, or nobody understands it.
    """

    path: Path
    folder: Path
    time: float
    recipe: Recipe | None

    @property
    def text(self) -> str:
        """What a search looks at: the file's name and all of the recipe, in lower case."""
        return "\n".join(f"{key}: {value}" for key, value in self.entries.items()).lower()

    @property
    def entries(self) -> dict[str, str]:
        """The parts of ``text`` by their names."""
        name = self.path.relative_to(self.folder).as_posix()
        if self.recipe is None:
            return {"file": name}
        texts = {"prompt": self.recipe.prompt, "negative": self.recipe.negative_prompt}
        return {"file": name, **texts, **self.recipe.entries}


class Gallery:
    """The pictures of some folders and their subfolders.

    Args:
        folders: Where programs write. Names that begin with a dot are left out, and so is what a
            link leads out of the folder to.
        aside: Names of folders in them that are left out likewise, such as one of copies.
    """

    def __init__(self, folders: Sequence[str | Path], aside: Collection[str] = ()) -> None:
        self.folders, self._aside = [Path(each).absolute() for each in folders], aside
        self._read: dict[tuple[Path, float], Recipe | None] = {}

    def find(self, words: str = "", *, start: int = 0, count: int = 50) -> tuple[list[Shown], int]:
        """Return a page of the pictures that a search finds, and how many it finds in all.

        Args:
            words: All have to be in the recipe or the file's name, in any case; "-word" must not
                be, "two words" in quotation marks stand together, and ``seed:42`` is looked for in
                that entry alone.
            start: The page's first, counted from 0, the newest first.
            count: How many there are on a page.
        """
        wanted = _conditions(words)
        files = sorted(self._files(), key=lambda each: (-each[2], each[0]))
        if not wanted:
            page = files[start : start + count]
            return [self._shown(*each) for each in page], len(files)
        found = [shown for each in files if _fits(shown := self._shown(*each), wanted)]
        return found[start : start + count], len(found)

    def inside(self, path: str | Path) -> Path:
        """Return a picture's path if it is one of the gallery's.

        Raises:
            UserError: It is outside of the folders, hidden, no picture, or not there.
        """
        absolute = Path(path).absolute()
        for folder in self.folders:
            if self._belongs(absolute, folder):
                return absolute
        raise UserError(
            f"{quoted(str(path))} is no picture of the gallery; expected one in "
            f"{', '.join(map(str, self.folders))}; choose one of those that are shown"
        )

    def folder_of(self, path: str | Path) -> Path:
        """Return which of the gallery's folders a picture is in.

        Raises:
            UserError: As ``inside``.
        """
        absolute = self.inside(path)
        return next(each for each in self.folders if self._belongs(absolute, each))

    def show(self, path: str | Path) -> Shown:
        """Return one picture.

        Raises:
            UserError: As ``inside``.
        """
        absolute = self.inside(path)
        return self._shown(absolute, self.folder_of(absolute), modified(absolute))

    def redraw(self, path: str | Path, **changes: object) -> Request:
        """Return what draws a picture again, to the bit where this project drew it.

        Args:
            path: The picture.
            **changes: Settings to draw it with instead, by name.

        Raises:
            UserError: As ``inside``, or its recipe does not suffice.
        """
        from ldm.pipelines.recipes import read_recipe
        from ldm.pipelines.request import prepare_from_flags

        file = self.inside(path)
        return prepare_from_flags(read_recipe(file).schema, {"from_image": str(file), **changes})

    def _files(self) -> list[tuple[Path, Path, float]]:
        """Return all pictures: the file, its folder, and when it was written."""
        found: dict[Path, tuple[Path, float]] = {}
        for folder in self.folders:
            if folder_fault(folder):
                continue  # nothing was drawn there yet
            for name in picture_files(folder):
                path = folder / name
                if path not in found and self._belongs(path, folder):
                    found[path] = folder, modified(path)
        return [(path, *rest) for path, rest in found.items()]

    def _belongs(self, path: Path, folder: Path) -> bool:
        try:
            parts = path.relative_to(folder).parts
        except ValueError:
            return False
        hidden = any(part.startswith(".") for part in parts)  # ".." too
        hidden = hidden or parts[:1] in [(name,) for name in self._aside]
        picture = path.suffix.lower() in PICTURE_ENDINGS
        inside = real_path(path).is_relative_to(real_path(folder))
        return bool(parts) and picture and inside and not hidden and is_file(path)

    def _shown(self, path: Path, folder: Path, time: float) -> Shown:
        key = path, time
        if key not in self._read:
            while len(self._read) >= MOST_REMEMBERED:
                self._read.pop(next(iter(self._read)))
            self._read[key] = _recipe_of(path)
        return Shown(path, folder, time, self._read[key])


def _recipe_of(path: Path) -> Recipe | None:
    """Read a picture's recipe from its header, without decoding it."""
    try:
        with opened(path) as image:
            return recipe_in(image, path)
    except (UserError, *ERRORS, SyntaxError):  # Pillow's word for a broken PNG
        return None


def _conditions(words: str) -> list[tuple[bool, str, str]]:
    """Return what a search asks for: whether it has to be there, in which entry, which text."""
    found = []
    for match in list(_WORD.finditer(words.lower()))[:MOST_WORDS]:
        minus, entry, phrase, word = match.groups()
        text = phrase if phrase is not None else word
        if text.strip():
            found.append((not minus, entry or "", text))
    return found


def _fits(shown: Shown, wanted: Sequence[tuple[bool, str, str]]) -> bool:
    return all(_says(shown, entry, text) == there for there, entry, text in wanted)


def _says(shown: Shown, entry: str, text: str) -> bool:
    if entry:
        named = {re.sub(r"\W", "", key.lower()): value for key, value in shown.entries.items()}
        if entry in named:
            return text in named[entry].lower()
        text = f"{entry}:{text}"  # such as a tag in a prompt
    return text in shown.text
