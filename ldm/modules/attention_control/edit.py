"""Edit a picture by editing its prompt: what Replace, Refine and Reweight share.

arXiv:2208.01626. A batch holds a source and its targets, drawn from the same noise. In a window of
steps the targets get the source's attention, as the edit says.

Shapes: heads, N queries, L tokens; maps of one row are (heads, N, L), or (heads, N, N) of self.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from ldm.errors import UserError
from ldm.modules.attention_control.controller import Controller, Predict
from ldm.modules.attention_control.moments import Moment, Row
from ldm.modules.attention_control.sites import QUARTER, Site, nearest_rate
from ldm.modules.attention_control.windows import Windows, is_within, token_windows
from ldm.modules.attention_control.words import TokenizedPrompt
from ldm.settings.edit_words import DEFAULT, Window

T = TypeVar("T")
CROSS_STEPS, SELF_STEPS = 0.8, 0.4


class PromptEdit(Controller):
    """Base of the edits: gives the targets the source's attention during windows of steps.

    The sampler's batch is laid out [all pictures of the source, all of the first target, ...].

    Args:
        source: The prompt of the picture that is edited.
        targets: The edited prompts.
        cross_steps: When words have the source's maps, see ``ldm.modules.attention_control
            .windows``; 0.8 is the paper's usual value.
        self_steps: When the map's own positions do; 0.4 is the usual value.
        self_rate: Self-attention is replaced in maps whose sides are at least so many times
            smaller than the latents'; the published 16x16 of 64x64 is 4. None takes the nearest
            that the UNet has, see ``nearest_rate``.
        pictures: How many pictures of each prompt the batch holds.

    Raises:
        UserError: There is no target, or a window is none.
    """

    def __init__(
        self,
        source: TokenizedPrompt,
        targets: Sequence[TokenizedPrompt],
        *,
        cross_steps: Windows = CROSS_STEPS,
        self_steps: Window = SELF_STEPS,
        self_rate: int | None = None,
        pictures: int = 1,
    ) -> None:
        if not targets:
            raise UserError("no edited prompt was given; expected one or more; give one")
        self.source, self.targets, self.pictures = source, tuple(targets), pictures
        self.cross_steps, self.self_steps, self.self_rate = cross_steps, self_steps, self_rate
        by_word = cross_steps if isinstance(cross_steps, Mapping) else {DEFAULT: cross_steps}
        self._by_target = by_prompt(by_word, self.targets)
        self._tables(1)  # raises on what is no window
        is_within(self_steps, 0, 1, "self_steps")

    @abstractmethod
    def edited(self, base: Tensor, own: Tensor, target: int) -> Tensor:
        """Return a target's cross maps (heads, N, L) inside the window.

        Args:
            base: The source's.
            own: The target's own.
            target: Its number, from 0.
        """

    def begin(self, sites: Sequence[Site]) -> None:
        self._sources: dict[tuple[str, int], Tensor] = {}
        self._windows: Tensor | None = None
        self._self_rate = self.self_rate
        if sites and self.self_rate is None:
            self._self_rate = nearest_rate(sites, QUARTER)

    def before_step(self, x: Tensor, moment: Moment, predict: Predict) -> Tensor:  # noqa: ARG002
        check_batch(len(x), 1 + len(self.targets), self.pictures)
        return x

    def after_step(self, x: Tensor, moment: Moment) -> Tensor:  # noqa: ARG002
        # A step's maps are no source of another's, nor worth keeping when the walk is over.
        self._sources.clear()
        return x

    def wants(self, site: Site, moment: Moment) -> bool:
        moment.require_walk()
        if site.kind == "cross":
            return bool(self._now(moment).any())
        inside = is_within(self.self_steps, moment.number, moment.total, "self_steps")
        return inside and site.rate >= self._self_rate

    def __call__(
        self, probs: Tensor, site: Site, moment: Moment, rows: Sequence[Row]
    ) -> Tensor | None:
        changed: dict[int, Tensor] = {}
        for number, row in enumerate(rows):
            if row.part != "cond":
                continue
            prompt, picture = divmod(row.picture, self.pictures)
            if prompt == 0:
                self._sources[site.path, picture] = probs[number]
            else:
                base = self._source(site, picture)
                changed[number] = self._changed(base, probs[number], site, moment, prompt - 1)
        if not changed:
            return None
        return torch.stack([changed.get(n, maps) for n, maps in enumerate(probs)])

    def _source(self, site: Site, picture: int) -> Tensor:
        if (site.path, picture) not in self._sources:
            raise UserError(
                "a target's row was computed before its source's; expected a batch of "
                f"[{self.pictures} of the source, {self.pictures} of each target]; say pictures="
            )
        return self._sources[site.path, picture]

    def _changed(
        self, base: Tensor, own: Tensor, site: Site, moment: Moment, target: int
    ) -> Tensor:
        if site.kind == "self":
            return base
        if target >= len(self.targets):
            raise UserError(
                f"the batch holds more prompts than the {1 + len(self.targets)} of the edit, each "
                f"with {self.pictures} pictures; give as many targets, or say pictures="
            )
        share = self._now(moment)[target].to(own)  # (L,)
        return self.edited(base, own, target) * share + own * (1.0 - share)

    def _now(self, moment: Moment) -> Tensor:
        """Return for each target and token whether the edit holds in this step: (targets, L)."""
        total = moment.require_walk().total
        if self._windows is None or len(self._windows) != total + 1:
            self._windows = self._tables(total)
        return self._windows[moment.number]

    def _tables(self, total: int) -> Tensor:
        """Return for each step, target and token whether the edit holds: (T + 1, targets, L)."""
        pairs = zip(self._by_target, self.targets, strict=True)
        tables = [token_windows(own, target, total, "cross_steps") for own, target in pairs]
        return torch.stack(tables, dim=1)


def check_batch(rows: int, prompts: int, pictures: int) -> None:
    """Check that a batch holds what an edit was made for.

    Raises:
        UserError: It does not; who is whose source could not be told.
    """
    if rows != prompts * pictures:
        raise UserError(
            f"a batch of {rows} rows was drawn with an edit of {prompts} prompts (the source and "
            f"its targets) and pictures={pictures}; expected {prompts * pictures} rows; give as "
            "many prompts and pictures= of each as are drawn"
        )


def by_prompt(values: Mapping[str, T], prompts: Sequence[TokenizedPrompt]) -> list[dict[str, T]]:
    """Return for each prompt the entries whose words it has; ``default_`` is in all.

    Raises:
        UserError: A word is in none of the prompts.
    """
    chosen: list[dict[str, T]] = [{} for _ in prompts]
    for word, value in values.items():
        has = [word == DEFAULT or prompt.has(word) for prompt in prompts]
        if not any(has):
            prompts[0].positions(word)  # raises, with the nearest word
        for entries, there in zip(chosen, has, strict=True):
            entries |= {word: value} if there else {}
    return chosen
