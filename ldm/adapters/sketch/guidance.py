"""Guidance by a sketch: after a step, samples move down the slope of the predicted edges' error.

arXiv:2211.13752, section 4.2. Shapes: B samples, C channels of the latents, h w their sides.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ldm.adapters.handle import Handle, Scale, at_moment, require_unet, within
from ldm.adapters.pictures import opened
from ldm.adapters.report import wrong_base
from ldm.adapters.sketch.edges import edges_drawn, latents_of
from ldm.adapters.sketch.features import KIND, FeatureTap, noise_level, width_of
from ldm.errors import UserError
from ldm.modules.attention_control.controller import Predict
from ldm.modules.attention_control.moments import Moment


class SketchHandle(Handle):
    """A sketch that leads a model's walks. It takes gradients: one call of the model more a step.

    x_{t-1} moves by -beta ||x_t - x_{t-1}|| / ||g|| g, where g is the slope at x_t of
    L = ||P(features) - E(sketch)||^2, each sample by itself.

    Args:
        predictor: P, an ``EdgePredictor``.
        model: The hub.
        sketch: See ``EdgePredictor.attach``.
        scale: beta.
        window: Fractions of the walk between which it acts.
        dark_lines: The lines are dark on white.

    Attributes:
        window: See above; may be set at any time.
        losses: L of each sample (B,), step by step, of the present walk.
    """

    def __init__(
        self,
        predictor: nn.Module,
        model: nn.Module,
        sketch: Any,
        scale: Scale,
        window: tuple[float, float],
        *,
        dark_lines: bool = False,
    ) -> None:
        _check_fit(predictor, model)
        self._pictures = opened(sketch if isinstance(sketch, (list, tuple)) else [sketch])
        super().__init__(model, scale)
        self.window, self.losses = window, []
        self._dark, self._goal = dark_lines, None
        self._predictor = predictor.to(next(require_unet(model).parameters()).device).eval()
        self._slope: tuple[Tensor, Tensor] | None = None
        # Samplers ask the listener itself, see ``moments.stepping``.
        self.follower.before_step, self.follower.after_step = self.before_step, self.after_step

    def before_step(self, x: Tensor, moment: Moment, predict: Predict) -> Tensor:
        """Take the slope at x_t, (B, C, h, w)."""
        self._slope = None
        if moment.number == 0:
            self.losses = []
        if within(*self.window, moment) and at_moment(self.scale, moment) != 0.0:
            self._slope = x, self.slope(x, moment, predict)
        return x

    def after_step(self, x: Tensor, moment: Moment) -> Tensor:
        """Move x_{t-1}, (B, C, h, w)."""
        if self._slope is None:
            return x
        before, g = self._slope
        went = (before - x).flatten(1).norm(dim=1)  # (B,)
        steep = g.flatten(1).norm(dim=1).clamp_min(torch.finfo(torch.float32).tiny)
        alpha = at_moment(self.scale, moment) * went / steep
        return x - (alpha[:, None, None, None] * g).to(x)

    def slope(self, x: Tensor, moment: Moment, predict: Predict) -> Tensor:
        """Return the slope of the loss at x, of x's shape, in float32.

        Raises:
            UserError: Nothing keeps gradients here.
        """
        if torch.is_inference_mode_enabled():
            raise UserError(
                "guidance by a sketch is asked for in torch.inference_mode, which keeps no "
                "gradients; work inside torch.no_grad() in its place"
            )
        goal = self.goal(x)
        level = noise_level(self.model, torch.full((len(x),), moment.time, device=x.device))
        with torch.enable_grad(), FeatureTap(self.model, self._predictor.blocks) as tap:
            predict(x := x.detach().requires_grad_())
            edges = self._predictor(tap.features, level.float(), x.shape[-2:])
            loss = (edges - goal).square().flatten(1).sum(1)  # (B,)
            (g,) = torch.autograd.grad(loss.sum(), x)
        self.losses.append(loss.detach())
        return g.float()

    def goal(self, x: Tensor) -> Tensor:
        """Return E(sketch) for samples (B, C, h, w): of their shape, or (1, C, h, w) for all.

        Raises:
            UserError: There are as many sketches as neither one nor the samples.
        """
        if len(self._pictures) not in (1, len(x)):
            raise UserError(
                f"{len(self._pictures)} sketches are given for {len(x)} samples; expected one, or "
                "one for each; give so many"
            )
        if self._goal is None or self._goal.shape[-2:] != x.shape[-2:]:
            h, w = (side * 2**self.model.num_downs for side in x.shape[-2:])
            maps = [edges_drawn(each, (h, w), dark_lines=self._dark) for each in self._pictures]
            self._goal = latents_of(self.model, torch.cat(maps)).float()
        return self._goal.to(x.device)

    def _release(self) -> None:
        del self.follower.before_step, self.follower.after_step


def _check_fit(predictor: nn.Module, model: nn.Module) -> None:
    """Refuse a model whose blocks are not those that the predictor learned from.

    Raises:
        UserError: They are others.
    """
    unet, report = require_unet(model), predictor.report
    try:
        fits = tuple(width_of(unet, name) for name in predictor.blocks) == predictor.widths
    except UserError:
        fits = False
    if not fits or predictor.layers[-1].out_channels != unet.out_channels:
        made_for = f"a UNet whose {', '.join(predictor.blocks)} are {predictor.widths} wide"
        raise wrong_base(report.path, KIND, made_for, model)
