"""Walks of attention without a model: probabilities that depend on layer, step and row alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from ldm.modules.attention_control.controller import Controller
from ldm.modules.attention_control.moments import Moment, Row
from ldm.modules.attention_control.sites import Site, sites_of
from ldm.modules.diffusionmodules.openaimodel import UNetModel

HEADS, LENGTH = 2, 77


@lru_cache
def sites_of_v1() -> tuple[Site, ...]:
    """Return the layers of Stable Diffusion v1; no weight is made."""
    with torch.device("meta"):
        unet = UNetModel(
            image_size=32,
            in_channels=4,
            out_channels=4,
            model_channels=320,
            attention_resolutions=[4, 2, 1],
            num_res_blocks=2,
            channel_mult=[1, 2, 4, 4],
            num_heads=8,
            use_spatial_transformer=True,
            transformer_depth=1,
            context_dim=768,
            legacy=False,
        )
    return tuple(sites_of(unet))


def probabilities(site: Site, number: int, row: int, part: str = "cond") -> Tensor:
    """Return (heads, N, L) after a softmax."""
    h, w = site.side
    seed = 1000 * site.number + 10 * number + row + (5 if part == "cond" else 0)
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(HEADS, h * w, LENGTH, generator=generator).softmax(-1)


def walk(
    controller: Controller,
    sites: Sequence[Site],
    latent: tuple[int, int],
    *,
    rows: int = 1,
    steps: int = 1,
    part: int | None = None,
    times: Sequence[float] | None = None,
    evaluations: int = 1,
    stop_after: int | None = None,
) -> None:
    """Let a controller see a walk with guidance, a few of its rows at a time."""
    layout = [Row(kind, n) for kind in ("uncond", "cond") for n in range(rows)]
    controller.begin(sites)
    x = torch.zeros(rows, 4, *latent)
    for number in range(steps):
        if number == stop_after:
            return
        time = times[number] if times else 981 - 20 * number
        moment = Moment(number, steps, time)
        x = controller.before_step(x, moment, lambda x: x)
        for evaluation in range(evaluations):
            now = replace(moment, evaluation=evaluation)
            _call(controller, sites, latent, now, layout, part or len(layout))
        x = controller.after_step(x, moment)


def _call(
    controller: Controller,
    sites: Sequence[Site],
    latent: tuple[int, int],
    moment: Moment,
    layout: Sequence[Row],
    part: int,
) -> None:
    for first in range(0, len(layout), part):
        rows = layout[first : first + part]
        for site in sites:
            here = replace(site, side=tuple(-(-side // site.rate) for side in latent))
            if controller.wants(here, moment):
                shift = 100 * moment.evaluation
                maps = [probabilities(here, moment.number, r.picture + shift, r.part) for r in rows]
                assert controller(torch.stack(maps), here, moment, rows) is None
