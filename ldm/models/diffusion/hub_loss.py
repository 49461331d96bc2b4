"""What a diffusion hub minimises: its loss, built from its parameters, and the loss's parts.

Shapes: B batch, C channels, h w sides of what is diffused, T training steps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ldm.building import build_from
from ldm.errors import UserError
from ldm.models.diffusion.loss_settings import check_kind, check_parts, check_table
from ldm.models.diffusion.pixel_diffusion import PixelDiffusion
from ldm.process import prediction
from ldm.process.density import LogitNormal
from ldm.process.loss import DiffusionLoss
from ldm.process.weighting import MinSNR, variational_weights
from ldm.types import Conditioning


class HubLoss(PixelDiffusion):
    """The loss of a diffusion hub, by the parameters that ``PixelDiffusion`` keeps."""

    def training_loss(self) -> DiffusionLoss:
        """Return what is minimised: ``loss``, built at the first call if ``loss_config`` says how.

        Raises:
            UserError: ``loss_config`` has a fault, or builds a module, whose weights would be in no
                checkpoint: ``make_loss`` of a subclass may return one. Or ``loss`` lacks a part.
        """
        if self.loss is None and self.loss_config is not None:
            loss = build_from(self.loss_config, where="loss_config")
            if isinstance(loss, nn.Module):
                raise UserError(
                    f"loss_config.target {self.loss_config['target']!r} is a torch module; expected"
                    " a loss without weights; return it by make_loss of a subclass of"
                    f" {type(self).__name__}, where checkpoints and the optimizer find it"
                )
            self.loss = loss
        if self.loss is None:
            return self._described_loss()
        check_parts(self.loss)
        return self.loss

    def _described_loss(self) -> DiffusionLoss:
        """Return the loss of ``loss_type``, ``snr_gamma`` and ``timestep_density``, the same one
        while they stay.
        """
        gamma, density = self.snr_gamma, self.timestep_density
        settings = (self.loss_type, gamma, None if density is None else tuple(density))
        if self._described is None or self._described[0] != settings:
            loss = DiffusionLoss(
                self.loss_type,
                weighting=None if gamma is None else MinSNR(gamma),
                density=None if density is None else LogitNormal(*density),
            )
            self._described = settings, loss
        return self._described[1]

    def _measured_on(self) -> prediction.Parameterization:
        return self.training_loss().parameterization or self.parameterization

    @property
    def lvlb_weights(self) -> Tensor:
        """The weights of the variational bound (T,): a buffer of this name, or by
        ``variational_weights``.
        """
        registered = self._buffers.get("lvlb_weights")
        if registered is not None:
            return registered
        return self.step_table("lvlb_weights", variational_weights, self._measured_on())

    @lvlb_weights.setter
    def lvlb_weights(self, weights: Tensor) -> None:
        self.register_buffer("lvlb_weights", weights, persistent=False)

    def get_loss(self, pred: Tensor, target: Tensor, mean: bool = True) -> Tensor:
        """Return the error of a prediction (B, ...): its mean, or each element's (B, ...)."""
        error = self.training_loss().kind(pred, target)
        return error.mean() if mean else error

    def draw_steps(self, count: int) -> Tensor:
        """Draw training steps (count,) in 0 ... T-1, by the loss's density."""
        return self.training_loss().density(count, self.num_timesteps, self.device)

    def loss_at(
        self,
        x_start: Tensor,
        cond: Conditioning,
        t: Tensor,
        noise: Tensor | None,
        *,
        by_logvar: bool = True,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss at steps t (B,) and its parts: DDPM Eq. 14 and 12, weighted.

        ``by_logvar`` weighs it by ``logvar`` too, as the reference does in latents alone.
        """
        noise = torch.randn_like(x_start) if noise is None else noise
        x = self.q_sample(x_start=x_start, t=t, noise=noise)
        out = self.apply_model(x, t, cond).float()
        a, s = self.mix(t, x_start.shape)
        kind = self._measured_on()
        pred = prediction.convert(out, x, a, s, self.parameterization, kind)
        target = prediction.target(x_start, noise, a, s, kind)
        error = self.get_loss(pred, target, mean=False).flatten(1).mean(1)
        return self._weigh(error, t, by_logvar)

    def _loss_weights(self) -> Tensor:
        weighting = self.training_loss().weighting
        return self.step_table("loss_weights", weighting, self._measured_on())

    def _weigh(
        self, per_sample: Tensor, t: Tensor, by_logvar: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum up the errors of samples (B,) at steps t (B,), under the reference's names."""
        prefix = "train" if self.training else "val"
        weighted = per_sample * self._loss_weights()[t]
        if by_logvar:
            logvar = self.logvar[t]
            weighted = weighted / logvar.exp() + logvar
        weighted = weighted.mean()
        bound = (self.lvlb_weights[t] * per_sample).mean()
        loss = self.l_simple_weight * weighted + self.original_elbo_weight * bound
        logs = {f"{prefix}/loss_simple": per_sample.mean(), f"{prefix}/loss_vlb": bound}
        if self.learn_logvar and by_logvar:
            logs |= {f"{prefix}/loss_gamma": weighted, "logvar": self.logvar.detach().mean()}
        return loss, {**logs, f"{prefix}/loss": loss}

    def check_loss(self) -> None:
        """Check the loss's parts and weights, before the first batch is waited for.

        Raises:
            UserError: A part is absent, or gives another shape or what is not finite.
        """
        check_kind(self.training_loss(), (1, self.channels, 1, 1), self.betas)
        check_table("weights of the loss", self._loss_weights(), self.num_timesteps)
        check_table("weights of the bound", self.lvlb_weights, self.num_timesteps)
