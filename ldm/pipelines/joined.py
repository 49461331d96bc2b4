"""Walks of several pictures that were begun one by one, taken together.

    each picture: begin(Taken, ...) -> its start and the keywords of ``Sampler.walk``
    Joined: those of one form as one walk -> the end of each

Shapes: B pictures, C h w latent, L D tokens and their width.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ldm.models.diffusion.sampler import Sampler
from ldm.process.guidance import ClassifierFreeGuidance, RowGuidance
from ldm.prompts.guidance import PromptGuidance
from ldm.rng import PerImageNoise
from ldm.types import SamplerState

SCALE, UNCOND = "unconditional_guidance_scale", "unconditional_conditioning"


class Taken:
    """Stands in for a sampler where a picture's walk begins, and takes down how.

    Args:
        sampler: With its schedule made; all but ``walk`` is its own.

    Attributes:
        x: The start (1, C, h, w).
        keywords: Those of ``Sampler.walk``.
    """

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self.x: Tensor | None = None
        self.keywords: dict[str, Any] = {}
        self._state: SamplerState | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sampler, name)

    def walk(self, x: Tensor, **keywords: Any) -> Iterator[SamplerState]:
        """Take down a walk; its states are those that ``show`` is given."""
        self.x, self.keywords = x, keywords
        return self._states()

    def _states(self) -> Iterator[SamplerState]:
        while self._state is not None:
            yield self._state

    def begin(
        self, start: Callable[..., tuple[Tensor, Iterator[SamplerState]]], **given: Any
    ) -> None:
        """Let ``start(sampler, ...)`` begin a walk here, as ``TextWalk.begin`` does."""
        self.x, self._changed = start(self, **given)

    def show(self, state: SamplerState) -> SamplerState:
        """Return what who began the walk makes of a state of it."""
        self._state = state
        return next(self._changed)

    @property
    def form(self) -> Hashable:
        """What has to be equal where walks are taken together."""
        return form_of({k: v for k, v in self.keywords.items() if k not in (SCALE, "noise")})


def form_of(value: Any) -> Hashable:
    """Return the shapes of a walk's keyword, for one picture; its numbers where it has none."""
    if isinstance(value, Tensor):
        return "tensor", value.shape[1:], value.dtype
    if isinstance(value, Mapping):
        return tuple((key, form_of(value[key])) for key in sorted(value))
    if isinstance(value, list | tuple):
        return tuple(map(form_of, value))
    if isinstance(value, PromptGuidance):
        return value.form
    return value if isinstance(value, Hashable) else id(value)


def join(values: Sequence[Any]) -> Any:
    """Return one keyword for the pictures of several, all of one form."""
    first = values[0]
    if len(values) == 1:
        return first
    if isinstance(first, Tensor):
        return torch.cat(list(values))
    if isinstance(first, Mapping):
        return {key: join([value[key] for value in values]) for key in first}
    if isinstance(first, list | tuple):
        return [join(each) for each in zip(*values, strict=True)]
    if isinstance(first, PromptGuidance):
        return PromptGuidance.joined(values)
    if isinstance(first, PerImageNoise):
        return PerImageNoise.joined(values)
    return first


class Joined:
    """Walks of one form as one.

    Args:
        walks: Those of the pictures, begun.
    """

    def __init__(self, walks: Sequence[Taken]) -> None:
        self.walks = walks
        scales = [each.keywords.get(SCALE, 1.0) for each in walks]
        names = [name for name in walks[0].keywords if name != SCALE]
        self._keywords = {name: join([w.keywords[name] for w in walks]) for name in names}
        if self._keywords.get(UNCOND) is not None and "guider" not in self._keywords:
            self._keywords["guider"] = _guider(scales)

    def latents(self, sampler: Sampler, tick: Callable[[SamplerState], None]) -> list[Tensor]:
        """Take the steps; return the end of each picture's walk, (1, C, h, w).

        Args:
            sampler: With its schedule made.
            tick: Called with the state after each step, a row for each picture.
        """
        found = [each.x for each in self.walks]
        # A prompt that changes on the way is guided by what knows the step.
        guided = getattr(self._keywords.get("guider"), "following", nullcontext)
        with guided():
            states = sampler.walk(join(found), **self._keywords)
            for state in states:
                shown = zip(self.walks, _rows(state), strict=True)
                found = [each.show(row).x for each, row in shown]
                tick(state)
        return found


def _guider(scales: Sequence[float]) -> ClassifierFreeGuidance:
    if len(set(scales)) == 1:
        return ClassifierFreeGuidance(scales[0])
    return RowGuidance(torch.tensor(scales).reshape(-1, 1, 1, 1))


def _rows(state: SamplerState) -> Iterator[SamplerState]:
    """Yield the state of each picture, (1, C, h, w)."""
    for row in range(len(state.x)):
        part = slice(row, row + 1)
        yield replace(state, x=state.x[part], x0=state.x0[part], eps=state.eps[part])
