"""Remember where a model looked: the mean of its maps over the steps of a walk.

Shapes: P pictures, heads, N queries, M keys, h w sides of a map.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from ldm.errors import UserError
from ldm.modules.attention_control.controller import Controller
from ldm.modules.attention_control.moments import Moment, Row
from ldm.modules.attention_control.sites import Kind, Place, Site


class AttentionStore(Controller):
    """Keeps the running mean of the maps under the prompts; the pictures stay as they are.

    The published store (arXiv:2208.01626) leaves out maps of more than 32x32 at 512 pixels, and so
    does this one: ``least_rate`` 2.

    Args:
        kinds: Which maps.
        places: Of which part of the UNet.
        least_rate: Leave out maps whose sides are less than so many times smaller than the
            latents'; 1 takes all.
        every: Look at each ``every``-th step, beginning with the first.
        keep_heads: Keep each head's map, not their mean.
        dtype: Of what is kept. float16 rounds at each step: of 50 steps the mean is within 1 %.
        device: Where it is kept.

    Raises:
        UserError: ``every`` is below 1.
    """

    def __init__(
        self,
        kinds: Collection[Kind] = ("cross", "self"),
        places: Collection[Place] = ("down", "mid", "up"),
        *,
        least_rate: int = 2,
        every: int = 1,
        keep_heads: bool = True,
        dtype: torch.dtype = torch.float16,
        device: torch.device | str = "cpu",
    ) -> None:
        if every < 1:
            raise UserError(f"every {every} was given; expected 1 or more; change it")
        self.kinds, self.places, self.least_rate, self.every = kinds, places, least_rate, every
        self.keep_heads, self.dtype, self.device = keep_heads, dtype, device
        self.begin(())

    def begin(self, sites: Sequence[Site]) -> None:  # noqa: ARG002
        self._means: dict[str, dict[int, Tensor]] = {}
        self._counts: dict[tuple[str, int], int] = {}
        self.sites: dict[str, Site] = {}

    def wants(self, site: Site, moment: Moment) -> bool:
        chosen = site.kind in self.kinds and site.place in self.places
        return chosen and site.rate >= self.least_rate and (moment.number or 0) % self.every == 0

    def __call__(
        self,
        probs: Tensor,
        site: Site,
        moment: Moment,  # noqa: ARG002
        rows: Sequence[Row],
    ) -> None:
        self.sites[site.path] = site
        for number, row in enumerate(rows):
            if row.part == "cond":
                self._add(site.path, row.picture, probs[number].detach())

    def _add(self, path: str, picture: int, maps: Tensor) -> None:
        """Move the mean of a picture's maps (heads, N, M) by one more."""
        maps = (maps if self.keep_heads else maps.mean(0, keepdim=True)).to(self.device)
        means = self._means.setdefault(path, {})
        count = self._counts[path, picture] = self._counts.get((path, picture), 0) + 1
        if count > 1:
            before = means[picture].to(maps.dtype)
            maps = before + (maps - before) / count
        means[picture] = maps.to(self.dtype)

    def mean(self, path: str) -> Tensor:
        """Return the mean maps of one layer, (P, heads, N, M); one head without ``keep_heads``.

        Raises:
            UserError: It was not looked at.
        """
        if path not in self._means:
            raise UserError(
                f"no maps of {path!r} are kept; expected one of {', '.join(self._means) or 'none'};"
                " draw a picture with the store in charge, or choose more sites"
            )
        means = self._means[path]
        return torch.stack([means[picture] for picture in sorted(means)])

    def aggregate(
        self,
        rate: int,
        *,
        kind: Kind = "cross",
        places: Collection[Place] = ("down", "up"),
    ) -> Tensor:
        """Return the mean over the layers of one resolution and over heads, float32 (P, h, w, M).

        Args:
            rate: How many times smaller than the latents' the maps' sides are.
            kind: Which maps.
            places: Of which part of the UNet.

        Raises:
            UserError: No such map was kept.
        """
        chosen = [
            site
            for site in self.sites.values()
            if site.rate == rate and site.kind == kind and site.place in places
        ]
        if not chosen:
            there = sorted({(s.rate, s.kind, s.place) for s in self.sites.values()})
            raise UserError(
                f"no {kind} maps {rate} times smaller than the latents are kept of {list(places)}; "
                f"expected one of {there} (rate, kind, place); choose another rate, or let the "
                "store keep more"
            )
        total = sum(self.mean(site.path).float().mean(1) for site in chosen) / len(chosen)
        return total.unflatten(1, chosen[0].side)  # (P, N, M) -> (P, h, w, M)
