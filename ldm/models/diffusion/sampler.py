"""One loop for all samplers: schedule, guidance, mask and callbacks around a step rule.

Shapes: B batch, C channels, h w latent sides. Steps are indexed from the clean end: index 0 is the
last step that a walk takes, ``steps - 1`` the first of a full one.
"""

from __future__ import annotations

import difflib
import inspect
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ldm.errors import UserError
from ldm.process import prediction
from ldm.process.guidance import make_guider
from ldm.rng import GlobalNoise, NoiseSource
from ldm.types import Conditioning, EpsModel, Guider, SamplerState

logger = logging.getLogger(__name__)


@dataclass
class Denoiser:
    """The model with its conditioning and guidance: what a step rule asks for predictions.

    Attributes:
        model: Predicts eps, x0 or v.
        cond: Conditioning of the batch.
        uncond: Unconditional counterpart, or None.
        guider: Merges the two.
        noise: Where random numbers come from.
        temperature: Multiplies the noise that a step adds.
        noise_dropout: Share of that noise set to zero.
        quantize_x0: Snap estimates of x0 to the first stage's codebook.
        score_corrector: Object with ``modify_score(model, eps, x, t, cond, **kwargs)``.
        corrector_kwargs: Its keyword arguments.
    """

    model: EpsModel
    cond: Conditioning
    uncond: Conditioning
    guider: Guider
    noise: NoiseSource
    temperature: float = 1.0
    noise_dropout: float = 0.0
    quantize_x0: bool = False
    score_corrector: Any = None
    corrector_kwargs: Mapping[str, Any] | None = None

    def eps(self, x: Tensor, t: float, a: Tensor, s: Tensor) -> Tensor:
        """Return the guided noise estimate (B,C,h,w) at x, in the model's output dtype."""
        out, kind = self._guided(x, t), self.model.parameterization
        if kind != "eps":
            out = prediction.to_eps(out.to(x.dtype), x, a, s, kind)
        if self.score_corrector is None:
            return out
        times = _times(x, t)
        keywords = self.corrector_kwargs or {}
        return self.score_corrector.modify_score(self.model, out, x, times, self.cond, **keywords)

    def x0(self, x: Tensor, t: float, a: Tensor, s: Tensor) -> Tensor:
        """Return the guided estimate of the clean sample (B,C,h,w) at x.

        From eps it is DDPM's Eq. 15 (arXiv:2006.11239); see ``ldm.process.prediction``.
        """
        if self.score_corrector is not None:
            eps = self.eps(x, t, a, s).to(x.dtype)
            return self.snap(prediction.to_x0(eps, x, a, s, "eps"))
        out = self._guided(x, t).to(x.dtype)
        return self.snap(prediction.to_x0(out, x, a, s, self.model.parameterization))

    def snap(self, x0: Tensor) -> Tensor:
        """Return ``x0``, from the codebook when ``quantize_x0`` is set."""
        return self.model.first_stage_model.quantize(x0)[0] if self.quantize_x0 else x0

    def step_noise(self, x: Tensor) -> Tensor:
        """Draw the noise that a step may add, (B,C,h,w); drawn even where it is multiplied by 0."""
        draw = self.noise.randn(x.shape, x.device, x.dtype) * self.temperature
        if self.noise_dropout > 0.0:
            draw = torch.nn.functional.dropout(draw, p=self.noise_dropout)
        return draw

    def _guided(self, x: Tensor, t: float) -> Tensor:
        times = _times(x, t)
        out = self.model.apply_model(*self.guider.prepare(x, times, self.cond, self.uncond))
        return self.guider.combine(out, times)


def _times(x: Tensor, t: float) -> Tensor:
    dtype = torch.long if isinstance(t, int) else torch.float32
    return torch.full((x.shape[0],), t, device=x.device, dtype=dtype)


class Step(NamedTuple):
    """What a step rule returns, each (B,C,h,w): next sample, estimate of x0, guided eps."""

    x: Tensor
    x0: Tensor
    eps: Tensor


StepRule = Callable[[Tensor, int], Step]
"""One step from the sample at an index to the next cleaner one. A rule lives for one walk."""


