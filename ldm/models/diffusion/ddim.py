"""DDIM: arXiv:2010.02502, Eq. 12, with the sigmas of Eq. 16.

Symbols: a_t alphas_cumprod at the step (the paper's alpha_t), a_prev at the next cleaner one,
sigma_t the step's noise. Forks also import from here what CompVis's file of this name imports.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ldm.errors import UserError
from ldm.models.diffusion.denoiser import Denoiser, Step, StepRule
from ldm.models.diffusion.discrete_sampler import DiscreteSampler
from ldm.modules.diffusionmodules.util import (
    extract_into_tensor,
    make_ddim_sampling_parameters,
    make_ddim_timesteps,
    noise_like,
)
from ldm.types import Conditioning

__all__ = [
    "DDIMSampler",
    "extract_into_tensor",
    "make_ddim_sampling_parameters",
    "make_ddim_timesteps",
    "noise_like",
]


class DDIMSampler(DiscreteSampler):
    """DDIM with the reference's tables, and any of the other spacings."""

    LOOP, STEP = "ddim_sampling", "p_sample_ddim"
    ddim_sampling = DiscreteSampler.strided_sampling

    def new_rule(self, denoiser: Denoiser, total: int) -> StepRule:  # noqa: ARG002
        def rule(x: Tensor, index: int) -> Step:
            if self.table.alphas[index] == 0.0:
                return self.from_noise(denoiser, x, index)
            eps = self.eps_at(denoiser, x, index)
            return self.update(denoiser, x, eps, index)

        def overridden(x: Tensor, index: int) -> Step:
            x_prev, x0 = self.obey(denoiser, x, index)
            a, s = self.table.alphas[index].sqrt(), self.table.sqrt_one_minus_alphas[index]
            return Step(x_prev, x0, (x - a * x0) / s)

        return overridden if self.is_overridden else rule

    def from_noise(self, denoiser: Denoiser, x: Tensor, index: int) -> Step:
        """Step from pure noise, a_t = 0 (arXiv:2305.08891): eps is x itself, and x0 is asked."""
        x0 = denoiser.x0(x, self.time(index), torch.tensor(0.0), torch.tensor(1.0))
        a_prev, sigma_t = self.table.alphas_prev[index], self.table.sigmas[index]
        direction = (1.0 - a_prev - sigma_t**2).sqrt() * x
        x_prev = a_prev.sqrt() * x0 + direction + sigma_t * denoiser.step_noise(x)
        return Step(x_prev, x0, x)

    @torch.no_grad()
    def p_sample_ddim(
        self,
        x: Tensor,
        c: Conditioning,
        t: Tensor,
        index: int,
        repeat_noise: bool = False,
        use_original_steps: bool = False,
        quantize_denoised: bool = False,
        temperature: float = 1.0,
        noise_dropout: float = 0.0,
        score_corrector: Any = None,
        corrector_kwargs: Mapping[str, Any] | None = None,
        unconditional_guidance_scale: float = 1.0,
        unconditional_conditioning: Conditioning = None,
        dynamic_threshold: float | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Take one step. Walks take each by this method where a fork overrides it.

        Args:
            x: Sample (B,C,h,w) where the step begins.
            c: Conditioning of B rows.
            t: What the model is told the time is (B,).
            index: Entry of the tables, from the clean end.
            repeat_noise: Give every row the first one's noise.
            use_original_steps: ``index`` counts training steps.
            quantize_denoised: Snap the estimate of x0 to the codebook.
            unconditional_conditioning: None means no guidance; the others are those of ``sample``.

        Returns:
            The next sample and the estimate of x0, each (B,C,h,w).
        """
        with self.one_step(
            c,
            unconditional_guidance_scale,
            unconditional_conditioning,
            use_original_steps,
            repeat_noise=repeat_noise,
            quantize_x0=quantize_denoised,
            temperature=temperature,
            noise_dropout=noise_dropout,
            score_corrector=score_corrector,
            corrector_kwargs=corrector_kwargs,
            dynamic_threshold=dynamic_threshold,
        ) as denoiser:
            step = self.update(denoiser, x, self.eps_at(denoiser, x, index, t), index)
        return step.x, step.x0

    OWN_STEP = (p_sample_ddim,)

    @torch.no_grad()
    def encode(
        self,
        x0: Tensor,
        c: Conditioning,
        t_enc: int,
        use_original_steps: bool = False,
        return_intermediates: int | None = None,
        unconditional_guidance_scale: float = 1.0,
        unconditional_conditioning: Conditioning = None,
        callback: Callable[[int], Any] | None = None,
        *,
        at_timesteps: bool = False,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Find the noise that DDIM would decode to ``x0``: its steps the other way round.

        arXiv:2010.02502, Eq. 13, from clean to noise, as Stable Diffusion 2 has it.

        Args:
            x0: Clean samples (B,C,h,w).
            c: Conditioning of B rows.
            t_enc: Steps to take.
            use_original_steps: Count training steps.
            return_intermediates: Keep about so many samples on the way.
            unconditional_guidance_scale: 1 means no guidance.
            unconditional_conditioning: What guidance moves away from.
            callback: Called with the number of each step.
            at_timesteps: Ask the model at the steps' own times. Stable Diffusion 2 asks at the
                steps' numbers 0, 1, ..., which differ unless every training step is taken.

        Returns:
            Noisy samples (B,C,h,w), and a dict: they as ``x_encoded``, the numbers of the kept
            steps as ``intermediate_steps``, and the kept samples, if any, as ``intermediates``.

        Raises:
            RuntimeError: No schedule was made.
            UserError: More steps than there are, or guidance without its conditioning.
        """
        scale, uncond = unconditional_guidance_scale, unconditional_conditioning
        if scale != 1.0 and uncond is None:
            raise UserError(
                f"unconditional_guidance_scale {scale} given; expected "
                "unconditional_conditioning with it; give it, or a scale of 1"
            )
        kept: dict[int, Tensor] = {}
        every = max(t_enc // return_intermediates, 1) if return_intermediates else 0
        with self.one_step(c, scale, uncond, use_original_steps) as denoiser:
            if t_enc > self.steps:
                raise UserError(f"{t_enc} steps given; expected at most {self.steps}")
            x = x0
            for i in range(t_enc):
                x = self._noisier(denoiser, x, i, self.time(i) if at_timesteps else i)
                if every and (i % every == 0 or i >= t_enc - 2):
                    kept[i] = x
                if callback is not None:
                    callback(i)
        out: dict[str, Any] = {"x_encoded": x, "intermediate_steps": list(kept)}
        if return_intermediates:
            out["intermediates"] = list(kept.values())
        return x, out

    def _noisier(self, denoiser: Denoiser, x: Tensor, index: int, t: int) -> Tensor:
        """Go from where a step ends to where it begins, with eps from its end at time ``t``."""
        at_t = self._column("alphas_cumprod")[t]  # what the model takes the noise level to be
        eps = denoiser.eps(x, t, at_t.sqrt(), (1.0 - at_t).sqrt())
        # In float64: the two noise levels are close.
        a, a_next = self.table.alphas_prev[index].double(), self.table.alphas[index].double()
        change = (1.0 / a_next - 1.0).sqrt() - (1.0 / a - 1.0).sqrt()
        return (a_next / a).sqrt() * x + a_next.sqrt() * change * eps
