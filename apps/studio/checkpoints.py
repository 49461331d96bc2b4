"""The checkpoint menu: what lies in models/, as names that a visitor may choose.

A visitor names an entry of the menu and never a path. Files are described by their YAML; weights
are read when one is chosen, as everywhere: numbers alone, and no code. Imports no torch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ldm.checkpoint.diffusers.json_files import is_diffusers
from ldm.errors import UserError
from ldm.legible import quoted
from ldm.paths import file_size, is_file, real_path
from ldm.pipelines.models import ROOT, ModelChoice, find_model
from ldm.settings.generation import Txt2ImgSettings

# Where people put checkpoints: ours, AUTOMATIC1111's and ComfyUI's names.
FOLDERS = ("models/ldm", "models/Stable-diffusion", "models/checkpoints")
WEIGHTS = frozenset((".ckpt", ".safetensors"))
MOST, DEEPEST = 500, 4  # files of a menu, folders within folders
_STEMS = ("model", "last")  # names that say less than the folder's


@dataclass(frozen=True)
class Checkpoint:
    """An entry of the menu.

    Attributes:
        name: What the menu shows; no two are the same.
        path: The file, or the folder of diffusers.
        size: In bytes; of a folder 0.
    """

    name: str
    path: Path
    size: int = 0


def checkpoints_there(*besides: str | Path) -> list[Checkpoint]:
    """Return the menu, by name.

    Args:
        *besides: Checkpoints from elsewhere that belong on it, such as the command line's.
    """
    found: dict[Path, Path] = {}
    for path in [*map(Path, besides), *_in_folders()]:
        found.setdefault(real_path(path), path)
    stems = [_name(path) for path in found.values()]
    named = [
        Checkpoint(stem if stems.count(stem) == 1 else _longer(path), path, file_size(path))
        for stem, path in zip(stems, found.values(), strict=True)
    ]
    return sorted(named, key=lambda each: each.name.lower())


def checkpoint_named(name: str, *besides: str | Path) -> Checkpoint:
    """Return the entry of a name.

    Raises:
        UserError: The menu has none of that name.
    """
    menu = checkpoints_there(*besides)
    found = next((each for each in menu if each.name == name), None)
    if found is None:
        names = ", ".join(each.name for each in menu) or "nothing is there yet"
        raise UserError(
            f"model {quoted(name)} is not in the menu; expected one of: {names}; choose again, or "
            f"put the file into {FOLDERS[0]}"
        )
    return found


def described(entry: Checkpoint) -> ModelChoice:
    """Return which model an entry is, from its YAML alone.

    Raises:
        UserError: Its YAML is missing, names foreign code, or is of no kind that draws from words.
    """
    choice = find_model(Txt2ImgSettings(ckpt=str(entry.path)))
    if not choice.kind.takes_text or "neighbours" in choice.kind.walks:
        what, program = choice.kind.made_for(choice.inputs)
        raise UserError(
            f"model {quoted(entry.name)} is {what}; expected one that draws from words; use "
            f"{program}, or choose another"
        )
    return choice


def _in_folders() -> Iterator[Path]:
    places = dict.fromkeys(base / folder for folder in FOLDERS for base in (Path(), ROOT))
    seen = 0
    for place in places:
        for folder, folders, files in os.walk(place):
            here = Path(folder)
            deep = len(here.parts) - len(place.parts) >= DEEPEST
            whole = [name for name in sorted(folders) if is_diffusers(here / name)]
            yield from (here / name for name in whole)
            folders[:] = [] if deep else sorted({*folders} - {*whole} - _hidden(folders))
            for name in sorted(files):
                path = here / name
                if path.suffix.lower() in WEIGHTS and not name.startswith(".") and is_file(path):
                    yield path
                    seen += 1
            if seen > MOST:
                return


def _hidden(names: list[str]) -> set[str]:
    return {name for name in names if name.startswith(".")}


def _name(path: Path) -> str:
    """Return the file's name, or the folder's where that says more."""
    stem = path.stem if path.suffix.lower() in WEIGHTS else path.name
    return path.absolute().parent.name if stem in _STEMS else stem


def _longer(path: Path) -> str:
    return f"{path.absolute().parent.name}/{path.name}"