class Sampler(ABC):
    """Base of the samplers: subclasses bring a schedule and a step rule.

    Args:
        model: What predicts; never modified.
        schedule: Kept for CompVis.
        spacing: Default choice of timesteps, see ``ldm.process.spacing``.
        noise: Default source of random numbers: the reference's global stream.
    """

    def __init__(
        self,
        model: EpsModel,
        schedule: str = "linear",  # noqa: ARG002 - kept for CompVis
        *,
        spacing: str = "uniform",
        noise: NoiseSource | None = None,
    ):
        self.model = model
        self.spacing = spacing
        self.noise = noise or GlobalNoise()
        self.steps = 0

    @abstractmethod
    def make_schedule(
        self,
        ddim_num_steps: int,
        ddim_discretize: str | None = None,
        ddim_eta: float = 0.0,
        verbose: bool = True,
    ) -> None:
        """Lay out the steps; sets ``steps`` to the number that a full walk takes.

        Raises:
            UserError: A step count or spacing that the model does not allow.
        """

    def require_schedule(self) -> None:
        """Check that there are steps to take.

        Raises:
            RuntimeError: ``make_schedule`` was not called.
        """
        if self.steps == 0:
            raise RuntimeError("the sampler has no steps yet; call make_schedule(steps) first")

    @abstractmethod
    def time(self, index: int) -> float:
        """Return the model time of a step."""

    @abstractmethod
    def new_rule(self, denoiser: Denoiser, total: int) -> StepRule:
        """Return the step rule of a walk of ``total`` steps, with a history of its own."""

    @abstractmethod
    def renoise(self, x0: Tensor, index: int, noise: Tensor) -> Tensor:
        """Noise clean samples (B,C,h,w) to where a step begins."""

    @abstractmethod
    def encoding(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return how much of x0 and of noise stands where ``decode`` of ``t`` steps begins.

        Args:
            t: Steps, on the CPU; beyond the schedule's they count as all.
        """

    @torch.no_grad()
    def stochastic_encode(
        self,
        x0: Tensor,
        t: int | Tensor,
        use_original_steps: bool = False,
        noise: Tensor | NoiseSource | None = None,
    ) -> Tensor:
        """Noise clean samples so that ``decode`` of ``t`` steps continues; see ``encoding``.

        Args:
            x0: Clean samples (B,C,h,w).
            t: Steps, one number or one for each sample (B,).
            use_original_steps: Count training steps.
            noise: The noise (B,C,h,w), or where to draw it.

        Raises:
            RuntimeError: No schedule was made.
            UserError: ``use_original_steps`` of a sampler that has none.
        """
        with self.original_steps(use_original_steps):
            scales = self.encoding(torch.as_tensor(t).cpu())
        a, s = (v.reshape(-1, 1, 1, 1).to(x0.device) for v in scales)
        if not isinstance(noise, Tensor):
            noise = (noise or self.noise).randn(x0.shape, x0.device, x0.dtype)
        return a * x0 + s * noise

    @torch.no_grad()
    def walk(
        self,
        x: Tensor,
        cond: Conditioning = None,
        *,
        unconditional_guidance_scale: float = 1.0,
        unconditional_conditioning: Conditioning = None,
        guider: Guider | None = None,
        t_start: int | None = None,
        mask: Tensor | None = None,
        x0: Tensor | None = None,
        noise: NoiseSource | None = None,
        **options: Any,
    ) -> Iterator[SamplerState]:
        """Walk from noise to sample, yielding the state after every step.

        Callers own progress and cancellation: closing the generator ends the walk.

        Args:
            x: Start (B,C,h,w), on any device; left as it is.
            cond: Conditioning.
            unconditional_guidance_scale: 1 means no guidance.
            unconditional_conditioning: None means no guidance.
            guider: In place of plain guidance.
            t_start: Steps to take, counted from the clean end; all by default.
            mask: 1 where ``x0`` is kept and 0 where it is repainted, broadcast to x.
            x0: Clean samples (B,C,h,w) behind the mask.
            noise: Source of random numbers.
            **options: Fields of ``Denoiser`` from ``temperature`` on.

        Raises:
            RuntimeError: No schedule was made.
            ValueError: A mask without ``x0``.
        """
        self.require_schedule()
        if mask is not None and x0 is None:
            raise ValueError("mask given without x0; give the clean samples behind it as well")
        uncond = unconditional_conditioning
        guider = guider or make_guider(unconditional_guidance_scale, uncond)
        source = noise or self.noise
        denoiser = Denoiser(self.model, cond, uncond, guider, source, **options)
        # Half-precision starts: as in the reference the walk itself is in float32.
        x = x.to(self.model.device, torch.promote_types(x.dtype, torch.float32))
        if mask is not None:
            mask, x0 = mask.to(x), x0.to(x)
        total = self.steps if t_start is None else min(t_start, self.steps)
        rule = self.new_rule(denoiser, total)
        for i, index in enumerate(reversed(range(total))):
            if mask is not None:
                known = self.renoise(x0, index, source.randn(x0.shape, x0.device, x0.dtype))
                x = known * mask + (1.0 - mask) * x
            step = rule(x, index)
            x = step.x
            yield SamplerState(step.x, step.x0, step.eps, i, self.time(index), total)

    def sample(
        self,
        S: int,  # noqa: N803 - the reference's name
        batch_size: int,
        shape: tuple[int, int, int],
        conditioning: Conditioning = None,
        *,
        callback: Callable[[int], Any] | None = None,
        img_callback: Callable[[Tensor, int], Any] | None = None,
        eta: float = 0.0,
        x_T: Tensor | None = None,  # noqa: N803 - the reference's name
        verbose: bool = True,
        log_every_t: int = 100,
        noise: NoiseSource | None = None,
        **options: Any,
    ) -> tuple[Tensor, dict[str, list[Tensor]]]:
        """Sample from noise.

        Args:
            S: Steps asked for.
            batch_size: B.
            shape: (C, h, w).
            conditioning: Conditioning of B rows.
            callback: Called with the number of each step.
            img_callback: Called with each estimate of x0 and the step's number.
            eta: Noise added per step, 0 to 1 (DDIM only).
            x_T: Start noise (B,C,h,w); drawn when None.
            verbose: Show a progress bar.
            log_every_t: Keep states whose index is a multiple of this.
            noise: Source of random numbers.
            **options: Keywords of ``walk`` and fields of ``Denoiser``.

        Returns:
            Samples (B,C,h,w), and kept states under ``x_inter`` and ``pred_x0``.

        Raises:
            TypeError: Unknown keyword; the message names the nearest known one.
            UserError: As ``make_schedule``.
        """
        _reject_unknown(options, self.sample, self.walk, Denoiser)
        self.make_schedule(S, ddim_eta=eta, verbose=verbose)
        _warn_on_batch(conditioning, batch_size)
        x = x_T
        if x is None:
            x = (noise or self.noise).randn((batch_size, *shape), self.model.device)
        kept: dict[str, list[Tensor]] = {"x_inter": [x], "pred_x0": [x]}
        states = self.walk(x, conditioning, noise=noise, **options)
        for state in _with_bar(states, self.steps, verbose, type(self).__name__):
            _notify(state, callback, img_callback)
            index = state.total - 1 - state.i
            if index % log_every_t == 0 or state.i == 0:
                kept["x_inter"].append(state.x)
                kept["pred_x0"].append(state.x0)
            x = state.x
        return x, kept

    def decode(
        self,
        x_latent: Tensor,
        cond: Conditioning,
        t_start: int,
        unconditional_guidance_scale: float = 1.0,
        unconditional_conditioning: Conditioning = None,
        use_original_steps: bool = False,
        callback: Callable[[int], Any] | None = None,
        **options: Any,
    ) -> Tensor:
        """Take the last ``t_start`` steps of the schedule from ``x_latent`` (B,C,h,w).

        0 steps return ``x_latent``; ``use_original_steps`` counts training steps.
        """
        _reject_unknown(options, self.walk, Denoiser)
        with self.original_steps(use_original_steps):
            x = x_latent
            for state in self.walk(
                x_latent,
                cond,
                unconditional_guidance_scale=unconditional_guidance_scale,
                unconditional_conditioning=unconditional_conditioning,
                t_start=int(t_start),
                **options,
            ):
                _notify(state, callback, None)
                x = state.x
        return x

    @contextmanager
    def original_steps(self, use: bool) -> Iterator[None]:
        """Return a context in which the schedule is every training step, when ``use`` is set.

        Raises:
            UserError: The sampler steps between training steps, and ``use`` is set.
        """
        self.require_schedule()
        if use:
            raise UserError(
                f"use_original_steps given; {type(self).__name__} has no such mode: use ddim, or "
                "make_schedule with the number of training steps"
            )
        yield


def _notify(state: SamplerState, callback: Callable | None, img_callback: Callable | None) -> None:
    if callback is not None:
        callback(state.i)
    if img_callback is not None:
        img_callback(state.x0, state.i)


def _with_bar(
    states: Iterator[SamplerState], total: int, verbose: bool, name: str
) -> Iterator[SamplerState]:
    return tqdm(states, desc=name, total=total) if verbose else states


def _reject_unknown(options: Mapping[str, Any], *callables: Callable) -> None:
    known = set().union(*(inspect.signature(c).parameters for c in callables)) - {"options"}
    for key in options:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
            raise TypeError(f"unknown keyword {key!r} of the sampler; {hint}")


def _warn_on_batch(cond: Conditioning, batch_size: int) -> None:
    while isinstance(cond, (dict, list, tuple)) and cond:
        cond = next(iter(cond.values())) if isinstance(cond, dict) else cond[0]
    if isinstance(cond, Tensor) and cond.shape[0] != batch_size:
        logger.warning("got %d conditionings but batch_size %d", cond.shape[0], batch_size)
