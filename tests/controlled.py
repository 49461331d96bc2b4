"""Walks of narrow models under attention control, and a controller that notes what it is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from narrow_models import narrow_config, narrow_model
from torch import Tensor, nn

from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.modules.attention_control.controller import Controller
from ldm.modules.attention_control.moments import Moment, Row
from ldm.modules.attention_control.seam import control_attention
from ldm.modules.attention_control.sites import Site

TOKENS, WIDTH = 6, 32


def narrow_hub(kind: str = "v1", **unet: Any) -> nn.Module:
    """Build a narrow model with random weights, without a text encoder.

    Args:
        kind: As ``narrow_config`` has it.
        **unet: Parameters of its UNet.
    """
    config = narrow_config(kind)
    config["model"]["params"]["cond_stage_config"] = {"target": "torch.nn.Identity"}
    config["model"]["params"]["unet_config"]["params"].update(unet)
    return narrow_model(config)


def contexts(pictures: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return random cond and uncond (B, L, D)."""
    generator = torch.Generator().manual_seed(seed)
    cond, uncond = torch.randn(2, pictures, TOKENS, WIDTH, generator=generator)
    return cond, uncond


def draw(
    model: nn.Module,
    sampler: str = "ddim",
    *,
    steps: int = 4,
    pictures: int = 2,
    side: tuple[int, int] = (8, 8),
    scale: float = 2.0,
    rows: Sequence[int] | None = None,
    **options: Any,
) -> Tensor:
    """Draw samples (B, 4, h, w), the same for the same arguments.

    Args:
        rows: Draw only these of the pictures.
    """
    cond, uncond = contexts(pictures)
    x = torch.randn(pictures, 4, *side, generator=torch.Generator().manual_seed(1))
    if rows is not None:
        cond, uncond, x = cond[rows], uncond[rows], x[rows]
    torch.manual_seed(2)
    samples, _ = make_sampler(sampler, model).sample(
        steps,
        len(x),
        (4, *side),
        cond,
        x_T=x,
        unconditional_guidance_scale=scale,
        unconditional_conditioning=None if scale == 1.0 else uncond,
        verbose=False,
        **options,
    )
    return samples


class Notes(Controller):
    """Notes the calls, and what it is told of walks.

    Attributes:
        calls: (probabilities, site, moment, rows) in order.
        walks: The sites, each time that a walk began.
        steps: Moments of ``before_step`` and ``after_step``, by name.
    """

    def __init__(self, kind: str | None = None) -> None:
        self.kind, self.calls, self.walks = kind, [], []
        self.steps: list[tuple[str, Moment]] = []

    def begin(self, sites: Sequence[Site]) -> None:
        self.walks.append(tuple(sites))

    def wants(self, site: Site, moment: Moment) -> bool:  # noqa: ARG002
        return self.kind in (None, site.kind)

    def __call__(self, probs: Tensor, site: Site, moment: Moment, rows: Sequence[Row]) -> None:
        self.calls.append((probs.detach().clone(), site, moment, list(rows)))

    def before_step(self, x: Tensor, moment: Moment, predict: Any) -> Tensor:  # noqa: ARG002
        self.steps.append(("before", moment))
        return x

    def after_step(self, x: Tensor, moment: Moment) -> Tensor:
        self.steps.append(("after", moment))
        return x


class Changes(Controller):
    """Hands every table of probabilities to a function, and uses what that returns.

    Args:
        change: (probabilities, site, moment, rows) -> probabilities or None.
    """

    def __init__(self, change: Any) -> None:
        self.change = change

    def __call__(
        self, probs: Tensor, site: Site, moment: Moment, rows: Sequence[Row]
    ) -> Tensor | None:
        return self.change(probs, site, moment, rows)


def drawn_under(controller: Controller, model: nn.Module, *args: Any, **options: Any) -> Tensor:
    """Return what ``draw`` does under control."""
    with control_attention(model, controller):
        return draw(model, *args, **options)


def state_of(model):
    """Everything by which modules could differ."""
    return {
        name: {
            key: dict(value) if isinstance(value, dict) else id(value)
            for key, value in vars(module).items()
        }
        for name, module in model.named_modules()
    }
