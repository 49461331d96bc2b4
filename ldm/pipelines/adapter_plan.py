"""What acts on the model in a run: the adapters that its settings and prompts name, as files.

    settings, prompts -> plan_adapters -> AdapterPlan -> adapting (on the model), adapter_entries

Files are looked for before a model is loaded. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ldm.errors import UserError
from ldm.legible import quoted
from ldm.paths import file_fault, is_folder
from ldm.pipelines.adapter_files import (
    CONTROLS,
    EMBEDDINGS,
    LORAS,
    Shelf,
    embeddings_called,
    find_adapter,
    find_named,
    lora_file,
)
from ldm.settings.adapters import GLIGEN, NAMED_KINDS, BoxWish, ControlWish, LoraWish
from ldm.settings.generation import GenerationSettings
from ldm.settings.hints import HINTS
from ldm.settings.option import one_of
from ldm.settings.tags import LORAS as LORA_TAGS
from ldm.settings.tags import Tag, split_tags


@dataclass(frozen=True)
class PlannedLora:
    """A LoRA and where it is.

    Attributes:
        path: The file.
        name: What it is called in metadata.
        unet: How strongly it acts in the UNet.
        text: How strongly it acts in the text encoder.
    """

    path: Path
    name: str
    unet: float
    text: float


@dataclass(frozen=True)
class PlannedEmbedding:
    """An embedding and where it is.

    Attributes:
        path: The file.
        typed: How a flag names it; empty where only a prompt does.
    """

    path: Path
    typed: str = ""


@dataclass(frozen=True)
class PlannedControl:
    """A control, where its file is, and what it looks at.

    Attributes:
        wish: What was asked for.
        path: The file or folder; None where there is none.
        mode: Whose word counts more.
        boxes: Words and their boxes.
        image_encoder: The folder of the image encoder.
    """

    wish: ControlWish
    path: Path | None
    mode: str
    boxes: tuple[BoxWish, ...] = ()
    image_encoder: str | None = None


@dataclass(frozen=True)
class AdapterPlan:
    """The adapters of a run.

    Attributes:
        settings: The run's.
        loras: Those of flags, which act in all pictures.
        tagged: Those that tags in prompts name, by the name in the tag.
        embeddings: Those of flags, and those that prompts call.
        controls: Networks that look at pictures.
        notices: Warnings for the user.
        tags: Tags of LoRAs, as they are written: what becomes of them is done, or said here.
    """

    settings: GenerationSettings
    loras: tuple[PlannedLora, ...] = ()
    tagged: tuple[tuple[str, Path], ...] = ()
    embeddings: tuple[PlannedEmbedding, ...] = ()
    controls: tuple[PlannedControl, ...] = ()
    notices: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()

    def loras_of(self, prompt: str) -> list[PlannedLora]:
        """Return the LoRAs of one picture; the scales of one that is named twice are added."""
        paths = dict(self.tagged)
        found = list(self.loras)
        for tag in lora_tags(self.settings, prompt):
            found.append(PlannedLora(paths[tag.name], tag.name, tag.unet_scale, tag.text_scale))
        return _added(found)

    def loras_of_batch(self, prompts: Iterable[str]) -> list[PlannedLora]:
        """Return the LoRAs of pictures that are drawn together.

        Raises:
            UserError: Their prompts name different ones.
        """
        different = {tuple(self.loras_of(prompt)) for prompt in prompts}
        if len(different) > 1:
            raise UserError(
                "prompts that are drawn in one batch name different LoRAs or scales; expected the "
                "same in each, as they act on the whole model; add --n_samples 1"
            )
        return list(different.pop()) if different else list(self.loras)


def lora_tags(settings: GenerationSettings, prompt: str) -> list[Tag]:
    """Return the tags of a prompt that name LoRAs; compel's withLora() is one.

    Raises:
        UserError: One cannot be read.
    """
    if not settings.may_name_loras(prompt):
        return []
    if settings.prompt_syntax == "compel":
        from ldm.prompts.compel_grammar import parse_compel

        return [tag for tag in parse_compel(prompt).tags if tag.kind in LORA_TAGS]
    return split_tags(prompt, LORA_TAGS)[1]


def plan_adapters(settings: GenerationSettings, prompts: Sequence[str]) -> AdapterPlan | None:
    """Find the files of all adapters that a run's settings and prompts name.

    Args:
        settings: The run's, checked.
        prompts: Those that it draws.

    Returns:
        None if there are none.

    Raises:
        UserError: One is not there, or its name means several.
    """
    drawn = list(dict.fromkeys(prompts))
    texts = [*drawn, settings.negative_prompt]
    plan = AdapterPlan(
        settings,
        loras=tuple(_lora(wish) for wish in settings.lora_wishes),
        tagged=tuple(_tagged(settings, drawn)),
        embeddings=tuple(_embeddings(settings, texts)),
        controls=tuple(_control(wish, settings) for wish in settings.control_wishes),
        notices=tuple(_notices(settings)),
        tags=tuple(tag.written for text in texts for tag in lora_tags(settings, text)),
    )
    return None if plan == AdapterPlan(settings) else plan


def _lora(wish: LoraWish) -> PlannedLora:
    found = find_adapter(LORAS, wish.file)
    path = _there(LORAS, lora_file(found))
    return PlannedLora(path, found.stem, wish.unet, wish.text)


def _tagged(settings: GenerationSettings, prompts: Iterable[str]) -> Iterable[tuple[str, Path]]:
    tags = {tag.name: tag for prompt in prompts for tag in lora_tags(settings, prompt)}
    for name, tag in tags.items():
        yield name, lora_file(find_named(LORAS, name, f"{quoted(tag.written)} in a prompt"))


def _embeddings(settings: GenerationSettings, texts: Sequence[str]) -> Iterable[PlannedEmbedding]:
    found: dict[Path, PlannedEmbedding] = {}
    for typed in settings.embedding:
        path = _there(EMBEDDINGS, find_adapter(EMBEDDINGS, typed))
        found.setdefault(path, PlannedEmbedding(path, typed))
    if settings.reads_grammar:
        stems = {path.stem.casefold() for path in found}
        called = [p for p in embeddings_called(texts) if p.stem.casefold() not in stems]
        found |= {path: PlannedEmbedding(path) for path in called}
    return found.values()


def _control(wish: ControlWish, settings: GenerationSettings) -> PlannedControl:
    if wish.kind not in (*HINTS, *NAMED_KINDS):
        known = one_of((*NAMED_KINDS, *HINTS))
        raise UserError(f"--control {quoted(wish.kind)}= was given; expected {known}; choose one")
    path = None
    if wish.file:
        path = find_adapter(CONTROLS, wish.file)
        path = path if is_folder(path) else _there(CONTROLS, path)
    if wish.image and (fault := file_fault(wish.image)):
        raise UserError(
            f"--control {wish.kind}=...:{wish.image} {fault}; expected a picture; check the path"
        )
    boxes = tuple(settings.box_wishes) if wish.kind == GLIGEN else ()
    return PlannedControl(wish, path, settings.control_mode, boxes, settings.image_encoder)


def _there(shelf: Shelf, path: Path) -> Path:
    if fault := file_fault(path):
        raise UserError(
            f"{shelf.flag} {str(path)!r} {fault}; expected a file with {shelf.one}, or its name "
            f"in {shelf.folder}; check the path"
        )
    return path


def _notices(settings: GenerationSettings) -> Iterable[str]:
    for tag in lora_tags(settings, settings.negative_prompt):
        yield (
            f"{quoted(tag.written)} in the negative prompt is taken out and has no effect; a tag "
            "acts on the whole picture: write it into the prompt"
        )


def _added(loras: Iterable[PlannedLora]) -> list[PlannedLora]:
    by_path: dict[Path, PlannedLora] = {}
    for each in loras:
        before = by_path.get(each.path)
        if before is not None:
            each = replace(before, unet=before.unet + each.unet, text=before.text + each.text)
        by_path[each.path] = each
    return list(by_path.values())
