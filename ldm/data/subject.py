"""Data sets of a few pictures of one subject: for textual inversion, DreamBooth and LoRA.

Items: "jpg" (H, W, 3) float32 in [-1, 1], RGB; "txt" str; with a class "prior", an item of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ldm.building import build_from
from ldm.data.captions import Captioned, CaptionedFolder
from ldm.data.class_pictures import ClassPictures
from ldm.data.files import check_folder, picture_files
from ldm.data.framing import Size
from ldm.data.strings import Strings
from ldm.errors import UserError

TEMPLATES = {
    "object": (
        "{}",
        "a photo of {}",
        "a photo of the {}",
        "a close-up photo of {}",
        "a cropped photo of {}",
        "a bright photo of {}",
        "a dark photo of {}",
        "a photo of one {}",
        "a picture of {} in the middle",
        "a clear picture of {}",
        "a small picture of {}",
        "{}, seen from near by",
    ),
    "style": (
        "in the style of {}",
        "a painting in the style of {}",
        "a drawing in the style of {}",
        "a picture in the manner of {}",
        "a detail, in the style of {}",
        "a bright picture in the style of {}",
        "a dark picture in the style of {}",
        "a small work in the style of {}",
    ),
}
"""Captions around a name, for a thing and for a manner of drawing."""


class SubjectFolder(Captioned):
    """Pictures of one subject, each captioned anew by a template around the subject's name.

    Args:
        root: The folder; subfolders are searched too.
        size: Side in pixels, or [height, width].
        name: What stands for the subject in prompts, such as ``<my-cat>``.
        templates: ``object``, ``style``, or captions of your own with ``{}`` for the name.
        repeats: How often a pass goes over the pictures: passes over five would be short.
        **options: ``random_crop``, ``flip_p``, ``interpolation``: see ``Captioned``.

    Raises:
        UserError: The folder has no pictures, or a template has no place for the name.
    """

    def __init__(
        self,
        root: str,
        size: Size,
        *,
        name: str,
        templates: str | Sequence[str] = "object",
        repeats: int = 1,
        **options: Any,
    ):
        self.root = check_folder(root)
        self.texts = [template.format(name) for template in _templates(templates)]
        self.names = Strings(picture_files(self.root))
        super().__init__(_length(len(self.names), repeats), size, source=str(root), **options)

    def picture(self, index: int) -> tuple[Path, str]:
        """Return a picture's path."""
        name = self.names[index % len(self.names)]
        return self.root / name, name

    def caption(self, index: int, rng: np.random.Generator) -> str:  # noqa: ARG002 - any of them
        """Choose a template."""
        return self.texts[int(rng.integers(len(self.texts)))]


class SubjectWithClass(Dataset):
    """Pictures of one subject, each beside a picture of the subject's class: for DreamBooth.

    Args:
        root: Folder of the subject's pictures; a ``.txt`` beside one goes before ``prompt``.
        size: Side in pixels, or [height, width].
        prompt: Caption of the subject: a rare word and its class, such as ``a photo of sks dog``.
        subject: ``target`` / ``params`` of another data set of the subject, in place of both.
        class_root: Folder of the class's pictures; None leaves them out.
        class_prompt: Their caption, such as ``a photo of a dog``.
        repeats: How often a pass goes over the subject's pictures.
        class_count, class_seed, class_steps, class_scale: See ``ClassPictures``.
        **options: ``random_crop``, ``flip_p``, ``interpolation``: see ``Captioned``.

    Raises:
        UserError: A folder has no pictures, a class no prompt, or the subject is described by
            neither or both of a folder and a data set.
    """

    def __init__(
        self,
        root: str | None = None,
        size: Size = 512,
        *,
        prompt: str | None = None,
        subject: Mapping[str, Any] | None = None,
        class_root: str | None = None,
        class_prompt: str | None = None,
        repeats: int = 1,
        class_count: int = 200,
        class_seed: int = 0,
        class_steps: int = 50,
        class_scale: float = 7.5,
        **options: Any,
    ):
        self.subject = _subject(root, size, prompt, subject, options)
        self._length = _length(len(self.subject), repeats)
        self.class_pictures: ClassPictures | None = None
        if class_root is None:
            return
        if not class_prompt:
            raise UserError(
                f"class_root {class_root!r} given without class_prompt; expected what its pictures"
                " show, such as 'a photo of a dog'; add it, or leave class_root out"
            )
        self.class_pictures = ClassPictures(
            class_root,
            class_prompt,
            size,
            count=class_count,
            seed=class_seed,
            steps=class_steps,
            scale=class_scale,
            **options,
        )

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self._length:
            raise IndexError(f"item {index} of {self._length}")
        item = self.subject[index % len(self.subject)]
        if self.class_pictures is None:
            return item
        number = int(torch.randint(len(self.class_pictures), ()))
        return {**item, "prior": self.class_pictures[number]}


def _subject(
    root: str | None,
    size: Size,
    prompt: str | None,
    described: Mapping[str, Any] | None,
    options: Mapping[str, Any],
) -> Any:
    """Return the data set of the subject."""
    if described is None and root is not None and prompt is not None:
        return CaptionedFolder(root, size, default_caption=prompt, **options)
    if described is not None and root is None and prompt is None:
        return build_from(described, where="subject")
    raise UserError(
        f"root {root!r}, prompt {prompt!r} and {'a' if described else 'no'} subject given; expected"
        " a folder of the subject's pictures with their caption, or another data set as subject; "
        "correct the config"
    )


def _length(pictures: int, repeats: int) -> int:
    if repeats < 1:
        raise UserError(f"repeats {repeats} given; expected 1 or more; correct the config")
    return pictures * repeats


def _templates(given: str | Sequence[str]) -> Sequence[str]:
    if isinstance(given, str):
        if given not in TEMPLATES:
            raise UserError(
                f"templates {given!r} given; expected {' or '.join(TEMPLATES)}, or a list of "
                "captions with {} in the place of the name; correct the config"
            )
        return TEMPLATES[given]
    without = [text for text in given if text.count("{}") != 1 or text.count("{") != 1]
    if without or not given:
        wrong = repr(without[0]) if without else "no template"
        raise UserError(f"templates has {wrong}; expected captions with {{}} once in each; add it")
    return list(given)
