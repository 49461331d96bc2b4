"""Base class of first stages' adversarial losses: VQ-GAN, arXiv:2012.09841, section 3.1.

A loss has two sides, selected by ``optimizer_idx``: 0 trains the autoencoder, 1 the discriminator.

Shapes: B batch, C channels, H W pixels.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm.errors import UserError
from ldm.modules.losses.discriminator import NLayerDiscriminator
from ldm.modules.losses.lpips import LPIPS

logger = logging.getLogger(__name__)

Kind = Literal["hinge", "vanilla"]


def hinge_d_loss(logits_real: Tensor, logits_fake: Tensor) -> Tensor:
    """Return half the discriminator's hinge loss: arXiv:1705.02894, section 3."""
    return 0.5 * (F.relu(1.0 - logits_real).mean() + F.relu(1.0 + logits_fake).mean())


def hinge_d_loss_with_exemplar_weights(
    logits_real: Tensor, logits_fake: Tensor, weights: Tensor
) -> Tensor:
    """Return ``hinge_d_loss`` where each picture counts by its weight.

    Args:
        logits_real: Logits (B, ...) of real pictures.
        logits_fake: The same of generated ones.
        weights: Non-negative (B,), not all zero.

    Raises:
        ValueError: Another number of weights.
    """
    if not len(weights) == len(logits_real) == len(logits_fake):
        raise ValueError(
            f"{len(weights)} weights given for {len(logits_real)} real and {len(logits_fake)} "
            "generated pictures; expected one for each"
        )
    real = F.relu(1.0 - logits_real).reshape(len(weights), -1).mean(1)  # (B,)
    fake = F.relu(1.0 + logits_fake).reshape(len(weights), -1).mean(1)
    return 0.5 * ((weights * real).sum() + (weights * fake).sum()) / weights.sum()


def vanilla_d_loss(logits_real: Tensor, logits_fake: Tensor) -> Tensor:
    """Return half the discriminator's cross-entropy: arXiv:1406.2661, Eq. 1."""
    return 0.5 * (F.softplus(-logits_real).mean() + F.softplus(logits_fake).mean())


def adopt_weight(weight: float, global_step: int, threshold: int = 0, value: float = 0.0) -> float:
    """Return ``weight`` from step ``threshold`` on, ``value`` before it."""
    return value if global_step < threshold else weight


