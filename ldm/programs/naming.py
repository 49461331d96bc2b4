"""How the files of a run are named: as in the reference, or by prompt and seed.

Imports nothing heavy, as programs choose their naming before they answer ``--help``.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ldm.paths import listing
from ldm.settings.language import Originals, as_typed

if TYPE_CHECKING:
    from ldm.pipelines.progress import Picture

LONGEST_SLUG = 120  # bytes; Linux allows 255 per name, Windows 260 characters for the whole path
GRID = "grid-{:04d}.png"

# Names that Windows reserves for devices, with any extension.
_DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$"}
_DEVICES |= {f"{port}{number}" for port in ("com", "lpt") for number in "0123456789¹²³"}
_HASHED = re.compile(r"-[0-9a-f]{10}$")


def numbered_after(path: Path) -> str:
    """Return the pattern of the files that are made from a picture: ``NAME_{:05d}``."""
    return path.stem.translate({ord("{"): "_", ord("}"): "_"}) + "_{:05d}"


class Naming(Protocol):
    """How ``OutputFolder`` names its files. Folders are relative to the run's."""

    def single(self, picture: Picture) -> tuple[str, str]:
        """Return a picture's folder and its file's pattern, with one field for the number."""

    def grid(self, picture: Picture) -> tuple[str, str]:
        """Return the folder and the pattern of the grid that a picture belongs to."""

    def folders(self, prompts: Sequence[str]) -> list[str]:
        """Return the folders that a run over ``prompts`` writes into."""

    def next_number(self, folder: Path) -> int:
        """Return the number of the next picture in a folder."""


class ReferenceNaming:
    """``samples/00000.png``, ... and ``grid-0000.png`` beside the folder."""

    def single(self, picture: Picture) -> tuple[str, str]:  # noqa: ARG002
        return "samples", "{:05d}.png"

    def grid(self, picture: Picture) -> tuple[str, str]:  # noqa: ARG002
        return "", GRID

    def folders(self, prompts: Sequence[str]) -> list[str]:  # noqa: ARG002
        return ["", "samples"]

    def next_number(self, folder: Path) -> int:
        from ldm.images.io import next_index  # NumPy and Pillow, which --help can do without

        return next_index(folder, "{:05d}.png")


class PromptNaming:
    """``<prompt slug>/seed_<seed>_00000.png``, ... and ``<prompt slug>/grid-0000.png``.

    Numbers continue within a folder, whatever the seeds are.

    Args:
        originals: Prompts that were translated, and what was typed, which names the folder.
    """

    def __init__(self, originals: Originals = ()) -> None:
        self._originals = originals

    def single(self, picture: Picture) -> tuple[str, str]:
        return self._slug(picture.prompt), f"seed_{picture.seed}_{{:05d}}.png"

    def grid(self, picture: Picture) -> tuple[str, str]:
        return self._slug(picture.prompt), GRID

    def folders(self, prompts: Sequence[str]) -> list[str]:
        return ["", *dict.fromkeys(map(self._slug, dict.fromkeys(prompts)))]

    def _slug(self, prompt: str) -> str:
        return slug(as_typed(prompt, self._originals))

    def next_number(self, folder: Path) -> int:
        names = [path.name for path in listing(folder)]
        numbers = [re.match(r"seed_[0-9]+_([0-9]{5,})\.", name) for name in names]
        return max((int(match[1]) for match in numbers if match), default=-1) + 1


def slug(prompt: str) -> str:
    """Return the folder name of a prompt of any language and length, for Linux and Windows.

    Letters stay as they are; white space and what file systems refuse become ``_``. A name that
    does not identify its prompt (because of that, of its length, or because Windows and macOS
    ignore case) ends in a hash: two prompts never share a folder.

    Returns:
        A name of at most ``LONGEST_SLUG`` bytes of UTF-8.

    Example:
        >>> slug("a photo of a cat"), slug("富士山")
        ('a_photo_of_a_cat', '富士山')
        >>> slug("AC/DC: live?")
        'AC_DC__live_-7be06d28fd'
    """
    name = _safe(prompt)
    if _says(name, prompt) and len(name.encode()) <= LONGEST_SLUG:
        return name
    digest = hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    kept = name.encode()[: LONGEST_SLUG - len(digest) - 1].decode("utf-8", "ignore")
    return f"{kept or 'empty'}-{digest}"


def _safe(prompt: str) -> str:
    """Replace what a file name may not contain, or not begin or end with."""
    composed = unicodedata.normalize("NFC", prompt)
    name = "".join("_" if _is_refused(letter) else letter for letter in composed)
    name = re.sub(r"^\.|\.$", "_", name)  # hidden on Linux, dropped on Windows
    return f"_{name}" if name.split(".")[0].rstrip("_").lower() in _DEVICES else name


def _is_refused(letter: str) -> bool:
    # Control characters, and lone surrogates from a damaged command line.
    kind = unicodedata.category(letter)
    return letter in '<>:"/\\|?*' or letter.isspace() or kind in ("Cc", "Cs")


def _says(name: str, prompt: str) -> bool:
    """Return whether a name identifies one prompt, even where case is ignored."""
    one_case = prompt.upper().casefold() == prompt
    return bool(name) and name.replace("_", " ") == prompt and one_case and not _HASHED.search(name)
