"""The adversarial loss of KL autoencoders: arXiv:2112.10752, Eq. 25.

Shapes: B batch, C channels, H W pixels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ldm.modules.losses.adversarial import (
    AdversarialLoss,
    adopt_weight,
    hinge_d_loss,
    named,
    vanilla_d_loss,
)
from ldm.modules.losses.discriminator import NLayerDiscriminator, weights_init
from ldm.modules.losses.lpips import LPIPS

# CompVis's module has all these names, taken from taming's.
__all__ = [
    "LPIPS",
    "DummyLoss",
    "LPIPSWithDiscriminator",
    "NLayerDiscriminator",
    "adopt_weight",
    "hinge_d_loss",
    "vanilla_d_loss",
    "weights_init",
]


class DummyLoss(nn.Module):
    """The loss of a first stage that is not trained."""


class LPIPSWithDiscriminator(AdversarialLoss):
    """Pixel error, LPIPS, a discriminator, and a small KL term of the posterior to N(0, I).

    As in the reference, terms are summed over a picture's values and averaged over the batch:
    ``kl_weight`` is small because both terms are large.

    Args:
        disc_start: Optimizer step from which the discriminator is used.
        logvar_init: Log-variance of a pixel given its reconstruction. It is a parameter in the
            checkpoint, but neither the reference's optimizers nor ours update it.
        kl_weight: Weight of the KL term.
        **shared: See ``AdversarialLoss``.
    """

    made_for = "AutoencoderKL"

    def __init__(
        self, disc_start: int, logvar_init: float = 0.0, kl_weight: float = 1.0, **shared: Any
    ):
        super().__init__(disc_start, **shared)
        self.kl_weight = kl_weight
        self.logvar = nn.Parameter(torch.full((), float(logvar_init)))

    def forward(
        self,
        inputs: Tensor,
        reconstructions: Tensor,
        posteriors: Any,
        optimizer_idx: int,
        global_step: int,
        last_layer: Tensor | None = None,
        cond: Tensor | None = None,
        split: str = "train",
        weights: Tensor | float | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute one side's loss.

        Args:
            inputs: Pictures (B, C, H, W) in [-1, 1].
            reconstructions: The same shape; not clamped.
            posteriors: Has ``kl()`` -> (B,), in nats.
            optimizer_idx: 0 the autoencoder's side, 1 the discriminator's.
            global_step: Optimizer steps done.
            last_layer: The decoder's last weight; needed for side 0 with gradients.
            cond: What a conditional discriminator sees besides the picture.
            split: Prefix of the logged names.
            weights: Factor of the reconstruction loss per value, in the shape of the pictures.

        Returns:
            Scalar loss, and detached figures.
        """
        if optimizer_idx == 1:
            return self.discriminator_side(
                inputs, reconstructions, cond=cond, global_step=global_step, split=split
            )
        # In float32 even under autocast: half precision overflows in these sums.
        inputs, reconstructions = inputs.float(), reconstructions.float()
        rec_loss = (inputs - reconstructions).abs()
        rec_loss = rec_loss + self.perceptual_weight * self.perceptual_loss(inputs, reconstructions)
        likelihood = rec_loss / self.logvar.exp() + self.logvar  # (B, C, H, W)
        nll_loss = likelihood.sum() / inputs.shape[0]
        weighted = nll_loss if weights is None else (weights * likelihood).sum() / inputs.shape[0]
        kl_loss = posteriors.kl().float().mean()
        term, adversarial = self.adversarial_term(
            nll_loss, reconstructions, cond=cond, global_step=global_step, last_layer=last_layer
        )
        loss = weighted + self.kl_weight * kl_loss + term
        figures = {
            "total_loss": loss,
            "logvar": self.logvar,
            "kl_loss": kl_loss,
            "nll_loss": nll_loss,
            "rec_loss": rec_loss.mean(),
        }
        return loss, named(figures | adversarial, split)
