"""The controls that a picture's text records, for fields that a page fills: nothing is looked for.

    Control: ["canny=edges:photo.png:0.8:0:1"]      ours, with hashes beside it
    ControlNet 0: "Module: canny, Model: ..."       AUTOMATIC1111's extension

Imports no torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PureWindowsPath

from ldm.budgets import RECIPE_ENTRIES
from ldm.errors import UserError
from ldm.legible import legible
from ldm.pipelines.adapter_entries import (
    BOXES,
    CONTROL,
    CONTROL_HASHES,
    CONTROL_IMAGES,
    ENCODER,
    ENCODER_HASH,
    EXTENSION,
    MODE,
    MODES,
)
from ldm.pipelines.adapter_files import WEIGHTS
from ldm.settings.adapters import (
    CONTROL_MODES,
    NAMED_KINDS,
    PICTURE,
    PLAIN,
    REFERENCE,
    ControlWish,
    read_control,
)
from ldm.settings.hints import HINTS

OWN = frozenset((CONTROL, BOXES, MODE, CONTROL_HASHES, CONTROL_IMAGES, ENCODER, ENCODER_HASH))
# What the extension calls what we have, by how its names begin; most are the same.
_THEIRS = {
    "none": PLAIN,
    "hed": "softedge",
    "seg": "segmentation",
    "ip-adapter": PICTURE,
    "reference": REFERENCE,
    "pidinet": "softedge",
}
_MODES = {words.lower(): mode for mode, words in reversed(MODES.items())}
_LONGEST = 100  # letters of a name: pictures say what they like


@dataclass(frozen=True)
class RecordedControl:
    """What looked at a picture while another was drawn.

    Attributes:
        kind: What the picture was to it: a kind of ``--control``, or a name that is none here.
        file: Its file's name without folder and ending; empty for none.
        digits: The SHA-256 of its file; empty where it is not recorded.
        image: The name of the picture's file; empty where it is not recorded.
        scale: How strongly it acted.
        start: From which fraction of the steps on.
        end: Up to which.
        mode: Whose word counted more, of ``CONTROL_MODES``.
    """

    kind: str
    file: str
    digits: str = ""
    image: str = ""
    scale: float = 1.0
    start: float = 0.0
    end: float = 1.0
    mode: str = CONTROL_MODES[0]


def recorded_controls(
    entries: Mapping[str, str],
) -> tuple[tuple[RecordedControl, ...], frozenset[str]]:
    """Return a picture's controls, and the entries that say them.

    Args:
        entries: What the picture records. Those that cannot be read are not among the entries that
            are returned.
    """
    theirs = {key: entries[key] for key in sorted(entries) if EXTENSION.fullmatch(key)}
    if (own := _own(entries)) is not None:
        return own, frozenset(entries.keys() & OWN) | theirs.keys()
    read = {key: _of_extension(text) for key, text in theirs.items()}
    found = {key: control for key, control in read.items() if control is not None}
    return tuple(found.values()), frozenset(found)


def _own(entries: Mapping[str, str]) -> tuple[RecordedControl, ...] | None:
    """Return the controls of a picture of ours; None where it says none that can be read."""
    try:
        wishes = [read_control(text) for text in _texts(entries, CONTROL)]
        digits = [*_texts(entries, CONTROL_HASHES), *[""] * len(wishes)]
    except UserError:
        return None
    mode = entries.get(MODE, CONTROL_MODES[0])
    mode = mode if mode in CONTROL_MODES else CONTROL_MODES[0]
    made = tuple(_of_wish(wish, each, mode) for wish, each in zip(wishes, digits, strict=False))
    return made or None


def _of_wish(wish: ControlWish, digits: str, mode: str) -> RecordedControl:
    window = (wish.scale, wish.start, wish.end)
    image = legible(PureWindowsPath(wish.image).name, _LONGEST)
    return RecordedControl(wish.kind, _stem(wish.file), digits, image, *window, mode)


def _of_extension(text: str) -> RecordedControl | None:
    """Read one entry of the extension; None if it is none."""
    pairs = (each.partition(":") for each in text.split(","))
    said = {key.strip().lower(): value.strip() for key, _, value in pairs}
    if not {"module", "model"} <= said.keys():
        return None
    model = re.sub(r"\s*\[\w*\]$", "", said["model"])
    numbers = (
        _number(said.get(key, usual), float(usual))
        for key, usual in (("weight", "1"), ("guidance start", "0"), ("guidance end", "1"))
    )
    file = "" if model.lower() == "none" else _stem(model)
    mode = _MODES.get(said.get("control mode", "").lower(), CONTROL_MODES[0])
    return RecordedControl(_kind(said["module"]), file, "", "", *numbers, mode)


def _kind(module: str) -> str:
    """Return our name of what the extension makes of a picture; its own where we have none."""
    name = module.lower()
    if begun := next(filter(name.startswith, _THEIRS), None):
        return _THEIRS[begun]
    known = [each for each in (*HINTS, *NAMED_KINDS) if re.match(rf"{each}(?![a-z])", name)]
    return max(known, key=len, default=legible(name, _LONGEST))


def _stem(file: str) -> str:
    name = PureWindowsPath(file).name
    stem, _, ending = name.rpartition(".")
    return legible(stem if f".{ending.lower()}" in WEIGHTS else name, _LONGEST)


def _number(text: str, usual: float) -> float:
    try:
        number = float(text)
    except ValueError:
        return usual
    return number if abs(number) < 1000 else usual  # NaN is not


def _texts(entries: Mapping[str, str], key: str) -> Sequence[str]:
    try:
        found = json.loads(entries.get(key, "[]"))
    except (ValueError, RecursionError):
        return []
    texts = isinstance(found, list) and all(isinstance(each, str) for each in found)
    return found if texts and len(found) <= RECIPE_ENTRIES else []
