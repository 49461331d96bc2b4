"""First stages: pictures to latents and back.

Shapes: B batch, H W pixels, h w latent sides, C latent channels (embed_dim).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ldm.errors import UserError
from ldm.models.training_parts import pictures_from, with_scheduler
from ldm.modules.diffusionmodules.model import Decoder, Encoder
from ldm.modules.distributions.distributions import DiagonalGaussianDistribution
from ldm.util import check_parameters, instantiate_from_config


class AutoencoderKL(nn.Module):
    """Autoencoder with a Gaussian latent: arXiv:2112.10752, section 3.1, KL-regularised.

    Args:
        ddconfig: Parameters shared by the encoder and the decoder.
        lossconfig: ``target`` / ``params`` of the training loss; ``torch.nn.Identity`` without one.
        embed_dim: Latent channels C.
        ckpt_path: Checkpoint to start from.
        ignore_keys: Prefixes of keys of that checkpoint to leave out.
        image_key: Entry of a batch that holds the pictures (B, H, W, 3) in [-1, 1].
        colorize_nlabels: Kept for CompVis: label maps come with a later data set.
        monitor: Logged value that chooses the best checkpoint.
        scheduler_config: ``target`` / ``params`` of a learning-rate multiplier, per step.
        decoder_only: Train the decoder alone, as the published ft-MSE autoencoders of SD were: the
            latents stay what they were, and a diffusion model trained in them stays valid.

    Raises:
        UserError: ``ddconfig`` is not for a KL autoencoder or has an unknown parameter.
    """

    def __init__(
        self,
        ddconfig: Mapping[str, Any],
        lossconfig: Mapping[str, Any],
        embed_dim: int,
        ckpt_path: str | None = None,
        ignore_keys: Sequence[str] = (),
        image_key: str = "image",
        colorize_nlabels: int | None = None,  # noqa: ARG002 - kept for CompVis
        monitor: str | None = None,
        scheduler_config: Mapping[str, Any] | None = None,
        decoder_only: bool = False,
    ):
        super().__init__()
        if not ddconfig.get("double_z", True):
            raise UserError("ddconfig.double_z is false; AutoencoderKL needs mean and variance")
        check_parameters(Decoder, ddconfig, "first stage ddconfig")
        self.image_key, self.monitor, self.embed_dim = image_key, monitor, embed_dim
        self.learning_rate = 1e-4
        self.scheduler_config = scheduler_config
        decoder_s = ("give_pre_end", "tanh_out")
        self.encoder = Encoder(**{k: v for k, v in ddconfig.items() if k not in decoder_s})
        self.decoder = Decoder(**ddconfig)
        self.loss = instantiate_from_config(lossconfig, where="lossconfig")
        z_channels = ddconfig["z_channels"]
        self.quant_conv = nn.Conv2d(2 * z_channels, 2 * embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(embed_dim, z_channels, 1)
        if decoder_only:
            for part in (self.encoder, self.quant_conv):
                part.requires_grad_(False)
        if ckpt_path is not None:
            self.init_from_ckpt(ckpt_path, ignore_keys)

    @property
    def downsampling_factor(self) -> int:
        """Pixels per latent element along a side: f."""
        return 2 ** (len(self.decoder.up) - 1)

    def init_from_ckpt(self, path: str, ignore_keys: Sequence[str] = ()) -> None:
        """Take weights from a checkpoint of an autoencoder or of a whole model."""
        from ldm.checkpoint.load import load_component

        load_component(self, path, prefix="first_stage_model.", ignore=tuple(ignore_keys))

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

    def get_last_layer(self) -> Tensor:
        """Return the weight by whose gradient an adversarial loss is balanced."""
        return self.decoder.conv_out.weight

    def get_input(self, batch: Mapping[str, Any], key: str) -> Tensor:
        """Take pictures (B, H, W, 3) from a batch as (B, 3, H, W) float32."""
        return pictures_from(batch, key)

    def shared_step(self, batch: Mapping[str, Any], split: str) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch and what to log of it."""
        inputs = self.get_input(batch, self.image_key)
        reconstructions, posterior = self(inputs)
        return self.loss(inputs, reconstructions, posterior, split=split)

    def training_step(
        self,
        batch: Mapping[str, Any],
        batch_idx: int,  # noqa: ARG002 - the training interface
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss to minimise and what to log."""
        return self.shared_step(batch, "train")

    def validation_step(
        self,
        batch: Mapping[str, Any],
        batch_idx: int,  # noqa: ARG002 - the training interface
    ) -> dict[str, Tensor]:
        """Return what to log of a validation batch."""
        return self.shared_step(batch, "val")[1]

    def on_train_batch_start(self, batch: Mapping[str, Any], batch_idx: int, step: int) -> None:
        """Do nothing: the autoencoder needs no preparation."""

    def on_train_batch_end(self) -> None:
        """Do nothing: the autoencoder keeps no average of its weights."""

    def configure_optimizers(self) -> Any:
        """Return Adam with the reference's betas, and the schedule if one is configured."""
        trained = [p for p in self.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(trained, lr=self.learning_rate, betas=(0.5, 0.9))
        return with_scheduler(optimizer, self.scheduler_config)

    @torch.no_grad()
    def log_images(
        self,
        batch: Mapping[str, Any],
        N: int = 8,  # noqa: N803 - the logging interface
        only_inputs: bool = False,
    ) -> dict[str, Tensor]:
        """Return pictures to look at, each (n, 3, H, W) in [-1, 1]."""
        x = self.get_input(batch, self.image_key)[:N].to(self.post_quant_conv.weight.device)
        if only_inputs:
            return {"inputs": x}
        reconstructions, posterior = self(x)
        prior = self.decode(torch.randn_like(posterior.mean))
        return {"inputs": x, "reconstructions": reconstructions, "samples": prior}


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
