"""Find a diffusers folder's files (weights, our own extra file) and read its JSON. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ldm.budgets import JSON_BYTES
from ldm.errors import UserError
from ldm.paths import is_file, listing, reason

Json = Mapping[str, Any]

INDEX = "model_index.json"
# A safetensors file for what a checkpoint holds and the folder's own files have no place for.
KEPT = "compvis.safetensors"
STEMS = {
    "unet": ("diffusion_pytorch_model",),
    "vae": ("diffusion_pytorch_model",),
    "text_encoder": ("model", "pytorch_model"),
}
# transformers' classes over a sentencepiece vocabulary, and the files that they read; the first two
# of those hold the vocabulary.
T5_CLASSES = ("T5Tokenizer", "T5TokenizerFast")
SENTENCEPIECE, FAST = "spiece.model", "tokenizer.json"
TOKEN_NAMES = ("special_tokens_map.json", "tokenizer_config.json")
TOKENIZER_FILES = (SENTENCEPIECE, FAST, *TOKEN_NAMES, "added_tokens.json")
KINDS = ("safetensors", "bin")
VARIANTS = ("", ".fp16")


def is_diffusers(path: str | Path) -> bool:
    """Check whether a path is a folder in diffusers' layout."""
    return is_file(Path(path) / INDEX)


def kept_names(folder: Path) -> set[str]:
    """Return the names of the tensors that a conversion kept beside the folder's own."""
    from safetensors import SafetensorError, safe_open

    if not is_file(folder / KEPT):
        return set()
    try:
        with safe_open(folder / KEPT, framework="numpy") as file:
            return set(file.keys())
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{folder / KEPT} cannot be read ({error}); expected what was kept when the folder "
            "was made; delete it to do without, or make the folder again"
        ) from error


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Read one of a folder's JSON files.

    Raises:
        UserError: It is missing, or not a JSON mapping.
    """
    try:
        read = parse_json(folder / name)
    except (OSError, ValueError) as error:
        raise UserError(
            f"folder {str(folder)!r}: {name} cannot be read ({reason(error)}); expected a whole "
            "diffusers folder; check the path or fetch the model again"
        ) from error
    if not isinstance(read, dict):
        raise UserError(
            f"folder {str(folder)!r}: {name} holds no mapping; expected a diffusers folder's; "
            "fetch the model again"
        )
    return read


def parse_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no JSON, or one of too many bytes or levels.
    """
    with path.open("rb") as file:
        content = file.read(JSON_BYTES + 1)
    if len(content) > JSON_BYTES:
        raise ValueError(f"more than {JSON_BYTES} bytes")
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("too many levels within one another") from error


def find_weights(path: Path, part: str) -> list[Path]:
    """List the files of a part's weights: one file, or the shards that an index names.

    Raises:
        UserError: There are none.
    """
    folder = path / part
    if found := weights_in(folder, STEMS[part]):
        return found
    names = f"{STEMS[part][0]}.safetensors"
    others = [f.name for f in listing(folder) if f.suffix.lower() in (".safetensors", ".bin")]
    instead = f" (there are {', '.join(others)})" if others else ""
    raise UserError(
        f"folder {str(path)!r} has no weights in {part}{instead}; expected {names}, its shards, "
        "its fp16 variant or a .bin file; fetch the model again"
    )


def weights_in(folder: Path, stems: Sequence[str]) -> list[Path]:
    """List the files of the weights that a folder holds itself, if it does; see ``find_weights``.

    Args:
        folder: The folder.
        stems: What their names may begin with, the preferred first.
    """
    for variant in VARIANTS:
        for kind in KINDS:
            for stem in stems:
                whole = folder / f"{stem}{variant}.{kind}"
                if is_file(whole):
                    return [whole]
                index = folder / f"{stem}.{kind}.index{variant}.json"
                if is_file(index):
                    return _shards(index)
    return []


def _shards(index: Path) -> list[Path]:
    """List an index's files, always beside the index: folders in its paths are ignored."""
    entries = read_json(index.parent, index.name).get("weight_map")
    if not isinstance(entries, dict) or not entries:
        raise UserError(
            f"index {str(index)!r} names no weights; expected a weight_map; fetch the model again"
        )
    names = sorted({Path(str(name)).name for name in entries.values()})
    return [index.parent / name for name in names]


class Source:
    """The JSON files of a folder; a wrong entry raises a UserError that names it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = {
            "unet": "unet/config.json",
            "vae": "vae/config.json",
            "text_encoder": "text_encoder/config.json",
            "scheduler": "scheduler/scheduler_config.json",
        }
        self.parts = {part: read_json(folder, name) for part, name in self.files.items()}

    def get(self, part: str, key: str, fallback: Any = None) -> Any:
        """Return an entry, or ``fallback`` where it is absent or null."""
        value = self.parts[part].get(key)
        return fallback if value is None else value

    def number(self, part: str, key: str, fallback: int | None = None) -> int:
        """Return an entry that is a whole number, 1 or more."""
        value = self.get(part, key, fallback)
        if type(value) is not int or value < 1:
            raise self.wrong(part, key, "a whole number, 1 or more")
        return value

    def numbers(self, part: str, key: str, count: int, fallback: int) -> int | list[int]:
        """Return an entry that is one whole number, 1 or more, or a list of ``count`` of them."""
        value = self.get(part, key, fallback)
        listed = value if isinstance(value, list) else [value]
        if any(type(n) is not int or n < 1 for n in listed) or len(listed) not in (1, count):
            raise self.wrong(part, key, f"a whole number, 1 or more, or {count} of them")
        return listed[0] if len(listed) == 1 else listed

    def widths(self, part: str) -> tuple[int, list[int]]:
        """Return the width of the first level, and each level's as a multiple of it."""
        widths = self.get(part, "block_out_channels")
        whole = isinstance(widths, list) and widths and all(type(w) is int for w in widths)
        if not whole or any(width % widths[0] for width in widths):
            raise self.wrong(part, "block_out_channels", "multiples of the first")
        return widths[0], [width // widths[0] for width in widths]

    def blocks(self, part: str, plain: tuple[str, str], attending: tuple[str, str]) -> list[bool]:
        """Return which levels have attention, finest first; both halves must agree.

        Args:
            part: ``unet`` or ``vae``.
            plain: Names of the blocks without attention, down and up.
            attending: Names of those with it.
        """
        found = []
        for half, without, with_it in zip(("down", "up"), plain, attending, strict=True):
            names = self.get(part, f"{half}_block_types")
            if not isinstance(names, list) or any(n not in (without, with_it) for n in names):
                raise self.wrong(part, f"{half}_block_types", f"{without} or {with_it} in a list")
            found.append([name == with_it for name in names])
        levels = len(self.widths(part)[1])
        if found[0] != found[1][::-1] or len(found[0]) != levels:
            raise self.wrong(part, "up_block_types", "down_block_types in reverse, one a level")
        return found[0]

    def check(self, part: str, fixed: Json) -> None:
        """Refuse entries whose value differs from the only one allowed."""
        for key, allowed in fixed.items():
            if self.get(part, key, allowed) != allowed:
                raise self.wrong(part, key, str(allowed))

    def wrong(self, part: str, key: str, expected: str) -> UserError:
        """Make the error for an entry that this project has no counterpart for."""
        return UserError(
            f"folder {str(self.folder)!r}: {self.files[part]} has {self.parts[part].get(key)!r} "
            f"for {key}; expected {expected}; this project's networks have no other"
        )
