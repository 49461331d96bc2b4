"""Any kind of diffusion model, guided or not, as DPM-Solver wants it: noise from x and a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ldm.errors import UserError
from ldm.process import prediction
from ldm.process.guidance import make_guider
from ldm.types import Conditioning

KINDS = {"noise": "eps", "x_start": "x0", "v": "v"}
"""What a model may predict, by DPM-Solver's names and by ours."""
GUIDANCE = ("uncond", "classifier", "classifier-free")


def expand_dims(v: Tensor, dims: int) -> Tensor:
    """Return ``v`` (B,) with ``dims`` dimensions, (B, 1, ..., 1)."""
    return v.reshape(-1, *(1,) * (dims - 1))


class NoiseModel:
    """What ``model_wrapper`` returns; its parameters are there."""

    def __init__(self, model: Callable, noise_schedule: Any, model_type: str, guidance_type: str):
        if model_type not in (*KINDS, "score"):
            raise UserError(
                f"model_type {model_type!r} given; expected {', '.join(KINDS)} or score"
            )
        if guidance_type not in GUIDANCE:
            raise UserError(
                f"guidance_type {guidance_type!r} given; expected one of {', '.join(GUIDANCE)}"
            )
        self.model, self.process = model, noise_schedule
        self.model_type, self.guidance_type = model_type, guidance_type
        self.keywords: Mapping[str, Any] = {}
        self.cond: Conditioning = None
        self.uncond: Conditioning = None
        self.scale = 1.0
        self.log_probability: Callable[[Tensor, Tensor], Tensor] | None = None

    def __call__(self, x: Tensor, t_continuous: Tensor) -> Tensor:
        """Return the noise (B,C,h,w) in ``x`` at continuous times (B,) or one for all."""
        t = t_continuous.reshape(-1).expand(x.shape[0])
        if self.guidance_type == "uncond":
            return self.predict(x, t)
        if self.guidance_type == "classifier":
            return self._steered(x, t)
        guider = make_guider(self.scale, self.uncond)
        return guider.combine(self.predict(*guider.prepare(x, t, self.cond, self.uncond)), t)

    def predict(self, x: Tensor, t: Tensor, cond: Conditioning = None) -> Tensor:
        """Return the noise (B,C,h,w) that one call of the model finds; None is no condition."""
        given = () if cond is None else (cond,)
        out = self.model(x, self.input_time(t), *given, **self.keywords)
        if self.model_type == "noise":
            return out
        s = expand_dims(self.process.marginal_std(t), x.ndim)
        if self.model_type == "score":
            return -s * out
        a = expand_dims(self.process.marginal_alpha(t), x.ndim)
        return prediction.to_eps(out, x, a, s, KINDS[self.model_type])

    def input_time(self, t: Tensor) -> Tensor:
        """Return what the model is given for times (B,): 0 ... T-1 if it knows training steps."""
        if self.process.schedule != "discrete":
            return t
        return (t - 1.0 / self.process.total_N) * self.process.total_N

    def _steered(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the noise led by a classifier's gradient: arXiv:2105.05233, Algorithm 2."""
        if self.log_probability is None:
            raise UserError("classifier guidance given without a classifier; give classifier_fn")
        with torch.enable_grad():
            leaf = x.detach().requires_grad_(True)
            score = self.log_probability(leaf, self.input_time(t)).sum()
            gradient = torch.autograd.grad(score, leaf)[0]
        s = expand_dims(self.process.marginal_std(t), x.ndim)
        return self.predict(x, t) - self.scale * s * gradient


def model_wrapper(
    model: Callable,
    noise_schedule: Any,
    model_type: str = "noise",
    model_kwargs: Mapping[str, Any] | None = None,
    guidance_type: str = "uncond",
    condition: Conditioning = None,
    unconditional_condition: Conditioning = None,
    guidance_scale: float = 1.0,
    classifier_fn: Callable | None = None,
    classifier_kwargs: Mapping[str, Any] | None = None,
) -> NoiseModel:
    """Return a model as a function of x (B,C,h,w) and continuous times (B,) that predicts noise.

    Args:
        model: Called with x, its own times (B,), the condition if there is one, and
            ``model_kwargs``.
        noise_schedule: A ``NoiseScheduleVP``.
        model_type: What it predicts: ``noise``, ``x_start``, ``v`` or ``score``.
        guidance_type: ``uncond``, ``classifier`` or ``classifier-free``.
        condition: What is wanted, for both kinds of guidance.
        unconditional_condition: Its counterpart for classifier-free guidance.
        guidance_scale: 1 is none where it is classifier-free.
        classifier_fn: Called with x, the model's times, ``condition`` and ``classifier_kwargs``;
            returns log probabilities (B,).

    Raises:
        UserError: An unknown ``model_type`` or ``guidance_type``.
    """
    wrapped = NoiseModel(model, noise_schedule, model_type, guidance_type)
    wrapped.keywords = model_kwargs or {}
    wrapped.cond, wrapped.uncond, wrapped.scale = condition, unconditional_condition, guidance_scale
    if classifier_fn is not None:
        keywords = classifier_kwargs or {}
        wrapped.log_probability = lambda x, t: classifier_fn(x, t, condition, **keywords)
    return wrapped
