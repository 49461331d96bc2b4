"""Which requests may be drawn as one batch: those that differ in nothing but what a row has.

A row of a batch has its own prompts, seed, guidance scale, picture and mask. Everything else that
settings can say is in the group, so that a new setting separates until somebody shows that it need
not. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import fields
from typing import Any

from ldm.pipelines.request import Request
from ldm.settings.generation import GenerationSettings
from ldm.settings.shortcuts import ShortcutSettings
from ldm.settings.speed import SpeedSettings

OF_A_ROW = frozenset(
    {
        *("prompt", "negative_prompt", "scale", "seed", "init_img", "mask"),
        *("subseed", "subseed_strength", "only_masked", "mask_blur", "invert_mask", "outpaint"),
        # What they were before: translated, read from a file, or of a size that is known now.
        *("prompt_lang", "glossary", "translator", "originals", "on_language", "plain_prompt"),
        *("wildcards", "template", "negative_template"),
        *("from_file", "from_image", "max_pixels", "H", "W"),
        # What happens to a finished picture.
        *("format", "watermark", "safety_checker", "outdir", "skip_grid", "skip_save", "n_rows"),
    }
)
"""Settings that may differ between the pictures of a batch."""
_WALKS = "ldm.pipelines.walks", "ldm.pipelines.inpainting"
SHARED_WALKS = frozenset(
    {
        *(f"{_WALKS[0]}.{name}" for name in ("TextWalk", "ImageWalk")),
        *(f"{_WALKS[1]}.{name}" for name in ("MaskedWalk", "HybridWalk", "FillWalk")),
    }
)
"""What can draw pictures of several requests at once; edits and tiles cannot."""


class Same:
    """Equal only to what holds the very same object."""

    def __init__(self, held: object) -> None:
        self.held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.held is self.held

    def __hash__(self) -> int:
        return id(self.held)


def group_of(request: Request) -> Hashable:
    """Return what is equal for requests that may share a batch.

    Example:
        >>> from ldm.pipelines.request import prepare
        >>> from ldm.settings.generation import Txt2ImgSettings
        >>> one = {"n_samples": 1, "n_iter": 1, "seed_mode": "per-image"}
        >>> a = prepare(Txt2ImgSettings(prompt="an apple", seed=1, **one))
        >>> b = prepare(Txt2ImgSettings(prompt="a boat", seed=2, scale=3, **one), a.choice)
        >>> c = prepare(Txt2ImgSettings(prompt="a boat", ddim_steps=9, **one), a.choice)
        >>> group_of(a) == group_of(b), group_of(b) == group_of(c)
        (True, False)
    """
    if not can_share(request):
        return Same(request)
    settings = request.settings
    others = _values(settings, [f.name for f in fields(settings) if f.name not in OF_A_ROW])
    guided = settings.scale != 1.0
    return type(settings), Same(request.choice), request.size, guided, _adapters(request), others


def can_share(request: Request) -> bool:
    """Return whether a request can share a batch with any other.

    It is of one picture with a seed of its own, which is drawn as any is and not as a recorded run
    drew it, and nothing acts on the model that looks at a picture of its own.
    """
    settings, plan = request.settings, request.adapters
    return (
        settings.seed_mode == "per-image"
        and request.pictures == 1
        and request.place is None
        and not settings.takes_folder
        and getattr(settings, "hires", None) is None
        and settings.restore_faces is None  # such networks draw noise, and can be cancelled
        and request.choice.kind.walks.get(settings.task) in SHARED_WALKS
        and (plan is None or not plan.controls)
    )


def arithmetic_of(request: Request) -> Hashable:
    """Return what decides, besides the shapes, in which order a request's numbers are added."""
    settings = request.settings
    names = [each.name for each in (*fields(SpeedSettings), *fields(ShortcutSettings))]
    return settings.precision, _adapters(request), _values(settings, names)


def texts_of(request: Request) -> Hashable:
    """Return what the encoding of a text depends on, besides the text and the model."""
    settings, plain = request.settings, request.settings.prompt_syntax == "compvis"
    names = ["prompt_syntax", "clip_skip", "emphasis", "precision", "kernels", "compile"]
    steps = () if plain else settings.ddim_steps  # prompts may change on the way
    return _values(settings, names), steps, _adapters(request)


def _adapters(request: Request) -> Hashable:
    plan = request.adapters
    if plan is None:
        return ()
    return tuple(plan.loras_of(request.prompts[0])), tuple(each.path for each in plan.embeddings)


def _values(settings: GenerationSettings, names: list[str]) -> tuple[tuple[str, Any], ...]:
    return tuple((name, getattr(settings, name)) for name in names)
