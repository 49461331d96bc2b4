"""Lists of wildcards: the text files of a folder, each with a template on every line. No torch.

    animals.txt, animals/cats.txt  ->  "animals", "animals/cats"  ->  their lines, read once

A name of a prompt is compared with the names of the files that are there; no path is made of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache
from pathlib import Path

from ldm.budgets import WILDCARD_BYTES, WILDCARD_DEPTH, WILDCARD_LISTS
from ldm.errors import UserError
from ldm.legible import quoted
from ldm.paths import ERRORS, file_size, folder_fault, identity, is_folder, listing, reason
from ldm.prompts.wildcards import Choice, Named, Options, Template, parse, read_weight

ENDING = ".txt"
_GLOB = frozenset("*?[")
_FOLDERS = 16  # within one another
_SHOWN = 10  # names that a message lists
_KEPT = 256  # lists that stay in memory


class Wildcards:
    """The lists below a folder.

    Args:
        folder: Where they are.

    Raises:
        UserError: It cannot be listed.
    """

    def __init__(self, folder: str | Path) -> None:
        if fault := folder_fault(folder):
            raise UserError(
                f"--wildcards {folder} {fault}; expected a folder of lists: text files with a "
                "choice on each line; check the path"
            )
        self.folder = Path(folder)
        self._known: dict[str, Options] = {}
        self._heights: dict[str, int] = {}

    @cached_property
    def files(self) -> dict[str, Path]:
        """The files by the names of their lists, which have "/" between folders.

        Raises:
            UserError: There are too many.
        """
        found: dict[str, Path] = {}
        for name, path in _files(self.folder):
            found.setdefault(name, path)
            if len(found) > WILDCARD_LISTS:
                raise UserError(
                    f"--wildcards {self.folder} holds more than {WILDCARD_LISTS} lists; expected "
                    "fewer; give one of its folders"
                )
        return found

    def __call__(self, name: str) -> Options:
        """Return the lines of a list, or of all whose names a pattern such as ``pets/*`` matches.

        A ``*`` stands for any letters, "/" included. A line that several lists have counts once.

        Raises:
            UserError: There is no such list, or one cannot be read.
        """
        if name not in self._known:
            self._known[name] = self._found(name)
        return self._known[name]

    def _found(self, name: str) -> Options:
        wanted = name.strip().replace("\\", "/")
        if wanted in self.files:
            names = [wanted]
        elif _GLOB & {*wanted}:
            names = [each for each in self.files if fnmatchcase(each, wanted)]
        else:
            names = []
        if not names:
            raise self._missing(wanted)
        if len(names) == 1:
            return _read(self.files[names[0]], names[0], identity(self.files[names[0]]))
        lines: dict[Template, float] = {}
        for each in names:
            own = _read(self.files[each], each, identity(self.files[each]))
            for template, weight in zip(own.templates, own.weights, strict=True):
                lines.setdefault(template, weight)
        return Options(tuple(lines), tuple(lines.values()))

    def _missing(self, name: str) -> UserError:
        near = _nearest(name, self.files)
        if near:
            expected, do = f"the name of one, such as __{near}__", "change it"
        else:
            there = [f"__{each}__" for each in self.files]
            shown = ", ".join(there[:_SHOWN]) + (" ..." if len(there) > _SHOWN else "")
            expected, do = shown or "a text file for each", "add the file"
        return UserError(
            f"the wildcard {quoted(f'__{name}__')} was given, and there is no list {name}{ENDING}; "
            f"expected {expected}; {do}"
        )

    def check(self, template: Template) -> None:
        """Check all that a template may ever draw, so that no seed fails where another does not.

        Raises:
            UserError: A list is missing, cannot be read, names itself, or they nest too deeply.
        """
        self._height(template, ())

    def _height(self, template: Template, above: tuple[str, ...]) -> int:
        """Return how many lists and braces are within one another at the most."""
        height = max((self._height_of(part, above) for part in template), default=0)
        if height > WILDCARD_DEPTH:
            raise UserError(
                f"the wildcards {_trail(above or ('prompt',))} hold more than {WILDCARD_DEPTH} "
                "lists or braces within one another; expected fewer; write some of them out"
            )
        return height

    def _height_of(self, part: str | Named | Choice, above: tuple[str, ...]) -> int:
        if isinstance(part, str):
            return 0
        if isinstance(part, Choice):
            return 1 + self._highest(part.options, above)
        name = part.name
        if name in above:
            raise UserError(
                f"the wildcards {_trail((*above[above.index(name) :], name))} name one another in "
                "a circle; expected an end; take one of the names out of its list"
            )
        if name not in self._heights:
            self._heights[name] = 1 + self._highest(self(name), (*above, name))
        return self._heights[name]

    def _highest(self, options: Options, above: tuple[str, ...]) -> int:
        if len(above) > WILDCARD_DEPTH:
            return WILDCARD_DEPTH + 1
        return max(self._height(each, above) for each in options.templates)


def _trail(names: Iterable[str]) -> str:
    return " → ".join(f"__{name}__" for name in names)


def _files(folder: Path, above: str = "", depth: int = 0) -> Iterator[tuple[str, Path]]:
    """Yield lists and their names, those of a folder before those of the folders in it."""
    there = [path for path in listing(folder) if not path.name.startswith(".")]
    folders = [path for path in there if is_folder(path)]
    for path in there:
        if path.suffix.lower() == ENDING and path not in folders:
            yield f"{above}{path.stem}", path
    for path in folders:
        if depth < _FOLDERS:
            yield from _files(path, f"{above}{path.name}/", depth + 1)


@lru_cache(maxsize=_KEPT)
def _read(path: Path, name: str, state: tuple[int, ...] | None) -> Options:  # noqa: ARG001
    """Read a list; ``state`` is what the file is recognised by once it is changed."""
    where = f"--wildcards: {name}{ENDING}"
    if file_size(path) > WILDCARD_BYTES:
        raise UserError(
            f"{where} has more than {WILDCARD_BYTES} bytes; expected a choice on each line; divide "
            "it into several lists"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except ERRORS as error:
        no_text = isinstance(error, UnicodeDecodeError)
        fault = "is not UTF-8" if no_text else f"cannot be read ({reason(error)})"
        raise UserError(f"{where} {fault}; expected a text file; mend it") from error
    templates, weights = [], []
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        weight, rest = read_weight(line)
        if weight > 0:
            templates.append(parse(rest, f"{where} line {number}"))
            weights.append(weight)
    if not templates:
        raise UserError(f"{where} holds no choice; expected one on each line; add some")
    return Options(tuple(templates), tuple(weights))


def _nearest(name: str, names: Iterable[str]) -> str:
    """Return the name that is most like another; one in a folder may be meant without it."""
    lower: dict[str, str] = {}
    for each in names:
        lower.setdefault(each.lower(), each)
        lower.setdefault(each.lower().rpartition("/")[2], each)
    near = get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
    return lower[near[0]] if near else ""
