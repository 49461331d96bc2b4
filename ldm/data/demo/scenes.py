"""The demo data set: emoji on coloured backgrounds with exact captions, generated on the fly.

Shapes: pictures are (H, W, C) float32 in [-1, 1], RGB, with H = W = the data set's size in pixels.
Some combinations of nouns, relation or size, and colour are held out of training.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import torch
from torch.utils.data import Dataset

from ldm.data.demo.glyphs import find_font, resized_glyph
from ldm.data.demo.scene_captions import CAPTIONERS
from ldm.data.demo.scene_layout import LAYOUTS, Box, lone_box
from ldm.data.demo.scene_vocabulary import COLOURS, NOUNS, RELATIONS, SIZES
from ldm.errors import UserError

T = TypeVar("T")
Split = Literal["train", "heldout"]
SPLITS: tuple[Split, ...] = ("train", "heldout")

PAIR_SHARE = 0.55
JAPANESE_SHARE = 0.25
UNNAMED_COLOUR_SHARE = 0.10
HELD_OUT_PERCENT = 5
# A background's brightness varies by up to this fraction: half overall, half from top to bottom.
SHADE_REACH = 0.06


@dataclass(frozen=True)
class Scene:
    """Everything that one picture shows and its caption.

    Attributes:
        objects: one or two nouns, in the order of the layout: the lone one; left, right; upper,
            lower; rider, mount.
        boxes: a box per object, (left, top, right, bottom) as fractions of the side.
        background: key of ``COLOURS``, also when the caption does not name it.
        shade: factors on the background's brightness at the top and at the bottom edge.
        relation: key of ``RELATIONS`` as the caption words it; None for one object.
        size: key of ``SIZES`` for one object; None for two.
        language: "en" or "ja".
        caption: the text.
    """

    objects: tuple[str, ...]
    boxes: tuple[Box, ...]
    background: str
    shade: tuple[float, float]
    relation: str | None
    size: str | None
    language: str
    caption: str

    @property
    def layout(self) -> str:
        """How the picture is arranged: "lone", "beside", "stacked" or "riding"."""
        return "lone" if self.relation is None else RELATIONS[self.relation].layout


def is_held_out(objects: Sequence[str], arrangement: str, colour: str) -> bool:
    """Check whether a combination is held out of training.

    Args:
        objects: nouns in the order of the layout, so that "a cat above a dog" and "a dog below a
            cat", which are one picture, are kept out together.
        arrangement: the layout of two objects, or the size of one.
        colour: the background.
    """
    key = "|".join((*objects, arrangement, colour))
    return zlib.crc32(key.encode()) % 100 < HELD_OUT_PERCENT


def _pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]


def _pick_by_share(rng: np.random.Generator, table: dict) -> str:
    """Pick a key of a table whose values carry a ``share``; the shares add up to 1."""
    ends = np.cumsum([value.share for value in table.values()])
    return list(table)[int(np.searchsorted(ends[:-1], rng.random(), side="right"))]


@dataclass(frozen=True)
class Subject:
    """What a scene shows, before it is placed and worded; nouns in the caption's order."""

    nouns: tuple[str, ...]
    relation: str | None
    size: str | None
    colour: str

    @property
    def objects(self) -> tuple[str, ...]:
        swapped = self.relation is not None and RELATIONS[self.relation].swapped
        return self.nouns[::-1] if swapped else self.nouns

    @property
    def held_out(self) -> bool:
        arrangement = self.size if self.relation is None else RELATIONS[self.relation].layout
        return is_held_out(self.objects, arrangement, self.colour)


_NOUN_KEYS = tuple(NOUNS)
_COLOUR_KEYS = tuple(COLOURS)


def _draw_subject(rng: np.random.Generator, pair_share: float) -> Subject:
    colour = _pick(rng, _COLOUR_KEYS)
    first = int(rng.integers(len(_NOUN_KEYS)))
    if rng.random() >= pair_share:
        return Subject((_NOUN_KEYS[first],), None, _pick_by_share(rng, SIZES), colour)
    # An offset of 1..n-1 makes the second noun another one and keeps the choice even.
    second = (first + 1 + int(rng.integers(len(_NOUN_KEYS) - 1))) % len(_NOUN_KEYS)
    nouns = (_NOUN_KEYS[first], _NOUN_KEYS[second])
    return Subject(nouns, _pick_by_share(rng, RELATIONS), None, colour)


def _place(subject: Subject, rng: np.random.Generator) -> tuple[Box, ...]:
    if subject.relation is None:
        return lone_box(subject.nouns[0], subject.size, rng)
    return LAYOUTS[RELATIONS[subject.relation].layout](*subject.objects, rng)


def render(scene: Scene, size: int) -> np.ndarray:
    """Draw a scene as (size, size, 3) float32 in [-1, 1]."""
    picture = backdrop(scene, size)
    # The first object is drawn last: a rider sits in front of its mount.
    for noun, box in reversed(list(zip(scene.objects, scene.boxes, strict=True))):
        rows, columns, (colour, transparency) = placed(noun, box, size)
        region = picture[rows, columns]
        region *= transparency
        region += colour
    return picture * 2 - 1


def backdrop(scene: Scene, size: int) -> np.ndarray:
    """Draw a scene's background alone: (size, size, 3) float32 in [0, 1]."""
    shade = np.linspace(*scene.shade, size, dtype=np.float32)[:, None, None]
    colour = np.asarray(COLOURS[scene.background].rgb, dtype=np.float32) / 255
    picture = np.empty((size, size, 3), dtype=np.float32)
    picture[:] = np.minimum(colour * shade, 1)  # (size, 1, 3) -> (size, size, 3)
    return picture


