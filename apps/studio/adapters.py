"""What lies in models/lora and models/embeddings, as a page shows it: names, words that wake them.

    adapters_there() -> Adapter("ink", "LoRA", words=("inkstyle",), ...)
    with_adapter("a cat", adapter) -> "a cat, inkstyle <lora:ink:1>"

Files are described by their headers and by what stands beside them (``ink.json`` of AUTOMATIC1111's
page, ``ink.civitai.info``); no weights are read. Imports no torch.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldm.budgets import JSON_BYTES
from ldm.checkpoint.safetensors_header import HeaderFault, read_header
from ldm.images.brackets import read_json
from ldm.images.opening import PICTURE_ENDINGS
from ldm.legible import legible, one_line
from ldm.paths import ERRORS, file_size, first_file, is_file
from ldm.pipelines.adapter_files import EMBEDDINGS, LORAS, Shelf, lora_file, on_shelf
from ldm.settings.tags import without_loras, written_loras

MOST_WORDS = 8  # of those that a file was trained with, the commonest
_LONGEST = 200  # characters of a word, a title or a note: files say what they like
_MARKS = '<>:"\n'  # what a name must not have to be written as a tag
# What training programs and web UIs call these things.
_TITLES = ("modelspec.title", "ss_output_name")
_TRIGGERS = ("modelspec.trigger_phrase", "trigger_words", "activation text", "trainedWords")
_NOTES = ("modelspec.description", "description", "notes", "ss_training_comment")
_BASES = ("ss_base_model_version", "sd version", "baseModel", "modelspec.architecture")


@dataclass(frozen=True)
class Adapter:
    """A LoRA or an embedding as a page shows it.

    Attributes:
        name: What a prompt calls it.
        kind: ``LoRA`` or ``embedding``.
        path: Its file or folder.
        title: What it calls itself; "" where that is its name, or nothing.
        words: Those that wake it, or that it was trained with, the most telling first.
        base: The models that it says it is for; "" where it does not say.
        note: What else it says of itself.
        weight: How strongly it should act.
        picture: A file that shows what it does; None without one.
    """

    name: str
    kind: str
    path: Path
    title: str = ""
    words: tuple[str, ...] = ()
    base: str = ""
    note: str = ""
    weight: float = 1.0
    picture: Path | None = None

    @property
    def writable(self) -> bool:
        """Whether a prompt can name it."""
        return not set(_MARKS) & set(self.name)

    @property
    def written(self) -> str:
        """What in a prompt calls it: a tag, or an embedding's name."""
        return f"<lora:{self.name}:{self.weight:g}>" if self.kind == LORAS.what else self.name


def adapters_there(words: str = "") -> list[Adapter]:
    """Return what is on the shelves, LoRAs first, by name.

    Args:
        words: All have to stand in a name, a title, a trigger word or a note, in any case.
    """
    found = [described(path, shelf) for shelf in (LORAS, EMBEDDINGS) for path in on_shelf(shelf)]
    once = {(each.kind, each.name): each for each in reversed(found)}
    wanted = words.lower().split()
    return [each for each in reversed(once.values()) if all(w in _said(each) for w in wanted)]


def described(path: Path, shelf: Shelf) -> Adapter:
    """Return what a file says of itself; one that says nothing readable still has its name.

    Args:
        path: The file, or a LoRA's folder.
        shelf: Where it lies.
    """
    name = path.stem if is_file(path) else path.name
    said = {**_of_header(lora_file(path)), **_beside(path)}
    title = _text(said, _TITLES)
    return Adapter(
        name=name,
        kind=shelf.what,
        path=path,
        title="" if title == name else title,
        words=_words(said),
        base=_text(said, _BASES),
        note=_text(said, _NOTES),
        weight=_weight(said.get("preferred weight")),
        picture=_picture_of(path),
    )


