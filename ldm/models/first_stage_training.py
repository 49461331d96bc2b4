"""Training of first stages under Lightning: a loss, and a discriminator that learns against it.

Shapes: B batch, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm.errors import UserError
from ldm.models.first_stage import FirstStage
from ldm.models.hub_training import Figures
from ldm.models.training_parts import pictures_from, with_scheduler
from ldm.models.two_sided_training import TwoSidedTraining


class FirstStageTraining(FirstStage, TwoSidedTraining):
    """Training of an autoencoder, by one optimizer, or by two if its loss has a discriminator."""

    @property
    def two_optimizers(self) -> bool:
        """Whether the loss has a discriminator, trained by an optimizer of its own."""
        return hasattr(self.loss, "discriminator")

    def get_input(self, batch: Mapping[str, Any], k: str) -> Tensor:
        """Take pictures (B, H, W, C) from a batch as (B, C, H, W) float32."""
        return pictures_from(batch, k)

    def first_pictures(self, batch: Mapping[str, Any], count: int) -> Tensor:
        """Return the first pictures of a batch on the model's device."""
        return self.get_input(batch, self.image_key)[:count].to(self.get_last_layer().device)

    def autoencoder_loss(
        self, batch: Mapping[str, Any], optimizer_idx: int, split: str
    ) -> tuple[Tensor, Figures]:
        """Return one side's loss for a batch, and the figures to log; subclasses define it."""
        raise NotImplementedError

    def training_step(
        self,
        batch: Mapping[str, Any],
        batch_idx: int,  # noqa: ARG002 - Lightning's
        optimizer_idx: int,
    ) -> Tensor:
        """Return the loss to minimise and log its figures.

        Args:
            batch: Pictures under ``image_key``.
            batch_idx: Number of the batch in this epoch.
            optimizer_idx: 0 for the autoencoder's loss, 1 for the discriminator's; left out, both
                sides are trained.
        """
        loss, figures = self.autoencoder_loss(batch, optimizer_idx, "train")
        self.log_training(loss, figures, batch, optimizer_idx)
        return loss

    def log_training(
        self, loss: Tensor, figures: Figures, batch: Mapping[str, Any], optimizer_idx: int
    ) -> None:
        """Log one side's loss and figures, under the reference's names for this kind."""
        self.log_figures(figures, batch, on_step=True)
        if self.two_optimizers:
            name = "discloss" if optimizer_idx else "aeloss"
            self.log_figures({name: loss}, batch, on_step=True, on_epoch=True)

    def validation_figures(self, batch: Mapping[str, Any]) -> Figures:
        """Return the figures of both sides' losses."""
        return self.figures_of_sides(batch, "val")

    def figures_of_sides(self, batch: Mapping[str, Any], split: str) -> Figures:
        """Return the figures of both sides' losses, and the first loss, named ``<split>/...``."""
        loss, figures = self.autoencoder_loss(batch, 0, split)
        figures = {f"{split}/aeloss": loss, **figures}
        return (
            figures | self.autoencoder_loss(batch, 1, split)[1] if self.two_optimizers else figures
        )

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