def placed(noun: str, box: Box, side: int) -> tuple[slice, slice, tuple[np.ndarray, np.ndarray]]:
    """Return the rows and columns of a thing's box, and its glyph as ``resized_glyph`` has it.

    Args:
        noun: Key of ``NOUNS``, or an emoji.
        box: As fractions of the side.
        side: Of the picture, in pixels.
    """
    rows, columns = pixels_of(box, side)
    emoji = NOUNS[noun].emoji if noun in NOUNS else noun
    glyph = resized_glyph(emoji, rows.stop - rows.start, columns.stop - columns.start)
    return rows, columns, glyph


def pixels_of(box: Box, side: int) -> tuple[slice, slice]:
    """Return the rows and columns of a box in a picture of ``side`` pixels."""
    left, top, right, bottom = (edge * side for edge in box)
    height, width = max(1, round(bottom - top)), max(1, round(right - left))
    x, y = min(max(round(left), 0), side - width), min(max(round(top), 0), side - height)
    return slice(y, y + height), slice(x, x + width)


class SceneDataset(Dataset):
    """Random captioned scenes, as many as wanted, exactly repeatable.

    Item k depends only on ``(seed, split, k)``, ``languages`` and the shares, not on the reading
    order, the number of workers or ``length``. The same scene can be drawn at any size.

    Args:
        size: side of the pictures in pixels.
        length: number of items.
        seed: which sequence of scenes, >= 0.
        split: "train" has no held-out combination, "heldout" has only those.
        languages: of the captions.
        pair_share: fraction of the scenes that show two objects, 0 to 1.
        japanese_share: fraction of Japanese captions, 0 to 1, if both languages are asked for.

    Raises:
        UserError: unknown split or language, impossible size or share, no emoji font.
    """

    def __init__(
        self,
        size: int = 64,
        length: int = 100_000,
        seed: int = 0,
        split: Split = "train",
        languages: Sequence[str] = ("en", "ja"),
        pair_share: float = PAIR_SHARE,
        japanese_share: float = JAPANESE_SHARE,
    ):
        for name, share in (("pair_share", pair_share), ("japanese_share", japanese_share)):
            if not 0 <= share <= 1:
                raise UserError(f"{name} is {share}; expected 0 to 1; correct the config")
        if split not in SPLITS:
            raise UserError(f"split is {split!r}; expected one of {SPLITS}; correct the config")
        if not languages or not set(languages) <= set(CAPTIONERS):
            raise UserError(
                f"languages is {list(languages)}; expected some of {tuple(CAPTIONERS)};"
                " correct the config"
            )
        if size < 16 or length < 1 or seed < 0:
            raise UserError(
                f"size {size}, length {length}, seed {seed}; expected a size of 16 or more, a"
                " length of 1 or more and a seed of 0 or more; correct the config"
            )
        find_font()  # to report a missing font now, not from a worker during training
        self.size, self.length, self.seed = size, length, seed
        self.split, self.languages = split, tuple(languages)
        self.pair_share, self.japanese_share = pair_share, japanese_share

    def __len__(self) -> int:
        return self.length

    def scene(self, k: int) -> Scene:
        """Return item k as a :class:`Scene`, not yet drawn.

        Raises:
            IndexError: k is outside ``range(len(self))``.
        """
        if not 0 <= k < self.length:
            raise IndexError(f"item {k} of a data set of {self.length}")
        rng = np.random.default_rng((self.seed, SPLITS.index(self.split), k))
        subject = self.subject(rng)
        while subject.held_out != (self.split == "heldout"):
            subject = self.subject(rng)
        boxes = self.place(subject, rng)
        middle = 1 + SHADE_REACH / 2 * (2 * rng.random() - 1)
        slope = SHADE_REACH / 2 * (2 * rng.random() - 1)
        language, caption = self._word(subject, rng)
        return Scene(
            objects=subject.objects,
            boxes=boxes,
            background=subject.colour,
            shade=(middle - slope, middle + slope),
            relation=subject.relation,
            size=subject.size,
            language=language,
            caption=caption,
        )

    def subject(self, rng: np.random.Generator) -> Subject:
        """Draw what a scene shows."""
        return _draw_subject(rng, self.pair_share)

    def place(self, subject: Subject, rng: np.random.Generator) -> tuple[Box, ...]:
        """Return where a scene's objects stand."""
        return _place(subject, rng)

    def _word(self, subject: Subject, rng: np.random.Generator) -> tuple[str, str]:
        language = self.languages[0]
        if len(self.languages) > 1:
            language = "ja" if rng.random() < self.japanese_share else "en"
        colour = None if rng.random() < UNNAMED_COLOUR_SHARE else subject.colour
        caption = CAPTIONERS[language](
            subject.nouns,
            subject.size,
            subject.relation,
            colour,
            lambda options: _pick(rng, options),
        )
        return language, caption

    def __getitem__(self, k: int) -> dict[str, torch.Tensor | str]:
        """Return {"jpg": (size, size, 3) float32 in [-1, 1], "txt": caption}."""
        scene = self.scene(k)
        return {"jpg": torch.from_numpy(self.draw(scene)), "txt": scene.caption}

    def draw(self, scene: Scene) -> np.ndarray:
        """Return a scene's picture (size, size, 3) in [-1, 1]."""
        return render(scene, self.size)
