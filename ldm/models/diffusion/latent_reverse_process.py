"""The reverse process of a hub with conditioning: all training steps from noise to sample.

See ``reverse_process``, which has one step of it.
Shapes: B batch, C channels, h w latent sides, T training steps.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from numbers import Number
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ldm.errors import UserError
from ldm.models.diffusion.ddim import DDIMSampler
from ldm.models.diffusion.reverse_process import LatentReverseStep
from ldm.types import Conditioning

logger = logging.getLogger(__name__)

# ``sample_log`` is called with DDIM's keywords whichever way it draws. These change nothing here:
# every step adds all of its noise, and the states to keep are the hub's to say.
_OF_DDIM = {"eta", "log_every_t"}


class LatentReverseProcess(LatentReverseStep):
    """Ancestral sampling of a hub with conditioning, mixed into ``LatentSpaceDiffusion``.

    Attributes:
        shorten_cond_schedule: Conditioning is noised too, see ``make_cond_schedule``.
    """

    shorten_cond_schedule = False

    @torch.no_grad()
    def progressive_denoising(
        self,
        cond: Conditioning,
        shape: Sequence[int],
        verbose: bool = True,
        callback: Callable[[int], Any] | None = None,
        quantize_denoised: bool = False,
        img_callback: Callable[[Tensor, int], Any] | None = None,
        mask: Tensor | None = None,
        x0: Tensor | None = None,
        temperature: float | Sequence[float] = 1.0,
        noise_dropout: float = 0.0,
        score_corrector: Any = None,
        corrector_kwargs: Mapping[str, Any] | None = None,
        batch_size: int | None = None,
        x_T: Tensor | None = None,  # noqa: N803 - the reference's name
        start_T: int | None = None,  # noqa: N803 - the reference's name
        log_every_t: int | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Draw samples and return them and the estimates of x0 along the way.

        Args:
            cond, verbose, callback, quantize_denoised, img_callback, mask, x0, x_T, start_T,
                log_every_t: As for ``p_sample_loop``.
            shape: (B,C,h,w), or (C,h,w) beside ``batch_size``.
            temperature: Multiplies the noise: one number, or one for each training step.
            noise_dropout, score_corrector, corrector_kwargs: As for ``p_sample``.
            batch_size: B; conditioning with more rows is cut to as many.
        """
        shape = tuple(shape) if batch_size is None else (batch_size, *shape)

        def step(x: Tensor, c: Conditioning, t: Tensor, i: int) -> tuple[Tensor, Tensor]:
            return self.p_sample(
                x,
                c,
                t,
                clip_denoised=self.clip_denoised,
                quantize_denoised=quantize_denoised,
                return_x0=True,
                temperature=temperature if isinstance(temperature, Number) else temperature[i],
                noise_dropout=noise_dropout,
                score_corrector=score_corrector,
                corrector_kwargs=corrector_kwargs,
            )

        x = torch.randn(shape, device=self.device) if x_T is None else x_T
        steps, kept = self._steps(None, start_T), []
        every = log_every_t or self.log_every_t
        numbers = _with_bar(steps, "Progressive Generation", verbose)
        walk = self._walk(x, rows_of(cond, shape[0]), step, numbers, mask, x0)
        for i, x, estimate in walk:
            if i % every == 0 or i == steps[0]:
                kept.append(estimate)
            _notify(callback, img_callback, x, i)
        return x, kept

    @torch.no_grad()
    def p_sample_loop(
        self,
        cond: Conditioning,
        shape: Sequence[int],
        return_intermediates: bool = False,
        x_T: Tensor | None = None,  # noqa: N803 - the reference's name
        verbose: bool = True,
        callback: Callable[[int], Any] | None = None,
        timesteps: int | None = None,
        quantize_denoised: bool = False,
        mask: Tensor | None = None,
        x0: Tensor | None = None,
        img_callback: Callable[[Tensor, int], Any] | None = None,
        start_T: int | None = None,  # noqa: N803 - the reference's name
        log_every_t: int | None = None,
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Draw samples from noise, or from ``x_T``.

        Args:
            cond: Conditioning of B rows.
            shape: (B,C,h,w).
            return_intermediates: Also return the start and the states that ``log_every_t`` names.
            x_T: Where to begin (B,C,h,w).
            verbose: Show a progress bar.
            callback: Called with each training step's number once it is done, from the last to 0.
            timesteps: Take only this many steps, the cleanest; all T by default.
            quantize_denoised: Snap estimates of x0 to the first stage's codebook.
            mask: 1 where ``x0`` is kept and 0 where it is painted anew, broadcast to x.
            x0: Clean latents (B,C,h,w) behind the mask.
            img_callback: Called with each state and its training step.
            start_T: Take at most this many steps.
            log_every_t: Keep states at multiples of this training step; the hub's by default.

        Raises:
            ValueError: A mask without ``x0``, or of other sides.
        """

        def step(x: Tensor, c: Conditioning, t: Tensor, i: int) -> tuple[Tensor, None]:  # noqa: ARG001
            clip, snap = self.clip_denoised, quantize_denoised
            return self.p_sample(x, c, t, clip_denoised=clip, quantize_denoised=snap), None

        x = torch.randn(tuple(shape), device=self.betas.device) if x_T is None else x_T
        steps, kept = self._steps(timesteps, start_T), [x]
        every = log_every_t or self.log_every_t
        numbers = _with_bar(steps, "Sampling t", verbose)
        walk = self._walk(x, cond, step, numbers, mask, x0)
        for i, x, _ in walk:
            if i % every == 0 or i == steps[0]:
                kept.append(x)
            _notify(callback, img_callback, x, i)
        return (x, kept) if return_intermediates else x

    def _steps(self, timesteps: int | None, most: int | None) -> range:
        """Return the training steps to take, the noisiest first."""
        count = self.num_timesteps if timesteps is None else timesteps
        return range(count if most is None else min(count, most))[::-1]

    def _walk(
        self,
        x: Tensor,
        cond: Conditioning,
        step: Callable[[Tensor, Conditioning, Tensor, int], tuple[Tensor, Any]],
        numbers: Iterable[int],
        mask: Tensor | None,
        x0: Tensor | None,
    ) -> Iterator[tuple[int, Tensor, Any]]:
        """Yield each training step, the sample after it, and what else ``step`` returns."""
        if mask is not None:
            _check_mask(mask, x0)
        for i in numbers:
            t = torch.full((x.shape[0],), i, device=self.betas.device)
            if self.shorten_cond_schedule:
                cond = self.noised_conditioning(cond, t)
            x, more = step(x, cond, t, i)
            if mask is not None:
                x = self.q_sample(x0, t) * mask + (1.0 - mask) * x
            yield i, x, more

    def noised_conditioning(self, cond: Tensor, t: Tensor) -> Tensor:
        """Noise conditioning (B,C,h,w) as ``make_cond_schedule`` says for training steps t (B,).

        Raises:
            UserError: Conditioning of several parts, which has no one scale of noise.
        """
        if not isinstance(cond, Tensor):
            raise UserError(
                f"num_timesteps_cond {self.num_timesteps_cond} with conditioning_key"
                f" {self.model.conditioning_key!r} given; conditioning of several parts cannot be"
                " noised; expected one tensor; leave num_timesteps_cond out"
            )
        steps = self.cond_ids.to(t.device)[t]
        return self.q_sample(x_start=cond, t=steps, noise=torch.randn_like(cond.float()))

    @torch.no_grad()
    def sample(
        self,
        cond: Conditioning,
        batch_size: int = 16,
        return_intermediates: bool = False,
        x_T: Tensor | None = None,  # noqa: N803 - the reference's name
        verbose: bool = True,
        timesteps: int | None = None,
        quantize_denoised: bool = False,
        mask: Tensor | None = None,
        x0: Tensor | None = None,
        shape: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Draw ``batch_size`` samples by ``p_sample_loop``.

        Args:
            cond: Conditioning; more rows than ``batch_size`` are cut off.
            batch_size: B.
            return_intermediates, x_T, verbose, timesteps, quantize_denoised, mask, x0: As for
                ``p_sample_loop``.
            shape: (B,C,h,w); by default the hub's channels and size.
            **kwargs: Not used, as in the reference: what only DDIM has, such as ``eta``. A warning
                names what would have changed the picture.
        """
        if ignored := sorted(set(kwargs) - _OF_DDIM):
            logger.warning("ancestral sampling takes no %s; it is ignored", ", ".join(ignored))
        if shape is None:
            shape = (batch_size, self.channels, self.image_size, self.image_size)
        return self.p_sample_loop(
            rows_of(cond, batch_size),
            shape,
            return_intermediates=return_intermediates,
            x_T=x_T,
            verbose=verbose,
            timesteps=timesteps,
            quantize_denoised=quantize_denoised,
            mask=mask,
            x0=x0,
        )

    @torch.no_grad()
    def sample_log(
        self, cond: Conditioning, batch_size: int, ddim: bool, ddim_steps: int, **kwargs: Any
    ) -> tuple[Tensor, Any]:
        """Draw samples to look at.

        Args:
            cond: Conditioning.
            batch_size: B.
            ddim: Draw with DDIM in ``ddim_steps`` steps, else by ``sample``.
            ddim_steps: Steps of DDIM.
            **kwargs: Passed on to ``DDIMSampler.sample`` or ``sample``; for the former ``shape`` is
                (C,h,w), by default the hub's channels and size.

        Returns:
            Samples (B,C,h,w), and states along the way as the sampler returns them.
        """
        if not ddim:
            options = {"return_intermediates": True, **kwargs}
            return self.sample(cond=cond, batch_size=batch_size, **options)
        shape = tuple(kwargs.pop("shape", (self.channels, self.image_size, self.image_size)))
        if kwargs.pop("quantize_denoised", False):
            kwargs["quantize_x0"] = True  # DDIM's name; the reference's DDIM ignores the other one
        sampler = DDIMSampler(self)
        return sampler.sample(ddim_steps, batch_size, shape, cond, verbose=False, **kwargs)


def rows_of(cond: Conditioning, count: int) -> Conditioning:
    """Return conditioning with its first ``count`` rows; dicts and lists keep their kind."""
    if isinstance(cond, Mapping):
        return {key: rows_of(value, count) for key, value in cond.items()}
    if isinstance(cond, list | tuple):
        return [part[:count] for part in cond]
    return cond if cond is None else cond[:count]


def _with_bar(steps: range, name: str, verbose: bool) -> Iterable[int]:
    return tqdm(steps, desc=name) if verbose else steps


def _notify(callback: Callable | None, img_callback: Callable | None, x: Tensor, i: int) -> None:
    if callback:
        callback(i)
    if img_callback:
        img_callback(x, i)


def _check_mask(mask: Tensor, x0: Tensor | None) -> None:
    if x0 is None:
        raise ValueError("mask given without x0; give the clean latents behind it as well")
    if mask.shape[2:] != x0.shape[2:]:
        raise ValueError(
            f"mask of {tuple(mask.shape)} and x0 of {tuple(x0.shape)} given; expected the same"
            " sides; resize the mask to the latents"
        )
