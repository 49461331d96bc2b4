"""First stages: encode pictures to latents and decode them back.

Shapes: B batch, H W pixels, h w latent sides, C latent channels (embed_dim).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ldm.errors import UserError
from ldm.models.first_stage import FirstStage, Logs
from ldm.modules.distributions.distributions import DiagonalGaussianDistribution
from ldm.util import lazy_exports

# The reference has all first stages in this file.
ELSEWHERE = {
    "VQModel": "ldm.models.vq_autoencoder",
    "VQModelInterface": "ldm.models.vq_autoencoder",
}
__all__ = ["AutoencoderKL", "IdentityFirstStage"]
__all__ += list(ELSEWHERE)
__getattr__, __dir__ = lazy_exports(__name__, ELSEWHERE)


class AutoencoderKL(FirstStage):
    """Autoencoder with a Gaussian latent: arXiv:2112.10752, section 3.1, KL-regularised.

    Args:
        ddconfig: Parameters shared by the encoder and the decoder.
        lossconfig: ``target`` / ``params`` of the training loss; ``torch.nn.Identity`` for none.
            ``ReconstructionLoss`` needs one optimizer, ``LPIPSWithDiscriminator`` two.
        embed_dim: Latent channels C.
        ckpt_path: Checkpoint to start from.
        ignore_keys: Prefixes of that checkpoint's keys to ignore.
        image_key: Entry of a batch that holds the pictures (B, H, W, 3) in [-1, 1].
        colorize_nlabels: Channels of label maps, which are shown in random colours.
        monitor: Logged value that chooses the best checkpoint.
        scheduler_config: ``target`` / ``params`` of a learning-rate multiplier, per step.
        decoder_only: Train only the decoder, as for SD's published ft-MSE autoencoders: the
            latents do not change, so a diffusion model trained on them stays valid.

    Raises:
        UserError: ``ddconfig`` is not for a KL autoencoder or has an unknown parameter, or the
            loss is a VQ autoencoder's.
    """

    takes_losses_for = "AutoencoderKL"

    def __init__(
        self,
        ddconfig: Mapping[str, Any],
        lossconfig: Mapping[str, Any],
        embed_dim: int,
        ckpt_path: str | None = None,
        ignore_keys: Sequence[str] = (),
        image_key: str = "image",
        colorize_nlabels: int | None = None,
        monitor: str | None = None,
        scheduler_config: Mapping[str, Any] | None = None,
        decoder_only: bool = False,
    ):
        if not ddconfig.get("double_z", True):
            raise UserError("ddconfig.double_z is false; AutoencoderKL needs mean and variance")
        super().__init__(
            ddconfig,
            lossconfig,
            embed_dim,
            image_key=image_key,
            colorize_nlabels=colorize_nlabels,
            monitor=monitor,
            scheduler_config=scheduler_config,
        )
        z_channels = ddconfig["z_channels"]
        self.quant_conv = nn.Conv2d(2 * z_channels, 2 * embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(embed_dim, z_channels, 1)
        if decoder_only:
            for part in (self.encoder, self.quant_conv):
                part.requires_grad_(False)
        if ckpt_path is not None:
            self.init_from_ckpt(ckpt_path, ignore_keys)

    def encode(self, x: Tensor) -> DiagonalGaussianDistribution:
        """Encode pictures (B, 3, H, W) in [-1, 1] to a distribution over (B, C, h, w)."""
        return DiagonalGaussianDistribution(self.quant_conv(self.encoder(x)))

    def decode(self, z: Tensor) -> Tensor:
        """Decode latents (B, C, h, w) to pictures (B, 3, H, W), about [-1, 1], unclamped."""
        return self.decoder(self.post_quant_conv(z))

    def forward(
        self, x: Tensor, sample_posterior: bool = True
    ) -> tuple[Tensor, DiagonalGaussianDistribution]:
        """Return the reconstruction and the posterior."""
        posterior = self.encode(x)
        z = posterior.sample() if sample_posterior else posterior.mode()
        return self.decode(z), posterior

    def autoencoder_loss(
        self, batch: Mapping[str, Any], optimizer_idx: int, split: str
    ) -> tuple[Tensor, Logs]:
        """Return one side's loss for a batch, and the figures to log."""
        inputs = self.get_input(batch, self.image_key)
        # The discriminator's side does not train the autoencoder.
        with torch.set_grad_enabled(optimizer_idx == 0 and torch.is_grad_enabled()):
            reconstructions, posterior = self(inputs)
        if not self.two_optimizers:
            return self.loss(inputs, reconstructions, posterior, split=split)
        return self.loss(
            inputs,
            reconstructions,
            posterior,
            optimizer_idx,
            self.global_step,
            last_layer=self.get_last_layer(),
            split=split,
        )

    @torch.no_grad()
    def log_images(
        self,
        batch: Mapping[str, Any],
        N: int = 8,  # noqa: N803 - the logging interface
        only_inputs: bool = False,
    ) -> dict[str, Tensor]:
        """Return pictures to look at, each (n, 3, H, W) in [-1, 1]."""
        x = self._inputs(batch, N)
        if only_inputs:
            return {"inputs": x}
        reconstructions, posterior = self(x)
        prior = self.decode(torch.randn_like(posterior.mean))
        pictures = {"inputs": x, "reconstructions": reconstructions, "samples": prior}
        return {name: self.to_rgb(shown) for name, shown in pictures.items()}


class IdentityFirstStage(nn.Module):
    """A first stage that leaves pictures as they are: diffusion in pixel space."""

    def __init__(self, *args: Any, vq_interface: bool = False, **kwargs: Any):  # noqa: ARG002
        super().__init__()
        self.vq_interface = vq_interface

    def encode(self, x: Tensor) -> Tensor:
        return x

    def decode(self, x: Tensor) -> Tensor:
        return x

    def quantize(self, x: Tensor) -> Any:
        """Return ``x``, with CompVis's empty extras when built with ``vq_interface``."""
        return (x, None, [None, None, None]) if self.vq_interface else x

    def forward(self, x: Tensor) -> Tensor:
        return x
