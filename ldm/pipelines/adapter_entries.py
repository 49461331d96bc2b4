"""Adapters in a picture's metadata: written as AUTOMATIC1111 writes them, and found again.

    Lora hashes: "ink: 0123456789ab"      of tags in the prompt and of flags, 12 digits
    TI hashes: "sunny: 0123456789ab"      of the embeddings that the prompts call
    ControlNet 0: "Module: canny, ..."    as the ControlNet extension says it
    LoRA, Embedding, Control, Boxes       our own: the flags that draw the picture again, as JSON
    Control hashes, Control images        SHA-256 of each control's file, and of its picture
    Image encoder, Image encoder hash     the folder that they look through, SHA-256 of its weights

A file that a picture names is used only if it is the one that the picture was drawn with. Imports
no torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any

from ldm.adapters.textual_inversion.words import Words
from ldm.budgets import QUOTED, RECIPE_ENTRIES
from ldm.digests import file_hash
from ldm.errors import UserError
from ldm.images.opening import PICTURE_ENDINGS
from ldm.legible import legible, quoted
from ldm.paths import at_home, is_file
from ldm.pipelines.adapter_files import (
    CONTROLS,
    EMBEDDINGS,
    LORAS,
    WEIGHTS,
    Shelf,
    embedding_hash,
    find_named,
    full_hash,
    is_whole,
    lora_hashes,
    on_shelf,
)
from ldm.pipelines.adapter_plan import AdapterPlan, PlannedControl
from ldm.pipelines.models import find
from ldm.settings.adapters import THROUGH_ENCODER, ControlWish, read_box, read_control, read_lora
from ldm.settings.generation import GenerationSettings
from ldm.settings.tags import Tag, split_tags, without_loras, written_loras

LORA_HASHES, TI_HASHES = "Lora hashes", "TI hashes"
LORA, EMBEDDING, CONTROL, BOXES, MODE = "LoRA", "Embedding", "Control", "Boxes", "Control mode"
CONTROL_HASHES, CONTROL_IMAGES = "Control hashes", "Control images"
ENCODER, ENCODER_HASH = "Image encoder", "Image encoder hash"
OWN = (LORA, EMBEDDING, CONTROL, BOXES, MODE, CONTROL_HASHES, CONTROL_IMAGES, ENCODER, ENCODER_HASH)
EXTENSION = re.compile(r"ControlNet \d+")
"""Entries of AUTOMATIC1111's ControlNet extension."""
MODES = {
    "balanced": "Balanced",
    "prompt": "My prompt is more important",
    "control": "ControlNet is more important",
    "guess": "ControlNet is more important",
}
"""What the extension calls each mode."""


def entries_of(plan: AdapterPlan, prompt: str, negative_prompt: str) -> dict[str, str]:
    """Return what a picture of these prompts records of a run's adapters."""
    entries: dict[str, str] = {}
    loras = plan.loras_of(prompt)
    if loras:
        hashes = {_plain(each.name): lora_hashes(each.path)[0] for each in loras}
        entries[LORA_HASHES] = _hashes(hashes)
    if called := _called(plan, [prompt, negative_prompt]):
        entries[TI_HASHES] = _hashes({_plain(p.stem): embedding_hash(p) for p in called})
    for number, control in enumerate(plan.controls):
        entries[f"ControlNet {number}"] = _as_the_extension(control)
    settings = plan.settings
    wishes = {
        LORA: [str(wish) for wish in settings.lora_wishes],
        EMBEDDING: [each.typed for each in plan.embeddings if each.typed],
        CONTROL: [str(wish) for wish in settings.control_wishes],
        BOXES: list(settings.box),
        CONTROL_HASHES: [full_hash(c.path) if c.path else "" for c in plan.controls],
        CONTROL_IMAGES: [file_hash(w.image) if w.image else "" for w in settings.control_wishes],
    }
    entries |= {k: json.dumps(v, ensure_ascii=False) for k, v in wishes.items() if v}
    if plan.controls:
        entries[MODE] = settings.control_mode
    if settings.image_encoder and any(c.wish.kind in THROUGH_ENCODER for c in plan.controls):
        entries[ENCODER] = settings.image_encoder
        entries[ENCODER_HASH] = full_hash(at_home(settings.image_encoder))
    return entries


