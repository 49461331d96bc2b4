"""Keep an edit local: elsewhere than where chosen words look, the latents stay the source's.

Shapes: P prompts (the source and its targets), n pictures of each, B = P n, L tokens, h w sides of
the maps, x (B, C, h0, w0).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ldm.errors import UserError
from ldm.modules.attention_control.controller import Controller
from ldm.modules.attention_control.edit import check_batch
from ldm.modules.attention_control.moments import Moment, Row
from ldm.modules.attention_control.sites import QUARTER, Site, nearest_rate
from ldm.modules.attention_control.store import AttentionStore
from ldm.modules.attention_control.words import TokenizedPrompt

THRESHOLD, START = 0.3, 0.2


class LocalBlend(Controller):
    """Blends latents after each step by the maps of words: arXiv:2208.01626, section 3.2.

    The maps are those of the layers at a quarter of the latents' sides, on the way down and up,
    summed over the steps so far. x_t becomes x_src + mask (x_t - x_src), where the mask is that of
    the source's words or the target's, a place of the maps wider on each side, less that of the
    words to subtract, which is not widened (as published).

    Args:
        prompts: The source and the targets.
        words: For each prompt the words whose places may change.
        subtract: For each prompt words whose places may not.
        threshold: Where a map, as a share of its largest value, begins to count.
        subtract_threshold: The same for ``subtract``.
        start: Share of the steps before the first blending.
        rate: How many times smaller than the latents' the maps' sides are; None takes the nearest
            to a quarter that the UNet has.
        pictures: How many pictures of each prompt the batch holds.

    Raises:
        UserError: A word is not in its prompt, or the lists do not fit the prompts.
    """

    def __init__(
        self,
        prompts: Sequence[TokenizedPrompt],
        words: Sequence[Sequence[str]],
        *,
        subtract: Sequence[Sequence[str]] = (),
        threshold: float = THRESHOLD,
        subtract_threshold: float = THRESHOLD,
        start: float = START,
        rate: int | None = None,
        pictures: int = 1,
    ) -> None:
        for name, given in (("words", words), ("subtract", subtract or words)):
            if len(given) != len(prompts):
                raise UserError(
                    f"{name} for {len(given)} prompts were given; expected one list for each of "
                    f"the {len(prompts)} prompts, the source first; change it"
                )
        self.chosen = selection(prompts, words)
        self.excluded = selection(prompts, subtract) if subtract else None
        self.threshold, self.subtract_threshold = threshold, subtract_threshold
        self.start, self.rate, self.pictures = start, rate, pictures

    def begin(self, sites: Sequence[Site]) -> None:
        rate = self.rate if self.rate or not sites else nearest_rate(sites, QUARTER)
        self._rate = rate or QUARTER
        self._store = AttentionStore(
            ("cross",), ("down", "up"), least_rate=self._rate, dtype=torch.float32, device="cpu"
        )

    def wants(self, site: Site, moment: Moment) -> bool:
        return site.rate == self._rate and self._store.wants(site, moment)

    def __call__(
        self, probs: Tensor, site: Site, moment: Moment, rows: Sequence[Row]
    ) -> Tensor | None:
        return self._store(probs, site, moment, rows)

    def after_step(self, x: Tensor, moment: Moment) -> Tensor:
        moment.require_walk()
        check_batch(len(x), len(self.chosen), self.pictures)
        if moment.number < int(self.start * moment.total):
            return x
        mask = self.mask(x.shape[-2:]).to(x.device)  # (P, n, 1, h0, w0)
        prompts = x.unflatten(0, (-1, self.pictures))  # (P, n, C, h0, w0)
        source = prompts[:1]
        # The source's own row is x_src + mask * 0: it stays to the bit.
        return torch.where(mask, prompts, source).flatten(0, 1)

    def mask(self, side: tuple[int, int]) -> Tensor:
        """Return where latents of ``side`` may differ from the source's, (P, n, 1, h, w)."""
        maps = self._store.aggregate(self._rate)  # (B, h, w, L)
        maps = maps.unflatten(0, (-1, self.pictures))  # (P, n, h, w, L)
        mask = marked(spread(maps, self.chosen), self.threshold, side)
        mask = mask[:1] | mask
        if self.excluded is not None:
            without = marked(heat(maps, self.excluded), self.subtract_threshold, side)
            mask = mask & ~(without[:1] | without)
        return mask[:, :, None]


def selection(prompts: Sequence[TokenizedPrompt], words: Sequence[Sequence[str]]) -> Tensor:
    """Return which tokens belong to the words of each prompt, 1 or 0: (P, L)."""
    chosen = torch.zeros(len(prompts), prompts[0].length)
    for row, prompt, names in zip(chosen, prompts, words, strict=True):
        for name in names:
            row[list(prompt.positions(name))] = 1.0
    return chosen


def heat(maps: Tensor, chosen: Tensor) -> Tensor:
    """Return how much ``chosen`` tokens (P, L) are looked at, (P, n, h, w, L) -> (P, n, h, w)."""
    return torch.einsum("pnhwl,pl->pnhw", maps, chosen)


def spread(maps: Tensor, chosen: Tensor) -> Tensor:
    """Return ``heat``, each place with the largest of its 3x3 neighbours: a rim around things."""
    return F.max_pool2d(heat(maps, chosen), kernel_size=3, stride=1, padding=1)


def marked(heat: Tensor, threshold: float, side: tuple[int, int]) -> Tensor:
    """Return where maps (P, n, h, w) exceed a share of their largest value: bool (P, n, *side)."""
    heat = F.interpolate(heat, size=side)  # nearest neighbours
    largest = heat.amax((-2, -1), keepdim=True)
    return heat > threshold * largest
