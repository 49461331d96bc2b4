"""One loop for all samplers: schedule, guidance, mask and callbacks around a step rule.

Shapes: B batch, C channels, h w latent sides. Steps are indexed from the clean end: index 0 is the
last step that a walk takes, ``steps - 1`` the first of a full one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ldm.errors import UserError
from ldm.models.diffusion.denoiser import OPTIONS, Denoiser, Step, StepRule
from ldm.models.diffusion.sampler_arguments import (
    check_scales,
    named_by,
    split_known,
    warn_on_batch,
)
from ldm.modules.attention_control.moments import Moment
from ldm.rng import GlobalNoise, NoiseSource
from ldm.types import Conditioning, EpsModel, Guider, SamplerState

__all__ = ["Denoiser", "Sampler", "Step", "StepRule"]

Kept = dict[str, list[Tensor]]
"""States kept on the way, under ``x_inter`` and ``pred_x0``."""


class Sampler(ABC):
    """Base of the samplers: subclasses bring a schedule and a step rule.

    Args:
        model: What predicts; never modified.
        schedule: Kept for CompVis.
        device: Where ``register_buffer`` puts tensors; the model's by default.
        spacing: Default choice of timesteps, see ``ldm.process.spacing``.
        noise: Default source of random numbers: the reference's global stream.
        **kwargs: Ignored with a warning: forks pass keywords of their own.
    """

    # Here too, for subclasses whose __init__ does not call this one.
    spacing: str = "uniform"
    noise: NoiseSource = GlobalNoise()
    steps: int = 0
    around: Callable[[Guider], Guider] | None = None  # makes another guider of each walk's
    _device: torch.device | str | None = None

    def __init__(
        self,
        model: EpsModel,
        schedule: str = "linear",
        device: torch.device | str | None = None,
        *,
        spacing: str = "uniform",
        noise: NoiseSource | None = None,
        **kwargs: Any,
    ):
        self.model = model
        self.ddpm_num_timesteps = model.num_timesteps
        self.schedule = schedule
        self.spacing = spacing
        self.noise = noise or GlobalNoise()
        self._device = device
        self._known(kwargs, named_by(Sampler.__init__, type(self).__init__), "")

    @property
    def device(self) -> torch.device | str:
        """Where ``register_buffer`` puts tensors."""
        return self.model.device if self._device is None else self._device

    @device.setter
    def device(self, device: torch.device | str) -> None:
        self._device = device

    def register_buffer(self, name: str, attr: Any) -> None:
        """Set an attribute; a tensor goes to the sampler's device."""
        setattr(self, name, attr.to(self.device) if isinstance(attr, Tensor) else attr)

    def _known(self, keywords: Mapping[str, Any], known: set[str], method: str) -> dict[str, Any]:
        """Return the known keywords of a call; warn, once a sampler, of the others."""
        warned = self.__dict__.setdefault("_warned", set())
        return split_known(keywords, known, type(self).__name__ + method, warned)

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
        ucg_schedule: Sequence[float] | None = None,
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
            ucg_schedule: Guidance scales, one for each step in the order taken.
            t_start: Steps to take, counted from the clean end; all by default.
            mask: 1 where ``x0`` is kept and 0 where it is repainted, broadcast to x.
            x0: Clean samples (B,C,h,w) behind the mask.
            noise: Source of random numbers.
            **options: Fields of ``Denoiser`` from ``temperature`` on.

        Raises:
            RuntimeError: No schedule was made.
            ValueError: A mask without ``x0``, or a ``ucg_schedule`` of another length.
        """
        self.require_schedule()
        total = self.steps if t_start is None else min(t_start, self.steps)
        if mask is not None and x0 is None:
            raise ValueError("mask given without x0; give the clean samples behind it as well")
        if ucg_schedule is not None:
            check_scales(ucg_schedule, total, guider)
        scale, uncond = unconditional_guidance_scale, unconditional_conditioning
        source, options = noise or self.noise, {"around": self.around, **options}
        denoiser = Denoiser(self.model, cond, uncond, scale, source, guider, **options)
        # Half-precision starts: as in the reference the walk itself is in float32.
        x = x.to(self.model.device, torch.promote_types(x.dtype, torch.float32))
        if mask is not None:
            mask, x0 = mask.to(x), x0.to(x)
        rule = denoiser.recorded(self.new_rule(denoiser, total), self)
        with closing(denoiser):  # callers may stop early
            for i, index in enumerate(reversed(range(total))):
                if ucg_schedule is not None:
                    denoiser.guide(ucg_schedule[i])
                if mask is not None:
                    known = self.renoise(x0, index, source.randn(x0.shape, x0.device, x0.dtype))
                    x = known * mask + (1.0 - mask) * x
                time = self.time(index)
                x = denoiser.begin(x, Moment(i, total, time))
                step = denoiser.end(rule(x, index))
                x = step.x
                yield SamplerState(step.x, step.x0, step.eps, i, time, total)

    @torch.no_grad()
    def sample(
        self,
        S: int,  # noqa: N803 - the reference's name
        batch_size: int,
        shape: tuple[int, int, int],
        conditioning: Conditioning = None,
        callback: Callable[[int], Any] | None = None,
        normals_sequence: Any = None,
        img_callback: Callable[[Tensor, int], Any] | None = None,
        quantize_x0: bool = False,
        eta: float = 0.0,
        mask: Tensor | None = None,
        x0: Tensor | None = None,
        temperature: float = 1.0,
        noise_dropout: float = 0.0,
        score_corrector: Any = None,
        corrector_kwargs: Mapping[str, Any] | None = None,
        verbose: bool = True,
        x_T: Tensor | None = None,  # noqa: N803 - the reference's name
        log_every_t: int = 100,
        unconditional_guidance_scale: float = 1.0,
        unconditional_conditioning: Conditioning = None,
        dynamic_threshold: float | None = None,
        ucg_schedule: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Kept | None]:
        """Sample from noise; the arguments are in the reference's order.

        Args:
            S: Steps asked for.
            batch_size: B.
            shape: (C, h, w).
            conditioning: Conditioning of B rows.
            callback: Called with the number of each step.
            normals_sequence: Ignored with a warning, as the reference has no use for it.
            img_callback: Called with each estimate of x0 and the step's number.
            quantize_x0: As ``Denoiser`` has it, like the options without a line here.
            eta: Noise added per step, 0 to 1 (DDIM only).
            mask: 1 where ``x0``, clean samples (B,C,h,w), is kept.
            verbose: Show a progress bar.
            x_T: Start noise (B,C,h,w); drawn when None.
            log_every_t: Keep states whose index is a multiple of this.
            ucg_schedule: Guidance scales, one for each step in the order taken.
            **kwargs: ``noise``, ``guider``, ``t_start`` as for ``walk``; others are ignored with
                one warning that names the nearest known one.

        Returns:
            Samples (B,C,h,w), and kept states under ``x_inter`` and ``pred_x0``.

        Raises:
            UserError: As ``make_schedule``.
        """
        if normals_sequence is not None:
            kwargs["normals_sequence"] = normals_sequence
        known = named_by(Sampler.sample) - {"normals_sequence"} | {"noise", "guider", "t_start"}
        own = self._known(kwargs, known, ".sample")
        self.make_schedule(ddim_num_steps=S, ddim_eta=eta, verbose=verbose)
        warn_on_batch(conditioning, batch_size)
        return self.sampling(
            conditioning,
            (batch_size, *shape),
            callback=callback,
            img_callback=img_callback,
            quantize_denoised=quantize_x0,
            mask=mask,
            x0=x0,
            noise_dropout=noise_dropout,
            temperature=temperature,
            score_corrector=score_corrector,
            corrector_kwargs=corrector_kwargs,
            x_T=x_T,
            log_every_t=log_every_t,
            unconditional_guidance_scale=unconditional_guidance_scale,
            unconditional_conditioning=unconditional_conditioning,
            dynamic_threshold=dynamic_threshold,
            ucg_schedule=ucg_schedule,
            verbose=verbose,
            **own,
        )

    @torch.no_grad()
    def sampling(
        self,
        cond: Conditioning,
        shape: tuple[int, ...],
        x_T: Tensor | None = None,  # noqa: N803 - the reference's name
        callback: Callable[[int], Any] | None = None,
        img_callback: Callable[[Tensor, int], Any] | None = None,
        log_every_t: int = 100,
        quantize_denoised: bool = False,
        verbose: bool = True,
        noise: NoiseSource | None = None,
        **options: Any,
    ) -> tuple[Tensor, Kept | None]:
        """Walk the schedule that was made; what ``sample`` does after ``make_schedule``.

        Args:
            cond: Conditioning of B rows.
            shape: (B, C, h, w).
            **options: Keywords of ``walk``; the others are those of ``sample``.

        Returns:
            As ``sample``.
        """
        x = (noise or self.noise).randn(shape, self.model.device) if x_T is None else x_T
        kept: Kept = {"x_inter": [x], "pred_x0": [x]}
        states = self.walk(x, cond, noise=noise, quantize_x0=quantize_denoised, **options)
        for state in _with_bar(states, self.steps, verbose, type(self).__name__):
            _notify(state, callback, img_callback)
            index = state.total - 1 - state.i
            if index % log_every_t == 0 or state.i == 0:
                kept["x_inter"].append(state.x)
                kept["pred_x0"].append(state.x0)
            x = state.x
        return x, kept

    @torch.no_grad()
    def decode(
        self,
        x_latent: Tensor,
        cond: Conditioning,
        t_start: int,
        unconditional_guidance_scale: float = 1.0,
        unconditional_conditioning: Conditioning = None,
        use_original_steps: bool = False,
        callback: Callable[[int], Any] | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Take the last ``t_start`` steps of the schedule from ``x_latent`` (B,C,h,w).

        0 steps return ``x_latent``; ``use_original_steps`` counts training steps. Of ``kwargs``
        those of ``walk`` are used; others are ignored with one warning.
        """
        own = self._known(kwargs, named_by(Sampler.decode, Sampler.walk) | OPTIONS, ".decode")
        with self.original_steps(use_original_steps):
            x = x_latent
            for state in self.walk(
                x_latent,
                cond,
                unconditional_guidance_scale=unconditional_guidance_scale,
                unconditional_conditioning=unconditional_conditioning,
                t_start=int(t_start),
                **own,
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
