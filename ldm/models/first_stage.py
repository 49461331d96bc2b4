"""First stages as drawing needs them: encode pictures to latents and decode them back.

``ldm.models.autoencoder`` has their public classes, which are these and training, under Lightning;
``vq_first_stage`` those with a codebook.
Shapes: B batch, H W pixels, h w latent sides, C latent channels (embed_dim).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ldm.building import check_parameters, place
from ldm.errors import UserError
from ldm.models.family_state import FamilyState
from ldm.modules.diffusionmodules.model import Decoder, Encoder
from ldm.modules.distributions.distributions import DiagonalGaussianDistribution
from ldm.util import instantiate_from_config


class FirstStage(FamilyState):
    """An encoder, a decoder and, where it is to train, a loss between them.

    Args:
        ddconfig: Parameters shared by the encoder and the decoder.
        lossconfig: ``target`` / ``params`` of the training loss; ``torch.nn.Identity`` for none.
        embed_dim: Latent channels.
        image_key: Entry of a batch that holds the pictures (B, H, W, C) in [-1, 1].
        colorize_nlabels: Channels of label maps, which are shown in random colours.
        monitor: Logged value that chooses the best checkpoint.
        scheduler_config: ``target`` / ``params`` of a learning-rate multiplier, per step.

    Raises:
        UserError: ``ddconfig`` has an unknown parameter or lacks one, ``colorize_nlabels`` is not
            a number, or the loss is for another kind of autoencoder.
    """

    takes_losses_for: str | None = None
    """The ``made_for`` of the losses that can train this kind of autoencoder; None: any."""

    def __init__(
        self,
        ddconfig: Mapping[str, Any],
        lossconfig: Mapping[str, Any],
        embed_dim: int,
        *,
        image_key: str,
        colorize_nlabels: int | None,
        monitor: str | None,
        scheduler_config: Mapping[str, Any] | None,
    ):
        super().__init__()
        check_parameters(Decoder, ddconfig, "first stage ddconfig")
        self.image_key, self.monitor, self.embed_dim = image_key, monitor, embed_dim
        self.learning_rate, self.lr_g_factor = 1e-4, 1.0
        self.scheduler_config = scheduler_config
        of_decoder = ("give_pre_end", "tanh_out")
        self.encoder = Encoder(**{k: v for k, v in ddconfig.items() if k not in of_decoder})
        self.decoder = Decoder(**ddconfig)
        with place("lossconfig"):
            self.loss = instantiate_from_config(lossconfig)
        made_for = getattr(self.loss, "made_for", None)
        if None not in (made_for, self.takes_losses_for) and made_for != self.takes_losses_for:
            raise UserError(
                f"lossconfig.target is {type(self.loss).__name__}, which is not for "
                f"{type(self).__name__}; AutoencoderKL takes LPIPSWithDiscriminator or "
                "ReconstructionLoss, VQModel VQLPIPSWithDiscriminator; name the other one"
            )
        if colorize_nlabels is not None:
            if not isinstance(colorize_nlabels, int):
                raise UserError(f"colorize_nlabels is {colorize_nlabels!r}; expected a number")
            self.register_buffer("colorize", torch.randn(3, colorize_nlabels, 1, 1))

    @property
    def downsampling_factor(self) -> int:
        """Pixels per latent element along a side: f."""
        return 2 ** (len(self.decoder.up) - 1)

    def init_from_ckpt(self, path: str, ignore_keys: Sequence[str] = ()) -> None:
        """Take weights from a checkpoint of an autoencoder or of a whole model."""
        from ldm.checkpoint.load import load_component

        load_component(self, path, prefix="first_stage_model.", ignore=tuple(ignore_keys))

    def get_last_layer(self) -> Tensor:
        """Return the weight whose gradients balance an adversarial loss."""
        return self.decoder.conv_out.weight


class KLFirstStage(FirstStage):
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
        self, input: Tensor, sample_posterior: bool = True
    ) -> tuple[Tensor, DiagonalGaussianDistribution]:
        """Return the reconstruction (B, 3, H, W) of ``input`` and its posterior."""
        posterior = self.encode(input)
        z = posterior.sample() if sample_posterior else posterior.mode()
        return self.decode(z), posterior


class IdentityFirstStage(nn.Module):
    """A first stage that leaves pictures as they are: diffusion in pixel space."""

    def __init__(self, *args: Any, vq_interface: bool = False, **kwargs: Any):  # noqa: ARG002
        super().__init__()
        self.vq_interface = vq_interface

    def encode(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        return x

    def decode(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        return x

    def quantize(self, x: Tensor, *_: Any, **__: Any) -> Any:
        """Return ``x``, with CompVis's empty extras when built with ``vq_interface``."""
        return (x, None, [None, None, None]) if self.vq_interface else x

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        return x
