"""What DDIM and PLMS share: steps at training steps, their update, and how forks change them.

Symbols: a_t alphas_cumprod at the step (the paper's alpha_t), a_prev at the next cleaner one,
sigma_t the step's noise. Walks read them from attributes with the reference's names, so whoever
replaces one is obeyed; so is who overrides one step, or the whole loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor

from ldm.errors import UserError
from ldm.models.diffusion.denoiser import Denoiser, Step, times_of
from ldm.models.diffusion.discrete_schedule import CHOSEN, ORIGINAL, StepTable, schedule_tables
from ldm.models.diffusion.sampler import Kept, Sampler
from ldm.models.diffusion.sampler_arguments import taken_by
from ldm.process.spacing import make_timesteps
from ldm.types import Conditioning

logger = logging.getLogger(__name__)


class DiscreteSampler(Sampler):
    """Base of the samplers that step from training step to training step.

    Attributes:
        LOOP: Name of the method that forks override to take all steps their way.
        STEP: Name of the method that forks override to take one step their way.
        OWN_STEP: That method as it is here, in a tuple, to tell an override.
    """

    LOOP: ClassVar[str]
    STEP: ClassVar[str]
    OWN_STEP: ClassVar[tuple[Callable]]

    _original = False  # every training step counts
    _walking: Denoiser | None = None  # while an override takes a step

    def make_schedule(
        self,
        ddim_num_steps: int,
        ddim_discretize: str | None = None,
        ddim_eta: float = 0.0,
        verbose: bool = True,  # noqa: ARG002 - kept for CompVis
    ) -> None:
        if not 0.0 <= ddim_eta <= 1.0:
            raise UserError(f"ddim_eta {ddim_eta} given; expected a number from 0 to 1")
        spacing = ddim_discretize or self.spacing
        self.ddim_timesteps = make_timesteps(spacing, ddim_num_steps, self.model.num_timesteps)
        if self.steps != ddim_num_steps:
            logger.warning(
                "%d steps asked, %d taken: the reference's %s spacing keeps to whole training "
                "steps; the spacings linspace and trailing take exactly %d",
                ddim_num_steps,
                self.steps,
                spacing,
                ddim_num_steps,
            )
        for name, table in schedule_tables(self.model, self.ddim_timesteps, ddim_eta).items():
            self.register_buffer(name, table)

    @property
    def steps(self) -> int:
        """How many steps a full walk takes."""
        return len(self._times)

    @property
    def _times(self) -> Sequence[int]:
        return range(self.ddpm_num_timesteps) if self._original else self._chosen_times

    @property
    def _chosen_times(self) -> Sequence[int]:
        return getattr(self, "ddim_timesteps", ())

    def register_buffer(self, name: str, attr: Any) -> None:
        """Set an attribute; a tensor goes to the sampler's device."""
        super().register_buffer(name, attr)
        if isinstance(attr, Tensor) and attr.device.type == "cpu":
            self._copies[name] = _Copy(getattr(self, name), attr.float())

    @property
    def _copies(self) -> dict[str, _Copy]:
        return self.__dict__.setdefault("_cpu_copies", {})

    @property
    def table(self) -> StepTable:
        """The tables in the attributes, on the CPU."""
        return StepTable(*map(self._column, ORIGINAL if self._original else CHOSEN))

    def _column(self, name: str) -> Tensor:
        """Return an attribute on the CPU in float32; read once, as steps must not wait for it."""
        column = getattr(self, name)
        if not isinstance(column, Tensor):
            return torch.as_tensor(column, dtype=torch.float32)
        copy = self._copies.get(name)
        if copy is None or not copy.is_of(column):
            copy = self._copies[name] = _Copy(column, column.detach().to("cpu", torch.float32))
        return copy.on_cpu

    @contextmanager
    def original_steps(self, use: bool) -> Iterator[None]:
        """Return a context in which the schedule is every training step, when ``use`` is set.

        Its last step ends at the clean sample; the made schedules end, as the reference's do, at
        the first training step's noise.
        """
        self.require_schedule()
        kept, self._original = self._original, self._original or use
        try:
            yield
        finally:
            self._original = kept

    def time(self, index: int) -> int:
        return int(self._times[index])

    def eps_at(
        self, denoiser: Denoiser, x: Tensor, index: int, t: Tensor | int | None = None
    ) -> Tensor:
        """Return the guided eps (B,C,h,w) of a step at the sample ``x``, by default at its time."""
        table = self.table
        a, s = table.alphas[index].sqrt(), table.sqrt_one_minus_alphas[index]
        return denoiser.eps(x, self.time(index) if t is None else t, a, s)

    def update(self, denoiser: Denoiser, x: Tensor, eps: Tensor, index: int) -> Step:
        """Step along ``eps`` (B,C,h,w).

        Eq. 12 of arXiv:2010.02502: x_prev = sqrt(a_prev) x0 + sqrt(1 - a_prev - sigma_t^2) eps
        + sigma_t noise, where x0 = (x - sqrt(1 - a_t) eps) / sqrt(a_t) is Eq. 9.
        """
        table = self.table
        a_t, a_prev, sigma_t = table.alphas[index], table.alphas_prev[index], table.sigmas[index]
        e = eps.to(x.dtype)
        x0 = denoiser.snap((x - table.sqrt_one_minus_alphas[index] * e) / a_t.sqrt())
        direction = (1.0 - a_prev - sigma_t**2).sqrt() * e  # "direction pointing to x_t"
        x_prev = a_prev.sqrt() * x0 + direction + sigma_t * denoiser.step_noise(x)
        return Step(x_prev, x0, eps)

    def renoise(self, x0: Tensor, index: int, noise: Tensor) -> Tensor:
        return self.model.q_sample(x0, times_of(x0, self.time(index)), noise)

    def encoding(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scales of the table's entry ``t``.

        As in the reference that is one step noisier than where ``decode(t_start=t)`` begins;
        the table's end stands for every later entry, so full strength works.
        """
        entry = t.clamp(0, self.steps - 1)
        return self.table.alphas[entry].sqrt(), self.table.sqrt_one_minus_alphas[entry]

    # The reference's methods

    def sampling(
        self, cond: Conditioning, shape: tuple[int, ...], verbose: bool = True, **options: Any
    ) -> tuple[Tensor, Kept]:
        """Walk by the method that ``LOOP`` names, called as the reference calls it."""
        loop = getattr(self, self.LOOP)
        # The first version's loop has neither; an override of it that is asked for one says so.
        for name in ("dynamic_threshold", "ucg_schedule"):
            if options.get(name) is None:
                options.pop(name, None)
        options |= taken_by(loop, {"verbose": verbose})
        return loop(cond, shape, ddim_use_original_steps=False, **options)

    @torch.no_grad()
    def strided_sampling(
        self,
        cond: Conditioning,
        shape: tuple[int, ...],
        x_T: Tensor | None = None,  # noqa: N803 - the reference's name
        ddim_use_original_steps: bool = False,
        callback: Callable[[int], Any] | None = None,
        timesteps: int | None = None,
        quantize_denoised: bool = False,
        mask: Tensor | None = None,
        x0: Tensor | None = None,
        img_callback: Callable[[Tensor, int], Any] | None = None,
        log_every_t: int = 100,
        temperature: float = 1.0,
        noise_dropout: float = 0.0,
        score_corrector: Any = None,
        corrector_kwargs: Mapping[str, Any] | None = None,
        unconditional_guidance_scale: float = 1.0,
        unconditional_conditioning: Conditioning = None,
        dynamic_threshold: float | None = None,
        ucg_schedule: Sequence[float] | None = None,
        **options: Any,
    ) -> tuple[Tensor, Kept]:
        """Walk the schedule that was made; ``ddim_sampling`` and ``plms_sampling`` are this.

        Args:
            cond: Conditioning of B rows.
            shape: (B, C, h, w).
            ddim_use_original_steps: Take every training step.
            timesteps: Begin one step below this one, counted from the clean end, as the reference
                does; with ``ddim_use_original_steps`` it is the number of steps.
            **options: ``verbose``, and keywords of ``walk``; the others are those of ``sample``.
        """
        with self.original_steps(ddim_use_original_steps):
            if timesteps is not None:
                options["t_start"] = self._count(timesteps)
            return super().sampling(
                cond,
                shape,
                x_T=x_T,
                callback=callback,
                img_callback=img_callback,
                log_every_t=log_every_t,
                quantize_denoised=quantize_denoised,
                mask=mask,
                x0=x0,
                temperature=temperature,
                noise_dropout=noise_dropout,
                score_corrector=score_corrector,
                corrector_kwargs=corrector_kwargs,
                unconditional_guidance_scale=unconditional_guidance_scale,
                unconditional_conditioning=unconditional_conditioning,
                dynamic_threshold=dynamic_threshold,
                ucg_schedule=ucg_schedule,
                **options,
            )

    def _count(self, timesteps: int) -> int:
        """Return how many steps the reference's loop takes for its ``timesteps``."""
        if self._original:
            return timesteps
        share = min(timesteps / self.steps, 1.0)
        return len(self._times[: int(share * self.steps) - 1])

    # One step by the reference's name

    @property
    def is_overridden(self) -> bool:
        """Whether a fork has its own step, by subclass or set on the class or the object."""
        return getattr(getattr(self, self.STEP), "__func__", None) is not self.OWN_STEP[0]

    def obey(self, denoiser: Denoiser, x: Tensor, index: int, **more: Any) -> tuple[Tensor, ...]:
        """Take a step by the method that ``STEP`` names, called as the reference calls it."""
        if denoiser.dynamic_threshold is not None:
            more["dynamic_threshold"] = denoiser.dynamic_threshold
        before, self._walking = self._walking, denoiser
        try:
            return getattr(self, self.STEP)(
                x,
                denoiser.cond,
                times_of(x, self.time(index)),
                index=index,
                use_original_steps=self._original,
                quantize_denoised=denoiser.quantize_x0,
                temperature=denoiser.temperature,
                noise_dropout=denoiser.noise_dropout,
                score_corrector=denoiser.score_corrector,
                corrector_kwargs=denoiser.corrector_kwargs,
                unconditional_guidance_scale=denoiser.scale,
                unconditional_conditioning=denoiser.uncond,
                **more,
            )
        finally:
            self._walking = before

    @contextmanager
    def one_step(
        self,
        cond: Conditioning,
        scale: float,
        uncond: Conditioning,
        original: bool,
        **options: Any,
    ) -> Iterator[Denoiser]:
        """Return a context with the denoiser of a single step.

        A step that an override takes by calling ours has the walk's noise and, for the walk's
        guidance scale, its guider.
        """
        walk = self._walking
        noise = self.noise if walk is None else walk.noise
        same = walk is not None and scale == walk.scale and uncond is walk.uncond
        guider = walk.guider if same else None
        with self.original_steps(original):
            denoiser = Denoiser(self.model, cond, uncond, scale, noise, guider, **options)
            if walk is not None:
                denoiser.moment = walk.moment
            yield denoiser


class _Copy:
    """A table on the CPU, and which state of which tensor it was copied from.

    Args:
        source: Tensor on any device.
        on_cpu: The same numbers in float32.
    """

    def __init__(self, source: Tensor, on_cpu: Tensor) -> None:
        self.source, self.on_cpu, self.version = source, on_cpu, _version(source)

    def is_of(self, tensor: Tensor) -> bool:
        """Return whether this is a copy of a tensor that was not written to since."""
        return self.source is tensor and self.version == _version(tensor)


def _version(tensor: Tensor) -> int:
    # Tensors made under inference_mode keep no count of writes.
    return 0 if tensor.is_inference() else tensor._version