def with_adapter(prompt: str, adapter: Adapter) -> str:
    """Return a prompt that calls an adapter: its first trigger word, then its tag.

    What already stands in the prompt is not written again.

    Example:
        >>> ink = Adapter("ink", "LoRA", Path("ink.safetensors"), words=("inkstyle",))
        >>> with_adapter("a cat", ink)
        'a cat, inkstyle <lora:ink:1>'
    """
    text = prompt.strip()
    triggers = adapter.words[:1] if adapter.kind == LORAS.what else (adapter.name,)
    for word in triggers:
        if word.lower() not in text.lower():
            text = f"{text}, {word}" if text else word
    if adapter.kind == LORAS.what and not _calls(text, adapter.name):
        text = f"{text} {adapter.written}".strip()
    return text


def _calls(prompt: str, name: str) -> bool:
    """Return whether a prompt has the tag of a LoRA, at any scale."""
    named = (tag.strip("<>").split(":")[1] for tag in written_loras(prompt))
    return name.lower() in (each.strip().lower() for each in named)


def _said(adapter: Adapter) -> str:
    texts = (adapter.name, adapter.kind, adapter.title, adapter.base, adapter.note, *adapter.words)
    return "\n".join(texts).lower()


def _of_header(path: Path) -> Mapping[str, Any]:
    if path.suffix.lower() != ".safetensors":
        return {}  # a pickle is not opened to be shown
    try:
        said = read_header(path).get("__metadata__")
    except (HeaderFault, *ERRORS):
        return {}
    return said if isinstance(said, dict) else {}


def _beside(path: Path) -> Mapping[str, Any]:
    """Return what the files that other programs put beside it say."""
    said: dict[str, Any] = {}
    for ending in (".civitai.info", ".json"):
        file = path.with_name(f"{path.stem if is_file(path) else path.name}{ending}")
        if is_file(file) and file_size(file) <= JSON_BYTES:
            try:
                read = read_json(file.read_text(encoding="utf-8"))
            except (ValueError, *ERRORS):
                continue
            said |= read if isinstance(read, dict) else {}
    return said


def _picture_of(path: Path) -> Path | None:
    stem = path.stem if is_file(path) else path.name
    names = (f"{stem}{middle}{end}" for middle in (".preview", "") for end in _shown_endings())
    candidates = (path.with_name(name) for name in names)
    return first_file(each for each in candidates if each != path)


def _shown_endings() -> list[str]:
    return sorted(PICTURE_ENDINGS & {".png", ".jpg", ".jpeg", ".webp"})


def _text(said: Mapping[str, Any], keys: Iterable[str]) -> str:
    texts = (said.get(key) for key in keys)
    return next((_short(each) for each in texts if isinstance(each, str) and each.strip()), "")


def _short(text: str) -> str:
    return legible(one_line(text).strip(), _LONGEST)


def _words(said: Mapping[str, Any]) -> tuple[str, ...]:
    """Return trigger words: those that it names, else the commonest of its captions."""
    named = [word for key in _TRIGGERS for word in _split(said.get(key))]
    words = named or _commonest(said.get("ss_tag_frequency"))
    return tuple(dict.fromkeys(_short(word) for word in words))[:MOST_WORDS]


def _split(value: Any) -> Iterator[str]:
    texts = value if isinstance(value, list) else [value]
    for text in texts:
        if isinstance(text, str):
            parts = (part.strip() for part in without_loras(text).split(","))
            yield from filter(None, parts)


def _commonest(text: Any) -> list[str]:
    """Read kohya's counts of words: a mapping of folders, as JSON in a text."""
    try:
        folders = json.loads(text) if isinstance(text, str) else {}
    except (ValueError, RecursionError):
        return []
    counts: Counter[str] = Counter()
    for folder in folders.values() if isinstance(folders, dict) else ():
        for word, count in folder.items() if isinstance(folder, dict) else ():
            if type(count) is int and word.strip():
                counts[word.strip()] += count
    return [word for word, _ in counts.most_common(MOST_WORDS)]


def _weight(value: Any) -> float:
    """Return a file's own weight where it names a sensible one."""
    return float(value) if type(value) in (int, float) and 0 < abs(value) <= 4 else 1.0