def _called(plan: AdapterPlan, texts: list[str]) -> list[Path]:
    """Return the embeddings that texts call, and those of flags, which may have other words."""
    if not plan.embeddings:
        return []
    words = Words(each.path.stem for each in plan.embeddings).called(texts)
    return [each.path for each in plan.embeddings if each.typed or each.path.stem in words]


def _plain(name: str) -> str:
    return name.replace(":", "").replace(",", "")


def _hashes(found: Mapping[str, str]) -> str:
    return ", ".join(f"{name}: {digits}" for name, digits in found.items())


def _as_the_extension(control: PlannedControl) -> str:
    wish = control.wish
    name = control.path.stem if control.path else "None"
    said = {
        "Module": wish.kind,
        "Model": f"{_plain(name)} [{full_hash(control.path)[:8]}]" if control.path else name,
        "Weight": repr(wish.scale),
        "Resize Mode": "Crop and Resize",
        "Guidance Start": repr(wish.start),
        "Guidance End": repr(wish.end),
        "Pixel Perfect": "True",
        "Control Mode": MODES[control.mode],
    }
    return ", ".join(f"{key}: {value}" for key, value in said.items())


@dataclass
class Recall:
    """What a picture records of adapters, found again.

    Attributes:
        prompt: Its prompt, without tags that cannot be followed.
        values: Settings by name.
        used: Entries that are used, or spoken of in ``notices``.
        notices: What is missing or has changed.
    """

    prompt: str
    values: dict[str, Any] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    notices: list[str] = field(default_factory=list)


def recall(
    path: str,
    schema: type[GenerationSettings],
    entries: Mapping[str, str],
    prompt: str,
    given: Collection[str],
    *,
    own: bool,
    syntax: str = "",
) -> Recall:
    """Find the adapters that a picture was drawn with.

    Args:
        path: The picture, as the user gave it.
        schema: The settings class to read into.
        entries: What it records.
        prompt: Its prompt.
        given: Names of settings that the user overrides.
        own: Whether this project drew it: then what is missing is an error, and not a notice.
        syntax: That of its prompt, where it is known.

    Raises:
        UserError: A file is missing or has changed, and the picture is one of ours.
    """
    finder = _Finder(path, entries, Recall(prompt), own=own)
    if "prompt" not in given and schema.takes_tags:
        finder.tags(syntax)
    if "embedding" not in given:
        finder.embeddings()
    if "lora" not in given:
        finder.loras()
    if "control" not in given:
        finder.controls()
        if "image_encoder" not in given:
            finder.encoder()
    return finder.found


