"""The plain loss of a KL autoencoder: pixel error and a small KL term of the posterior.

Shapes: B batch · C channels · H W pixels · h w latent.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ldm.errors import UserError

Kind = Literal["l1", "l2", "l1+l2"]


class ReconstructionLoss(nn.Module):
    """Mean pixel error + ``kl_weight`` x KL divergence.

    Everything is divided by the number of pixel values C·H·W: the loss has the size of one pixel's
    error whatever the picture's size, and ``kl_weight`` means what it does in the reference's
    ``LPIPSWithDiscriminator``, which sums both terms over the picture. The loss has no parameters,
    so a checkpoint has no ``loss.*`` keys.

    Args:
        kind: ``l1`` absolute error, ``l2`` squared error (what PSNR measures), or their sum.
        kl_weight: Weight of the KL term; 1e-6 keeps latents near unit variance at almost no cost
            in sharpness.

    Raises:
        UserError: Unknown ``kind``.
    """

    made_for = "AutoencoderKL"

    def __init__(self, kind: Kind = "l1", kl_weight: float = 1.0e-6):
        super().__init__()
        if kind not in get_args(Kind):
            raise UserError(f"lossconfig kind {kind!r} given; expected one of {get_args(Kind)}")
        self.kind = kind
        self.kl_weight = kl_weight

    def forward(
        self, inputs: Tensor, reconstructions: Tensor, posterior: Any, split: str = "train"
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss.

        Args:
            inputs: Pictures (B, C, H, W) in [-1, 1].
            reconstructions: The same shape; not clamped.
            posterior: Has ``kl()`` -> (B,), summed over the latent, in nats.
            split: Prefix of the logged names.

        Returns:
            Scalar loss; and detached figures: ``total_loss``, ``rec_loss`` (mean pixel error of
            ``kind``), ``kl_loss`` (nats per picture), ``psnr`` (dB, clamped, mean over pictures).
        """
        # In float32 even under autocast: bfloat16 has only two decimal digits.
        difference = reconstructions.float() - inputs.float()
        rec_loss = self._error(difference)
        kl_loss = posterior.kl().float().mean()
        values_per_picture = inputs[0].numel()
        loss = rec_loss + self.kl_weight * kl_loss / values_per_picture
        logs = {
            f"{split}/total_loss": loss.detach(),
            f"{split}/rec_loss": rec_loss.detach(),
            f"{split}/kl_loss": kl_loss.detach(),
            f"{split}/psnr": psnr(inputs, reconstructions),
        }
        return loss, logs

    def _error(self, difference: Tensor) -> Tensor:
        error = difference.new_zeros(())
        if "l1" in self.kind:
            error = error + difference.abs().mean()
        if "l2" in self.kind:
            error = error + difference.square().mean()
        return error


@torch.no_grad()
def psnr(inputs: Tensor, reconstructions: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, mean over pictures (B, C, H, W) in [-1, 1].

    The peak is 2, the width of the range. Identical pictures give 100 dB, not infinity.
    """
    difference = reconstructions.float().clamp(-1.0, 1.0) - inputs.float()
    mse = difference.square().flatten(1).mean(1).clamp_min(4.0e-10)  # (B,)
    return (10.0 * torch.log10(4.0 / mse)).mean()