class AdversarialLoss(nn.Module):
    """The discriminator, its balance with the reconstruction, and the perceptual distance.

    Args:
        disc_start: Optimizer step from which the discriminator is used.
        pixelloss_weight: Kept for CompVis, whose losses do not use it either.
        disc_num_layers: Layers of the discriminator that halve the sides.
        disc_in_channels: Its input channels.
        disc_ndf: Width of its first layer.
        disc_factor: Weight of both sides' adversarial terms; 0 turns them off.
        disc_weight: Adversarial gradient relative to the reconstruction's: the factor of lambda
            in VQ-GAN.
        perceptual_weight: Weight of LPIPS relative to the pixel error; 0 never builds it.
        use_actnorm: ActNorm in place of BatchNorm in the discriminator.
        disc_conditional: The discriminator also sees ``cond``, concatenated to the picture.
        disc_loss: ``hinge`` or ``vanilla`` (cross entropy).
        perceptual_weights: File of VGG-16's weights, see ``LPIPS``; read on first use.

    Raises:
        UserError: ``disc_loss`` is unknown.
    """

    def __init__(
        self,
        disc_start: int,
        *,
        pixelloss_weight: float = 1.0,
        disc_num_layers: int = 3,
        disc_in_channels: int = 3,
        disc_ndf: int = 64,
        disc_factor: float = 1.0,
        disc_weight: float = 1.0,
        perceptual_weight: float = 1.0,
        use_actnorm: bool = False,
        disc_conditional: bool = False,
        disc_loss: Kind = "hinge",
        perceptual_weights: str | Path | None = None,
    ):
        super().__init__()
        if disc_loss not in get_args(Kind):
            raise UserError(f"disc_loss {disc_loss!r} given; expected one of {get_args(Kind)}")
        if pixelloss_weight != 1.0:
            logger.warning("pixelloss_weight %s has no effect, as in CompVis", pixelloss_weight)
        self.discriminator = NLayerDiscriminator(
            disc_in_channels, disc_ndf, disc_num_layers, use_actnorm
        )
        self.disc_loss = hinge_d_loss if disc_loss == "hinge" else vanilla_d_loss
        self.discriminator_iter_start = disc_start
        self.disc_factor, self.discriminator_weight = disc_factor, disc_weight
        self.disc_conditional = disc_conditional
        self.perceptual_weight, self.perceptual_weights = perceptual_weight, perceptual_weights
        # In a list, so that VGG's 15 million frozen weights are not saved in checkpoints.
        self._perceptual: list[LPIPS] = []

    def prepare(self) -> None:
        """Read LPIPS's weights now, so that missing ones are reported before training begins.

        Raises:
            UserError: See ``LPIPS``.
        """
        if self.perceptual_weight > 0 and not self._perceptual:
            self._perceptual.append(LPIPS(self.perceptual_weights))

    def perceptual_loss(self, inputs: Tensor, reconstructions: Tensor) -> Tensor:
        """Return LPIPS (B, 1, 1, 1), or zeros if its weight is 0."""
        if self.perceptual_weight <= 0:
            return inputs.new_zeros(inputs.shape[0], 1, 1, 1)
        self.prepare()
        self._perceptual[0].to(inputs.device)
        return self._perceptual[0](inputs, reconstructions)

    def calculate_adaptive_weight(
        self, nll_loss: Tensor, g_loss: Tensor, last_layer: Tensor | None = None
    ) -> Tensor:
        """Return the weight that balances both gradients at the last layer: VQ-GAN, Eq. 7.

        CompVis's numbers: 1e-4 in the denominator, at most 1e4, times ``disc_weight``. Without
        ``last_layer``, that is the first of the attribute of this name.
        """
        last_layer = self.last_layer[0] if last_layer is None else last_layer
        (of_nll,) = torch.autograd.grad(nll_loss, last_layer, retain_graph=True)
        (of_g,) = torch.autograd.grad(g_loss, last_layer, retain_graph=True)
        weight = of_nll.norm() / (of_g.norm() + 1e-4)
        return weight.clamp(0.0, 1e4).detach() * self.discriminator_weight

    def adversarial_term(
        self,
        nll_loss: Tensor,
        reconstructions: Tensor,
        *,
        cond: Tensor | None,
        global_step: int,
        last_layer: Tensor | None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the discriminator's term of the autoencoder's loss, and its figures.

        Without gradients (validation) and before ``disc_start`` the weight is 0 and is not
        computed.

        Args:
            nll_loss: The reconstruction loss, whose gradient the term is balanced against.
            reconstructions: Pictures (B, C, H, W), with gradients to ``last_layer``.
            cond: What a conditional discriminator also sees.
            global_step: Optimizer steps done.
            last_layer: Weight at which gradients are compared.

        Raises:
            ValueError: ``last_layer`` is missing and the term has a gradient.
        """
        factor = adopt_weight(self.disc_factor, global_step, self.discriminator_iter_start)
        judged = factor > 0 and torch.is_grad_enabled()
        if judged and last_layer is None:
            raise ValueError("last_layer is None; expected the decoder's last weight")
        with torch.set_grad_enabled(judged):
            g_loss = -self._logits(reconstructions, cond).float().mean()
        weight = torch.zeros_like(g_loss)
        if judged:
            weight = self.calculate_adaptive_weight(nll_loss, g_loss, last_layer)
        figures = {
            "d_weight": weight,
            "disc_factor": torch.tensor(float(factor)),
            "g_loss": g_loss.detach(),
        }
        return weight * factor * g_loss, figures

    def discriminator_side(
        self,
        inputs: Tensor,
        reconstructions: Tensor,
        *,
        cond: Tensor | None,
        global_step: int,
        split: str,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the discriminator's loss and what to log; pictures get no gradient."""
        real = self._logits(inputs.detach(), cond).float()
        fake = self._logits(reconstructions.detach(), cond).float()
        factor = adopt_weight(self.disc_factor, global_step, self.discriminator_iter_start)
        loss = factor * self.disc_loss(real, fake)
        figures = {"disc_loss": loss, "logits_real": real.mean(), "logits_fake": fake.mean()}
        return loss, named(figures, split)

    def _logits(self, pictures: Tensor, cond: Tensor | None) -> Tensor:
        if (cond is not None) != self.disc_conditional:
            given = "none is given" if cond is None else "one is given"
            raise ValueError(f"disc_conditional is {self.disc_conditional}, but of cond {given}")
        if cond is not None:
            pictures = torch.cat((pictures, cond), dim=1)
        return self.discriminator(pictures.contiguous())


def named(figures: dict[str, Tensor], split: str) -> dict[str, Tensor]:
    """Return figures under their logged names, ``split/name``, without gradients."""
    return {f"{split}/{name}": value.detach() for name, value in figures.items()}
