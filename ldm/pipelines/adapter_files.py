"""Find adapters by path, or by name in their folders, and know their hashes. Imports no torch."""

from __future__ import annotations

import difflib
import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from ldm.checkpoint.safetensors_header import HeaderFault, read_header
from ldm.digests import remembered_hash
from ldm.errors import UserError
from ldm.images.opening import PICTURE_ENDINGS
from ldm.legible import quoted
from ldm.paths import (
    ERRORS,
    at_home,
    exists,
    file_size,
    first_file,
    identity,
    is_file,
    is_folder,
    real_path,
)
from ldm.pipelines.models import ROOT

WEIGHTS = frozenset((".safetensors", ".pt", ".bin", ".ckpt", ".pth"))
SHORT = 12
"""Digits of a hash as AUTOMATIC1111 writes those of LoRAs and embeddings."""
STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
"""Of the files of weights in a folder of diffusers or transformers."""
MOST_FILES, DEEPEST = 20_000, 8
"""How many files, and folders within folders, a shelf is looked through for."""
_NEAREST = 3


@dataclass(frozen=True)
class Shelf:
    """Where adapters of a kind lie.

    Attributes:
        what: What they are called.
        flag: Which names one.
        folder: Their usual place.
        endings: Of their files, in lower case.
        folders: Files by any of which a folder is one.
    """

    what: str
    flag: str
    folder: str
    endings: frozenset[str]
    folders: tuple[str, ...] = ()

    @property
    def one(self) -> str:
        """One of them, with its article."""
        return f"{'an' if self.what[0] in 'aeiou' else 'a'} {self.what}"

    @property
    def places(self) -> list[Path]:
        """The folder here, and that of the project."""
        return [each for each in dict.fromkeys((Path(self.folder), ROOT / self.folder))]


IN_LORA_FOLDERS = tuple(
    f"{name}{end}"
    for name in ("pytorch_lora_weights", "adapter_model")
    for end in (".safetensors", ".bin")
)
"""The files in folders that diffusers and peft write."""
LORAS = Shelf("LoRA", "--lora", "models/lora", WEIGHTS, IN_LORA_FOLDERS)
EMBEDDINGS = Shelf("embedding", "--embedding", "models/embeddings", WEIGHTS | PICTURE_ENDINGS)
CONTROLS = Shelf("control", "--control", "models/controlnet", WEIGHTS, ("config.json",))


def find_adapter(shelf: Shelf, named: str) -> Path:
    """Return the file that a flag names: at its path, or by its name on its shelf.

    Raises:
        UserError: There is none, or there are several.
    """
    given = at_home(named)
    if exists(given) or given.is_absolute():
        return given
    return find_named(shelf, named)


def find_named(shelf: Shelf, name: str, where: str | None = None) -> Path:
    """Return the file of a name on its shelf, and nothing outside of it.

    Args:
        shelf: Where to look.
        name: With or without its ending, and its sub-folder.
        where: What names it, for messages; the flag by default.

    Raises:
        UserError: There is none, or there are several.
    """
    said = where or f"{shelf.flag} {quoted(name)}"
    all_of_them = on_shelf(shelf)
    found = _matching(all_of_them, name)
    if len(found) == 1:
        return found[0]
    if found:
        several = ", ".join(quoted(_short_path(path, shelf)) for path in found[:_NEAREST])
        raise UserError(
            f"{said} may be {several}; expected the name of one; write its folder or ending too"
        )
    near = difflib.get_close_matches(name, [path.stem for path in all_of_them], n=_NEAREST)
    hint = f"; the nearest are {', '.join(map(quoted, near))}" if near else ""
    raise UserError(
        f"{said} is no file, and {shelf.folder} has no {shelf.what} of that name{hint}; expected "
        "one; check the name, or put the file there"
    )


def on_shelf(shelf: Shelf) -> list[Path]:
    """Return all adapters on a shelf, also in folders below it, in the order of names."""
    found: dict[Path, None] = {}
    for place in shelf.places:
        found |= dict.fromkeys(sorted(_below(place, shelf)))
    return list(found)


def _below(place: Path, shelf: Shelf) -> Iterator[Path]:
    seen = 0
    for folder, folders, files in os.walk(place, followlinks=True):
        folders.sort()
        for name in files:
            path = Path(folder, name)
            if _is_one(path, shelf):
                yield path
            seen += 1
        if shelf.folders:
            whole = [n for n in folders if is_whole(Path(folder, n), shelf)]
            yield from (Path(folder, name) for name in whole)
            folders[:] = [name for name in folders if name not in whole]
        if seen > MOST_FILES:
            return
        if len(Path(folder).parts) - len(place.parts) >= DEEPEST:  # links may lead in a circle
            folders.clear()


