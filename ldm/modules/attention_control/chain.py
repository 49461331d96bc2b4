"""Several controllers in charge of one model: each works on what the one before it made."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ldm.modules.attention_control.controller import Controller, Predict
from ldm.modules.attention_control.moments import Moment, Row
from ldm.modules.attention_control.sites import Site


class Chain(Controller):
    """Controllers in order; one that changes nothing hands on what it was given.

    Args:
        *controllers: The first sees the model's own probabilities.
    """

    def __init__(self, *controllers: Controller) -> None:
        self.controllers = controllers

    def begin(self, sites: Sequence[Site]) -> None:
        for each in self.controllers:
            each.begin(sites)

    def wants(self, site: Site, moment: Moment) -> bool:
        return any(each.wants(site, moment) for each in self.controllers)

    def __call__(self, probs: Tensor, site: Site, moment: Moment, rows: Sequence[Row]) -> Tensor:
        for each in self.controllers:
            if each.wants(site, moment):
                used = each(probs, site, moment, rows)
                probs = probs if used is None else used
        return probs

    def before_step(self, x: Tensor, moment: Moment, predict: Predict) -> Tensor:
        for each in self.controllers:
            x = each.before_step(x, moment, predict)
        return x

    def after_step(self, x: Tensor, moment: Moment) -> Tensor:
        for each in self.controllers:
            x = each.after_step(x, moment)
        return x
