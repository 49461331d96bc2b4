"""Boxes with texts, as tensors that GLIGEN's layers take; the texts' features.

Shapes: P samples, O boxes (30, missing ones included), F width of a text's feature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ldm.errors import UserError
from ldm.legible import quoted

MOST = 30
"""Boxes that a picture may have; GLIGEN always sees so many tokens."""
Box = tuple[str, Sequence[float]]
"""A text, and its corners x0, y0, x1, y1 as fractions of the picture's sides, from top left."""
Boxes = Sequence[Box] | Sequence[Sequence[Box]]
"""The boxes of every sample, or for each sample a list."""


@dataclass(frozen=True)
class Grounding:
    """Boxes as tensors; row 0 has none, the others are the samples'.

    Attributes:
        boxes: (1 + P, O, 4).
        features: (1 + P, O, F).
        there: 1 for a box, 0 where there is none, (1 + P, O).
    """

    boxes: Tensor
    features: Tensor
    there: Tensor


def ground(model: Any, given: Boxes, width: int) -> Grounding:
    """Return boxes as tensors.

    Args:
        model: The hub, whose text encoder reads the texts.
        given: The boxes.
        width: F.

    Raises:
        UserError: A box is malformed, there are too many, or the text encoder is another.
    """
    samples = [[], *_by_sample(given)]
    texts = list(dict.fromkeys(text for sample in samples for text, _ in sample))
    known = dict(zip(texts, pooled(model, texts), strict=True)) if texts else {}
    boxes = torch.zeros(len(samples), MOST, 4)
    features, there = torch.zeros(len(samples), MOST, width), torch.zeros(len(samples), MOST)
    for row, sample in enumerate(samples):
        for number, (text, corners) in enumerate(sample):
            if len(known[text]) != width:
                raise UserError(
                    f"the model's text encoder makes features of width {len(known[text])} for "
                    f"GLIGEN; expected {width}; give the model that it was made for"
                )
            boxes[row, number] = torch.tensor([float(value) for value in corners])
            features[row, number], there[row, number] = known[text], 1.0
    return Grounding(boxes, features, there)


@torch.no_grad()
def pooled(model: Any, texts: Sequence[str]) -> Tensor:
    """Return CLIP's pooled states of texts (len(texts), F): the last layer's at the end token.

    Not projected into the space that texts and pictures share.

    Raises:
        UserError: The model's text encoder does not say where a text ends.
    """
    conditioner = getattr(model, "cond_stage_model", None)
    if not hasattr(conditioner, "tokens"):
        raise UserError(
            f"a {type(conditioner).__name__} reads this model's texts; GLIGEN expects CLIP's text "
            "encoder; give a Stable Diffusion model"
        )
    end = conditioner.tokens([""])[0, 1]
    ids = conditioner.tokens(list(texts))  # (texts, L)
    states = conditioner.encode(list(texts))  # (texts, L, F)
    where = (ids[:, 1:] == end).int().argmax(1) + 1  # the first end token; padding is more of them
    return states[torch.arange(len(states)), where.to(states.device)].float().cpu()


def _by_sample(given: Boxes) -> list[list[Box]]:
    """Return for each sample its boxes; one list stands for all.

    Raises:
        UserError: A box is malformed, or there are too many.
    """
    given = list(given)
    nested = bool(given) and all(
        isinstance(each, (list, tuple)) and not _looks_like_a_box(each) for each in given
    )
    samples = [list(each) for each in given] if nested else [given]
    for sample in samples:
        if len(sample) > MOST:
            raise UserError(
                f"{len(sample)} boxes are given for one picture; expected at most {MOST}, which is "
                "what GLIGEN learned with; leave some out"
            )
        for box in sample:
            _check(box)
    return samples


def _looks_like_a_box(value: Sequence[Any]) -> bool:
    return len(value) > 0 and isinstance(value[0], str)


def _check(box: Any) -> None:
    good = isinstance(box, (list, tuple)) and len(box) == 2 and isinstance(box[0], str)
    try:
        x0, y0, x1, y1 = (float(value) for value in box[1]) if good else ()
        good = 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1
    except (TypeError, ValueError):
        good = False
    if not good:
        raise UserError(
            f"{quoted(box)} is given as a box; expected a text and corners, such as ('a cat', (0.1,"
            " 0.2, 0.5, 0.9)): fractions of the sides, left before right, top before bottom; "
            "correct it"
        )