class _Finder:
    def __init__(self, path: str, entries: Mapping[str, str], found: Recall, *, own: bool) -> None:
        self.path, self.entries, self.found, self.own = path, entries, found, own

    def tags(self, syntax: str) -> None:
        """Check the files of the prompt's tags; tags that cannot be followed go out of it."""
        hashes, followed = self._hashes(LORA_HASHES), False
        for written in _written(self.found.prompt, syntax):
            try:
                (tag,) = _read(written)
                file = find_named(LORAS, tag.name, f"its tag {quoted(written)}")
            except UserError as error:
                self._missing(str(error))
                for form in (written, written.replace(", ", ",")):  # compel puts spaces in
                    self.found.prompt = self.found.prompt.replace(form, "")
                continue
            digits = hashes.get(_plain(tag.name))
            self._check(tag.name, digits, lora_hashes(file), "LoRA", strict=self.own)
            followed = True
        if followed or self.found.notices:  # what is missing was named
            self.found.used.add(LORA_HASHES)

    def loras(self) -> None:
        """Find the LoRAs of flags."""
        hashes, kept = self._hashes(LORA_HASHES), []
        for text in self._list(LORA):
            wish = read_lora(text)
            file = self._file(LORAS, wish.file)
            if file is None:
                continue
            self._check(file.stem, hashes.get(_plain(file.stem)), lora_hashes(file), "LoRA")
            kept.append(str(type(wish)(str(file), wish.unet, wish.text)))
        if LORA in self.entries:
            self.found.values["lora"] = tuple(kept)
            self.found.used |= {LORA, LORA_HASHES}

    def embeddings(self) -> None:
        """Find the embeddings of flags, and those that the prompts call."""
        hashes, kept = self._hashes(TI_HASHES), []
        for typed in self._list(EMBEDDING):
            file = self._file(EMBEDDINGS, typed)
            if file is not None:
                digits = hashes.pop(_plain(file.stem), None)
                self._check(file.stem, digits, [embedding_hash(file)], "embedding")
                kept.append(str(file))
        shelved = {_plain(path.stem) for path in on_shelf(EMBEDDINGS)} if hashes else set()
        for name, digits in hashes.items():
            if name not in shelved:
                self._missing(f"its embedding {quoted(name)} is not in {EMBEDDINGS.folder}")
            elif (file := self._file(EMBEDDINGS, name)) is not None:
                own = [embedding_hash(file)]
                self._check(name, digits, own, "embedding", strict=self.own)
                kept.append(str(file))
        if kept:
            self.found.values["embedding"] = tuple(kept)
        self.found.used |= {TI_HASHES, EMBEDDING} & self.entries.keys()

    def controls(self) -> None:
        """Find what looked at pictures, and these pictures."""
        wishes = [read_control(text) for text in self._list(CONTROL)]
        files, images = self._list(CONTROL_HASHES), self._list(CONTROL_IMAGES)
        if not wishes:
            return
        kept = [
            str(self._recalled(*each))
            for each in zip(wishes, _padded(files, wishes), _padded(images, wishes), strict=True)
        ]
        boxes = tuple(self._list(BOXES))
        for text in boxes:
            read_box(text)
        self.found.values |= {"control": tuple(kept), "box": boxes}
        if MODE in self.entries:
            self.found.values["control_mode"] = self.entries[MODE]
        self.found.used |= {CONTROL, BOXES, MODE, CONTROL_HASHES, CONTROL_IMAGES}
        self.found.used |= {ENCODER, ENCODER_HASH}
        self.found.used |= {key for key in self.entries if EXTENSION.fullmatch(key)}

    def encoder(self) -> None:
        """Find the image encoder that controls looked through."""
        recorded = self.entries.get(ENCODER)
        if recorded is None:
            return
        folder = find(recorded)
        if recorded.startswith(("//", "\\\\")) or not is_file(folder / "config.json"):
            raise UserError(
                self._said(
                    f"its controls looked through the image encoder {legible(recorded, QUOTED)}, "
                    "which is not there; put the folder back, or give it with --image_encoder"
                )
            )
        self._check(recorded, self.entries.get(ENCODER_HASH), [full_hash(folder)], "image encoder")
        self.found.values["image_encoder"] = str(folder)

    def _recalled(self, wish: ControlWish, digits: str, image_digits: str) -> ControlWish:
        file, image = "", ""
        if wish.file:
            found = self._file(CONTROLS, wish.file, needed=True)
            self._check(found.stem, digits, [full_hash(found)], "control")
            file = str(found)
        if wish.image:
            image = str(self._image(wish.image))
            self._check(wish.image, image_digits, [file_hash(image)], "picture")
        return ControlWish(wish.kind, file, image, wish.scale, wish.start, wish.end)

    def _file(self, shelf: Shelf, recorded: str, *, needed: bool = False) -> Path | None:
        """Return the file that a picture names: where it was, or by its name on its shelf.

        A stranger's picture may name any file: only what is named as weights are is looked at, and
        nothing on other computers.
        """
        there = find(recorded)
        elsewhere = recorded.startswith(("//", "\\\\"))
        weights = there.suffix.lower() in (WEIGHTS | shelf.endings)
        if not elsewhere and ((weights and is_file(there)) or is_whole(there, shelf)):
            return there
        try:
            return find_named(shelf, PureWindowsPath(recorded).name, f"its {shelf.what}")
        except UserError as error:
            text = f"{error} (or give it with {shelf.flag})"
            if needed:
                raise UserError(self._said(text)) from error
            self._missing(text)
            return None

    def _image(self, recorded: str) -> Path:
        beside = Path(self.path).parent / PureWindowsPath(recorded).name
        elsewhere = recorded.startswith(("//", "\\\\"))
        places = [beside] if elsewhere else [find(recorded), beside]
        if Path(recorded).suffix.lower() in PICTURE_ENDINGS:
            for place in places:
                if is_file(place):
                    return place
        raise UserError(
            self._said(
                f"its control looked at {legible(recorded, QUOTED)}, which does not exist; put it "
                "back, or give it with --control"
            )
        )

    def _check(
        self,
        name: str,
        recorded: str | None,
        found: Collection[str],
        what: str,
        *,
        strict: bool = True,
    ) -> None:
        """Say, or refuse, that a file is another than the picture was drawn with.

        Args:
            name: What it is called.
            recorded: The hash in the picture.
            found: The file's hashes, each counted in its own way.
            what: What it is.
            strict: Whether to refuse it in any case: where the picture names a path.
        """
        if recorded in found or not (recorded or strict):
            return
        text = (
            f"its {what} {quoted(name)} has the hash {quoted(recorded)}, the file here "
            f"{next(iter(found))}: it is another"
        )
        if strict:
            raise UserError(self._said(f"{text}; put the file back that it was drawn with"))
        self._missing(text)

    def _missing(self, text: str) -> None:
        if self.own:
            raise UserError(self._said(text))
        self.found.notices.append(f"{self.path}: {text}; the picture is drawn with what is here")

    def _said(self, text: str) -> str:
        return f"--from-image {self.path}: {text}"

    def _hashes(self, key: str) -> dict[str, str]:
        """Read ``name: hash, name: hash``."""
        pairs = (each.rpartition(":") for each in self.entries.get(key, "").split(","))
        return {name.strip(): digits.strip() for name, _, digits in pairs if name.strip()}

    def _list(self, key: str) -> list[str]:
        """Read one of our own lists of texts."""
        if key not in self.entries:
            return []
        try:
            found = json.loads(self.entries[key])
        except (ValueError, RecursionError):
            found = None
        texts = isinstance(found, list) and all(isinstance(each, str) for each in found)
        if not texts or len(found) > RECIPE_ENTRIES:
            raise UserError(
                self._said(f"its entry {key} is {quoted(self.entries[key])}; expected a JSON list")
            )
        return found


def _written(prompt: str, syntax: str) -> list[str]:
    """Return what names LoRAs in a prompt, as it is written, readable or not."""
    written = written_loras(prompt)
    if syntax == "compel" and "Lora" in prompt:
        written += [call.written for call in _calls(without_loras(prompt))]
    return written


def _read(written: str) -> Sequence[Tag]:
    return split_tags(written)[1] if written.startswith("<") else _calls(written)


def _calls(prompt: str) -> Sequence[Tag]:
    """Return what compel's withLora() names in a prompt."""
    from ldm.prompts.compel_grammar import parse_compel

    return parse_compel(prompt).tags


def _padded(found: list[str], like: list[Any]) -> Iterator[str]:
    yield from (found + [""] * len(like))[: len(like)]
