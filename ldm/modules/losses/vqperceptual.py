"""The adversarial loss of VQ autoencoders: VQ-GAN, arXiv:2012.09841, section 3.1.

Shapes: B batch, C channels, H W pixels, N codebook entries.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ldm.errors import UserError
from ldm.lazy import lazy_exports
from ldm.modules.losses.adversarial import (
    AdversarialLoss,
    adopt_weight,
    hinge_d_loss,
    hinge_d_loss_with_exemplar_weights,
    named,
    vanilla_d_loss,
)

# What CompVis's file imports besides.
ELSEWHERE = {
    "F": "torch.nn.functional:",
    "LPIPS": "ldm.modules.losses.lpips",
    "NLayerDiscriminator": "ldm.modules.losses.discriminator",
    "exists": "ldm.util",
    "nn": "torch.nn:",
    "repeat": "einops",
    "weights_init": "ldm.modules.losses.discriminator",
}
__all__ = [
    "VQLPIPSWithDiscriminator",
    "adopt_weight",
    "hinge_d_loss",
    "hinge_d_loss_with_exemplar_weights",
    "l1",
    "l2",
    "measure_perplexity",
    "vanilla_d_loss",
    *ELSEWHERE,
]
__getattr__, __dir__ = lazy_exports(__name__, ELSEWHERE)

PixelLoss = Literal["l1", "l2"]


def l1(x: Tensor, y: Tensor) -> Tensor:
    """Return the absolute difference."""
    return (x - y).abs()


def l2(x: Tensor, y: Tensor) -> Tensor:
    """Return the squared difference."""
    return (x - y).square()


def measure_perplexity(predicted_indices: Tensor, n_embed: int) -> tuple[Tensor, Tensor]:
    """Measure how much of a codebook is used, and how evenly.

    Args:
        predicted_indices: Indices of the chosen entries, in any shape.
        n_embed: Entries N of the codebook.

    Returns:
        Perplexity, from 1 (one entry) to N (all equally often); and the number of entries used.
    """
    shares = torch.bincount(predicted_indices.flatten(), minlength=n_embed).float()
    shares = shares / shares.sum()
    perplexity = (-(shares * (shares + 1e-10).log()).sum()).exp()
    return perplexity, (shares > 0).sum()


class VQLPIPSWithDiscriminator(AdversarialLoss):
    """Pixel error, LPIPS, codebook loss and a discriminator, averaged over everything.

    Args:
        disc_start: Optimizer step from which the discriminator is used.
        codebook_weight: Weight of the codebook loss.
        n_classes: Entries of the codebook; if given, the share in use is logged.
        perceptual_loss: ``lpips``, the only one that CompVis's class has.
        pixel_loss: ``l1`` or ``l2``.
        **shared: See ``AdversarialLoss``.

    Raises:
        UserError: ``perceptual_loss``, ``pixel_loss`` or ``disc_loss`` is unknown.
    """

    made_for = "VQModel"

    def __init__(
        self,
        disc_start: int,
        codebook_weight: float = 1.0,
        *,
        n_classes: int | None = None,
        perceptual_loss: str = "lpips",
        pixel_loss: PixelLoss = "l1",
        **shared: Any,
    ):
        super().__init__(disc_start, **shared)
        if perceptual_loss != "lpips":
            raise UserError(f"perceptual_loss {perceptual_loss!r} given; expected 'lpips'")
        if pixel_loss not in get_args(PixelLoss):
            raise UserError(
                f"pixel_loss {pixel_loss!r} given; expected one of {get_args(PixelLoss)}"
            )
        self.codebook_weight, self.n_classes = codebook_weight, n_classes
        self.pixel_loss = l1 if pixel_loss == "l1" else l2

    def forward(
        self,
        codebook_loss: Tensor,
        inputs: Tensor,
        reconstructions: Tensor,
        optimizer_idx: int,
        global_step: int,
        last_layer: Tensor | None = None,
        cond: Tensor | None = None,
        split: str = "train",
        predicted_indices: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute one side's loss.

        Args:
            codebook_loss: The quantiser's loss.
            inputs: Pictures (B, C, H, W) in [-1, 1].
            reconstructions: The same shape; not clamped.
            optimizer_idx: 0 the autoencoder's side, 1 the discriminator's.
            global_step: Optimizer steps done.
            last_layer: The decoder's last weight; needed for side 0 with gradients.
            cond: What a conditional discriminator sees besides the picture.
            split: Prefix of the logged names.
            predicted_indices: Indices of the chosen entries, to log the codebook's use.

        Returns:
            Scalar loss, and detached figures.
        """
        if optimizer_idx == 1:
            return self.discriminator_side(
                inputs, reconstructions, cond=cond, global_step=global_step, split=split
            )
        inputs, reconstructions = inputs.float(), reconstructions.float()
        p_loss = self.perceptual_loss(inputs, reconstructions)
        rec_loss = self.pixel_loss(inputs, reconstructions) + self.perceptual_weight * p_loss
        nll_loss = rec_loss.mean()
        term, adversarial = self.adversarial_term(
            nll_loss, reconstructions, cond=cond, global_step=global_step, last_layer=last_layer
        )
        loss = nll_loss + term + self.codebook_weight * codebook_loss.mean()
        figures = {
            "total_loss": loss,
            "quant_loss": codebook_loss.mean(),
            "nll_loss": nll_loss,
            "rec_loss": nll_loss,
            "p_loss": p_loss.mean(),
        }
        if self.n_classes is not None and predicted_indices is not None:
            perplexity, used = measure_perplexity(predicted_indices, self.n_classes)
            figures |= {"perplexity": perplexity, "cluster_usage": used}
        return loss, named(figures | adversarial, split)
