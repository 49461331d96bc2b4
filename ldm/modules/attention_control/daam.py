"""DAAM: where a picture heeds each word, as heat maps over the latents. arXiv:2210.04885.

Shapes: P pictures, heads, L tokens, h w sides of a map, h0 w0 sides of the latents.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ldm.errors import UserError
from ldm.modules.attention_control.controller import Controller
from ldm.modules.attention_control.moments import Moment, Row
from ldm.modules.attention_control.sites import Place, Site


class HeatMaps(Controller):
    """Sums the cross-attention of all steps, layers and heads at the latents' size.

    Maps are enlarged bicubically, and what the cubic undershoots is clipped at 0; the authors'
    program clips after its sum over the steps. Memory does not grow with the steps: one table
    (L, h0, w0) for each picture. The pictures stay as they are.

    Args:
        places: Of which parts of the UNet; the published ones are the way down and up.
    """

    def __init__(self, places: Collection[Place] = ("down", "up")) -> None:
        self.places = places
        self.begin(())

    def begin(self, sites: Sequence[Site]) -> None:  # noqa: ARG002
        self._sums: dict[int, Tensor] = {}

    def wants(self, site: Site, moment: Moment) -> bool:  # noqa: ARG002
        return site.kind == "cross" and site.place in self.places

    def __call__(
        self,
        probs: Tensor,
        site: Site,
        moment: Moment,  # noqa: ARG002
        rows: Sequence[Row],
    ) -> None:
        for number, row in enumerate(rows):
            if row.part == "cond":
                maps = probs[number].detach().mT.unflatten(-1, site.side)  # (heads, L, h, w)
                if site.rate > 1:
                    maps = F.interpolate(maps, size=site.latent, mode="bicubic").clamp(min=0)
                self._sums[row.picture] = self._sums.get(row.picture, 0) + maps.sum(0)

    def of(self, positions: Sequence[int], *, absolute: bool = False) -> Tensor:
        """Return the heat maps of a word, (P, h0, w0).

        Args:
            positions: Its tokens, over which the maps are averaged; the start token's is 0.
            absolute: Return the sums themselves, which compare between words; else each map runs
                from 0 to 1, as the authors draw them.

        Raises:
            UserError: Nothing was drawn yet, or there are no such tokens.
        """
        if not self._sums:
            raise UserError("no heat maps are there; draw a picture with HeatMaps in charge first")
        heat = torch.stack([self._sums[picture] for picture in sorted(self._sums)])
        if not positions or min(positions) < 0 or max(positions) >= heat.shape[1]:
            raise UserError(
                f"tokens {list(positions)} were given; expected some of 0 ... {heat.shape[1] - 1}"
            )
        heat = heat[:, list(positions)].mean(1)  # (P, L, h0, w0) -> (P, h0, w0)
        low, high = heat.amin((1, 2), keepdim=True), heat.amax((1, 2), keepdim=True)
        return heat if absolute else (heat - low) / (high - low + 1e-8)