def is_whole(folder: Path, shelf: Shelf) -> bool:
    """Return whether a folder is an adapter by itself."""
    return any(is_file(folder / name) for name in shelf.folders)


def lora_file(path: Path) -> Path:
    """Return the file of a LoRA in a folder; any other path as it is."""
    return first_file(path / name for name in IN_LORA_FOLDERS) or path


def _is_one(path: Path, shelf: Shelf) -> bool:
    if path.name.startswith(".") or path.suffix.lower() not in shelf.endings:
        return False
    # Web UIs keep a picture of what a file draws beside it: name.preview.png, name.png.
    if path.suffix.lower() not in PICTURE_ENDINGS:
        return True
    others = (path.with_suffix(ending) for ending in WEIGHTS)
    return not path.stem.endswith(".preview") and not any(map(is_file, others))


def _matching(paths: list[Path], name: str) -> list[Path]:
    wanted = PureWindowsPath(name).parts  # separators of any system
    if not wanted or ".." in wanted or PureWindowsPath(name).is_absolute():
        return []
    for same in (_as_it_is, str.casefold):
        key = tuple(map(same, wanted))
        found = [path for path in paths if key in _names(path, len(key), same)]
        if found:
            return _once(found)
    return []


def _names(path: Path, parts: int, same: Callable[[str], str]) -> tuple[tuple[str, ...], ...]:
    """Return what a file may be called in so many parts: with its ending and without."""
    last = tuple(map(same, path.parts[-parts:]))
    stem = path.name if is_folder(path) else path.stem
    return last, (*last[:-1], same(stem))


def _as_it_is(text: str) -> str:
    return text


def _once(paths: list[Path]) -> list[Path]:
    """Leave out paths that lead to a file again, by a link or by the project's own folder."""
    return list({real_path(path): path for path in reversed(paths)}.values())[::-1]


def _short_path(path: Path, shelf: Shelf) -> str:
    for place in shelf.places:
        if path.is_relative_to(place):
            return path.relative_to(place).as_posix()
    return str(path)


def embeddings_called(texts: Iterable[str]) -> list[Path]:
    """Return the embeddings on their shelf whose names stand in texts as words."""
    from ldm.adapters.textual_inversion.words import Words

    names = {path.stem for path in on_shelf(EMBEDDINGS)}
    called = Words(names).called(texts) if names else []
    return [find_named(EMBEDDINGS, name, f"{quoted(name)} in a prompt") for name in called]


def lora_hashes(path: Path) -> list[str]:
    """Return a LoRA's short hashes: what AUTOMATIC1111 writes first, then other ways to count.

    It takes what a safetensors file says of itself, else the SHA-256 of the tensors' bytes; of
    other files the SHA-256 of the whole.
    """
    path = lora_file(path)
    return list(_lora_hashes(path, identity(path)))


def embedding_hash(path: Path) -> str:
    """Return an embedding's short hash: of its whole file."""
    return full_hash(path)[:SHORT]


def full_hash(path: Path) -> str:
    """Return the SHA-256 of a file, or of the weights in a folder of diffusers or transformers."""
    from ldm.checkpoint.diffusers.json_files import weights_in

    if is_folder(path):
        path = next(iter(weights_in(path, STEMS)), path / "config.json")
    return remembered_hash(path)


@functools.lru_cache(maxsize=64)
def _lora_hashes(path: Path, _state: tuple[int, ...] | None) -> tuple[str, ...]:
    with open(path, "rb") as file:
        start = file.read(9)
        length = int.from_bytes(start[:8], "little")
        if start[8:] != b"{" or 8 + length > file_size(path):
            return (remembered_hash(path)[:SHORT],)
        try:
            header = read_header(path)
        except (HeaderFault, *ERRORS):
            header = {}
        file.seek(8 + length)
        digest = hashlib.sha256()
        while part := file.read(2**20):
            digest.update(part)
    said = header.get("__metadata__") or {}
    own = str(said.get("sshs_model_hash", ""))[:SHORT]
    return tuple(dict.fromkeys(filter(None, (own, digest.hexdigest()[:SHORT]))))
