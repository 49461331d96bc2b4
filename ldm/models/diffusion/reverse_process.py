"""The reverse process on the hubs: one step, and all of them where there is no conditioning.

arXiv:2006.11239, Algorithm 2, under the reference's names, for code that calls or overrides
``p_sample`` and its like. Programs draw with ``ldm.models.diffusion.ancestral``, which also takes
fewer steps. All random numbers are the global generator's, drawn in the reference's order.
Shapes: B batch, C channels, h w sides of what is diffused, T training steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ldm.modules.diffusionmodules.util import noise_like
from ldm.process import prediction
from ldm.types import Conditioning


class _ReverseStep:
    """What a step of both hubs does with the network's answer. Mixed into a ``ForwardProcess``."""

    def _start_of(
        self, out: Tensor, x: Tensor, t: Tensor, kind: prediction.Parameterization, clip: bool
    ) -> Tensor:
        """Return the x0 that a prediction (B,C,h,w) at x means, cut to [-1, 1] if ``clip``."""
        if kind == "eps":
            out = self.predict_start_from_noise(x, t=t, noise=out)
        elif kind == "v":
            out = self.predict_start_from_z_and_v(x, t, out)
        return out.clamp(-1.0, 1.0) if clip else out

    @staticmethod
    def _drawn(mean: Tensor, log_variance: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Draw x_{t-1} (B,C,h,w): Algorithm 2, line 4. Samples at step 0 get no noise."""
        noisy = (t > 0).float().reshape(-1, *(1,) * (mean.ndim - 1))
        return mean + noisy * (0.5 * log_variance).exp() * noise


class PixelReverseProcess(_ReverseStep):
    """Ancestral sampling of a hub without conditioning, mixed into ``PixelDiffusion``."""

    def p_mean_variance(self, x: Tensor, t: Tensor, clip_denoised: bool) -> tuple[Tensor, ...]:
        """Return p(x_{t-1} | x_t): mean (B,C,h,w), variance (B,1,1,1) and its logarithm.

        Args:
            x: Samples at t (B,C,h,w).
            t: Steps (B,), 0 ... T-1.
            clip_denoised: Cut the estimate of x0 to [-1, 1].
        """
        x0 = self._start_of(self.apply_model(x, t), x, t, self.parameterization, clip_denoised)
        return self.q_posterior(x_start=x0, x_t=x, t=t)

    @torch.no_grad()
    def p_sample(
        self, x: Tensor, t: Tensor, clip_denoised: bool = True, repeat_noise: bool = False
    ) -> Tensor:
        """Draw x_{t-1} (B,C,h,w) from x at t (B,); ``repeat_noise`` gives all rows the same."""
        mean, _, log_variance = self.p_mean_variance(x=x, t=t, clip_denoised=clip_denoised)
        return self._drawn(mean, log_variance, noise_like(x.shape, x.device, repeat_noise), t)

    @torch.no_grad()
    def p_sample_loop(
        self, shape: Sequence[int], return_intermediates: bool = False
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Draw samples of ``shape`` (B,C,h,w) from noise by all T steps.

        With ``return_intermediates`` also the start and the states at multiples of ``log_every_t``.
        """
        x = torch.randn(tuple(shape), device=self.betas.device)
        kept, total = [x], self.num_timesteps
        for i in tqdm(range(total)[::-1], desc="Sampling t"):
            t = torch.full((shape[0],), i, device=x.device)
            x = self.p_sample(x, t, clip_denoised=self.clip_denoised)
            if i % self.log_every_t == 0 or i == total - 1:
                kept.append(x)
        return (x, kept) if return_intermediates else x

    @torch.no_grad()
    def sample(
        self, batch_size: int = 16, return_intermediates: bool = False
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Draw ``batch_size`` samples of the hub's own size, see ``p_sample_loop``."""
        shape = (batch_size, self.channels, self.image_size, self.image_size)
        return self.p_sample_loop(shape, return_intermediates=return_intermediates)


class LatentReverseStep(_ReverseStep):
    """One step of a hub with conditioning; ``latent_reverse_process`` takes all of them."""

    def p_mean_variance(
        self,
        x: Tensor,
        c: Conditioning,
        t: Tensor,
        clip_denoised: bool,
        return_codebook_ids: bool = False,
        quantize_denoised: bool = False,
        return_x0: bool = False,
        score_corrector: Any = None,
        corrector_kwargs: Mapping[str, Any] | None = None,
    ) -> tuple[Tensor, ...]:
        """Return p(x_{t-1} | x_t, c): mean (B,C,h,w), variance (B,1,1,1) and its logarithm.

        Args:
            x: Samples at t (B,C,h,w).
            c: Conditioning.
            t: Steps (B,), 0 ... T-1.
            clip_denoised: Cut the estimate of x0 to [-1, 1].
            return_codebook_ids: The network also predicts codebook entries; return their scores
                (B, n_embed, h, w) as a fourth value.
            quantize_denoised: Snap the estimate of x0 to the first stage's codebook.
            return_x0: Return the estimate (B,C,h,w) as a fourth value.
            score_corrector: Object with ``modify_score(model, eps, x, t, c, **kwargs)``.
            corrector_kwargs: Its keyword arguments.
        """
        wanted = {"return_ids": True} if return_codebook_ids else {}
        out, scores = self.apply_model(x, t, c, **wanted), None
        if return_codebook_ids:
            out, scores = out
        kind = self.parameterization
        if score_corrector is not None:
            out, kind = prediction.to_eps(out, x, *self.mix(t, x.shape), kind), "eps"
            out = score_corrector.modify_score(self, out, x, t, c, **(corrector_kwargs or {}))
        x0 = self._start_of(out, x, t, kind, clip_denoised)
        if quantize_denoised:
            x0 = self.first_stage_model.quantize(x0)[0]
        posterior = self.q_posterior(x_start=x0, x_t=x, t=t)
        if return_codebook_ids:
            return (*posterior, scores)
        return (*posterior, x0) if return_x0 else posterior

    @torch.no_grad()
    def p_sample(
        self,
        x: Tensor,
        c: Conditioning,
        t: Tensor,
        clip_denoised: bool = False,
        repeat_noise: bool = False,
        return_codebook_ids: bool = False,
        quantize_denoised: bool = False,
        return_x0: bool = False,
        temperature: float = 1.0,
        noise_dropout: float = 0.0,
        score_corrector: Any = None,
        corrector_kwargs: Mapping[str, Any] | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Draw x_{t-1} (B,C,h,w) from x at t (B,).

        Args:
            x, c, t, clip_denoised, quantize_denoised, score_corrector, corrector_kwargs: As for
                ``p_mean_variance``.
            repeat_noise: Give all rows the same noise.
            return_codebook_ids: Also return the best codebook entries (B,h,w), where the network
                predicts them.
            return_x0: Also return the estimate of x0 (B,C,h,w).
            temperature: Multiplies the noise.
            noise_dropout: Share of the noise set to zero.
        """
        mean, _, log_variance, *more = self.p_mean_variance(
            x=x,
            c=c,
            t=t,
            clip_denoised=clip_denoised,
            return_codebook_ids=return_codebook_ids,
            quantize_denoised=quantize_denoised,
            return_x0=return_x0,
            score_corrector=score_corrector,
            corrector_kwargs=corrector_kwargs,
        )
        noise = noise_like(x.shape, x.device, repeat_noise) * temperature
        if noise_dropout > 0.0:
            noise = torch.nn.functional.dropout(noise, p=noise_dropout)
        drawn = self._drawn(mean, log_variance, noise, t)
        if return_codebook_ids:
            return drawn, more[0].argmax(dim=1)
        return (drawn, more[0]) if return_x0 else drawn
