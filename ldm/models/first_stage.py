"""Base class of the first stages: reading batches, one or two optimizers, label maps in colour.

Shapes: B batch, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm.errors import UserError
from ldm.models.training_parts import pictures_from, with_scheduler
from ldm.modules.diffusionmodules.model import Decoder, Encoder
from ldm.util import check_parameters, instantiate_from_config

Logs = dict[str, Tensor]


class FirstStage(nn.Module):
    """An encoder, a decoder and a training loss between them.

    If the loss has a ``discriminator``, a second optimizer trains it:
    ``training_step(batch, batch_idx, optimizer_idx)`` is then called for both.

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
        self.global_step = 0
        of_decoder = ("give_pre_end", "tanh_out")
        self.encoder = Encoder(**{k: v for k, v in ddconfig.items() if k not in of_decoder})
        self.decoder = Decoder(**ddconfig)
        self.loss = instantiate_from_config(lossconfig, where="lossconfig")
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

    @property
    def two_optimizers(self) -> bool:
        """Whether the loss has a discriminator, trained by an optimizer of its own."""
        return hasattr(self.loss, "discriminator")

    def init_from_ckpt(self, path: str, ignore_keys: Sequence[str] = ()) -> None:
        """Take weights from a checkpoint of an autoencoder or of a whole model."""
        from ldm.checkpoint.load import load_component

        load_component(self, path, prefix="first_stage_model.", ignore=tuple(ignore_keys))

    def get_last_layer(self) -> Tensor:
        """Return the weight whose gradients balance an adversarial loss."""
        return self.decoder.conv_out.weight

    def get_input(self, batch: Mapping[str, Any], key: str) -> Tensor:
        """Take pictures (B, H, W, C) from a batch as (B, C, H, W) float32."""
        return pictures_from(batch, key)

    def _inputs(self, batch: Mapping[str, Any], count: int) -> Tensor:
        """Return the first pictures of a batch on the model's device."""
        x = self.get_input(batch, self.image_key)[:count]
        return x.to(self.post_quant_conv.weight.device)

    def autoencoder_loss(
        self, batch: Mapping[str, Any], optimizer_idx: int, split: str
    ) -> tuple[Tensor, Logs]:
        """Return one side's loss for a batch, and the figures to log; subclasses define it."""
        raise NotImplementedError

    def training_step(
        self,
        batch: Mapping[str, Any],
        batch_idx: int,  # noqa: ARG002 - the training interface
        optimizer_idx: int = 0,
    ) -> tuple[Tensor, Logs]:
        """Return the loss to minimise and what to log.

        Args:
            batch: Pictures under ``image_key``.
            batch_idx: Number of the batch in this epoch.
            optimizer_idx: 0 trains the autoencoder, 1 the discriminator.
        """
        return self.autoencoder_loss(batch, optimizer_idx, "train")

    def validation_step(
        self,
        batch: Mapping[str, Any],
        batch_idx: int,  # noqa: ARG002 - the training interface
    ) -> Logs:
        """Return what to log for a validation batch."""
        return self.validation_figures(batch, "val")

    def validation_figures(self, batch: Mapping[str, Any], split: str) -> Logs:
        """Return the figures of both sides' losses."""
        sides = range(2 if self.two_optimizers else 1)
        figures = [self.autoencoder_loss(batch, side, split)[1] for side in sides]
        return {name: value for side in figures for name, value in side.items()}

    def on_train_batch_start(self, batch: Any, batch_idx: int, step: int) -> None:  # noqa: ARG002
        """Note the step, which decides when a discriminator takes part."""
        self.global_step = step

    def on_train_batch_end(self) -> None:
        """Do nothing: no average of the weights is kept."""

    def autoencoder_parameters(self) -> list[nn.Parameter]:
        """Return what the first optimizer trains: everything except the loss's own parameters."""
        named = self.named_parameters()
        return [p for name, p in named if p.requires_grad and not name.startswith("loss.")]

    def configure_optimizers(self) -> Any:
        """Return Adam with the reference's betas, a second one for a discriminator, and schedules.

        Raises:
            UserError: The model has no loss to train with.
        """
        from ldm.modules.losses.contperceptual import DummyLoss  # only training needs losses

        if isinstance(self.loss, nn.Identity | DummyLoss):
            raise UserError(
                f"lossconfig is {type(self.loss).__name__}, which trains nothing; expected a loss "
                "such as ldm.modules.losses.LPIPSWithDiscriminator; name one in lossconfig.target"
            )
        rate, betas = self.learning_rate, (0.5, 0.9)
        own = torch.optim.Adam(
            self.autoencoder_parameters(), lr=rate * self.lr_g_factor, betas=betas
        )
        if not self.two_optimizers:
            return with_scheduler(own, self.scheduler_config)
        against = torch.optim.Adam(self.loss.discriminator.parameters(), lr=rate, betas=betas)
        if self.scheduler_config is None:
            return [own, against], []
        pairs = [with_scheduler(optimizer, self.scheduler_config) for optimizer in (own, against)]
        return [own, against], [schedule for _, (schedule,) in pairs]

    def to_rgb(self, x: Tensor) -> Tensor:
        """Show label maps (B, C, H, W) in random colours, as (B, 3, H, W) in [-1, 1].

        Pictures of up to three channels are returned as they are.
        """
        if x.shape[1] <= 3:
            return x
        if not hasattr(self, "colorize"):
            generator = torch.Generator().manual_seed(0)
            colours = torch.randn(3, x.shape[1], 1, 1, generator=generator)
            # Not persistent: logging pictures must not change what a checkpoint holds.
            self.register_buffer("colorize", colours.to(x), persistent=False)
        shown = F.conv2d(x, self.colorize)
        low, high = shown.min(), shown.max()
        return 2.0 * (shown - low) / (high - low) - 1.0
