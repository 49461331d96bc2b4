"""The first stages that researchers subclass and Lightning trains.

What drawing needs of them is in ``first_stage`` and ``vq_first_stage``; here is their training.
Shapes: B batch, H W pixels, h w latent sides, C latent channels (embed_dim).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ldm.models.first_stage import IdentityFirstStage, KLFirstStage
from ldm.models.first_stage_training import FirstStageTraining
from ldm.models.hub_training import Figures
from ldm.models.vq_first_stage import VQFirstStage, VQFirstStageInterface
from ldm.modules.diffusionmodules.model import Decoder, Encoder
from ldm.modules.distributions.distributions import DiagonalGaussianDistribution
from ldm.modules.ema import LitEma
from ldm.modules.quantize import VectorQuantizer2 as VectorQuantizer
from ldm.util import instantiate_from_config

DRAWN_BY = {
    "AutoencoderKL": "ldm.models.first_stage.KLFirstStage",
    "IdentityFirstStage": "ldm.models.first_stage.IdentityFirstStage",
    "VQModel": "ldm.models.vq_first_stage.VQFirstStage",
    "VQModelInterface": "ldm.models.vq_first_stage.VQFirstStageInterface",
}
"""The class without training that draws in place of one here; see ``ldm.checkpoint.drawn_by``.

A method that drawing uses belongs there. If one is overridden in a class's body here, the class
draws itself, and every picture waits for Lightning.
"""

__all__ = ["AutoencoderKL", "IdentityFirstStage", "VQModel", "VQModelInterface"]
# What CompVis's file of this name imports, and forks import from here.
__all__ += ["Decoder", "DiagonalGaussianDistribution", "Encoder", "LitEma", "VectorQuantizer"]
__all__ += ["contextmanager", "instantiate_from_config"]

SIDE_STEP = 16
"""Pixels between two sizes of ``batch_resize_range``."""
LARGEST_FIRST = 5
"""Initial steps at the largest size, so that a lack of memory shows at once."""


class AutoencoderKL(KLFirstStage, FirstStageTraining):
    """Autoencoder with a Gaussian latent, and its training: arXiv:2112.10752, section 3.1.

    A LightningModule; its parameters are those of ``KLFirstStage``.
    """

    def autoencoder_loss(
        self, batch: Mapping[str, Any], optimizer_idx: int, split: str
    ) -> tuple[Tensor, Figures]:
        """Return one side's loss for a batch, and the figures to log."""
        inputs = self.get_input(batch, self.image_key)
        # The discriminator's side does not train the autoencoder.
        with torch.set_grad_enabled(optimizer_idx == 0 and torch.is_grad_enabled()):
            reconstructions, posterior = self(inputs)
        if "optimizer_idx" not in inspect.signature(self.loss.forward).parameters:
            return self.loss(inputs, reconstructions, posterior, split=split)
        return self.loss(
            inputs,
            reconstructions,
            posterior,
            optimizer_idx,
            self.steps_done,
            last_layer=self.get_last_layer(),
            split=split,
        )

    @torch.no_grad()
    def log_images(
        self,
        batch: Mapping[str, Any],
        only_inputs: bool = False,
        N: int = 8,  # noqa: N803 - the logging interface
        **kwargs: Any,  # noqa: ARG002 - of other models' pictures
    ) -> dict[str, Tensor]:
        """Return pictures to look at, each (n, 3, H, W) in [-1, 1]."""
        x = self.first_pictures(batch, N)
        if only_inputs:
            return {"inputs": x}
        reconstructions, posterior = self(x)
        prior = self.decode(torch.randn_like(posterior.mean))
        pictures = {"inputs": x, "reconstructions": reconstructions, "samples": prior}
        return {name: self.to_rgb(shown) for name, shown in pictures.items()}


class VQModel(VQFirstStage, FirstStageTraining):
    """Autoencoder whose latents are entries of a codebook, and its training: arXiv:2012.09841.

    A LightningModule; its parameters are those of ``VQFirstStage``.
    """

    def get_input(self, batch: Mapping[str, Any], k: str) -> Tensor:
        """Take pictures (B, H, W, C) from a batch as (B, C, H, W) float32, resized if asked."""
        x = super().get_input(batch, k)
        if self.batch_resize_range is None:
            return x
        side = self._draw_side(*self.batch_resize_range)
        return x if side == x.shape[2] else F.interpolate(x, size=side, mode="bicubic")

    def _draw_side(self, lowest: int, highest: int) -> int:
        if self.steps_done < LARGEST_FIRST:
            return highest
        sides = range(lowest, highest + 1, SIDE_STEP)
        return sides[int(torch.randint(len(sides), ()))]

    def autoencoder_loss(
        self, batch: Mapping[str, Any], optimizer_idx: int, split: str
    ) -> tuple[Tensor, Figures]:
        """Return one side's loss for a batch, and the figures to log."""
        x = self.get_input(batch, self.image_key)
        # The discriminator's side does not train the autoencoder.
        with torch.set_grad_enabled(optimizer_idx == 0 and torch.is_grad_enabled()):
            reconstruction, codebook_loss, indices = self(x, return_pred_indices=True)
        return self.loss(
            codebook_loss,
            x,
            reconstruction,
            optimizer_idx,
            self.steps_done,
            last_layer=self.get_last_layer(),
            split=split,
            predicted_indices=indices,
        )

    def log_training(
        self,
        loss: Tensor,
        figures: Figures,
        batch: Mapping[str, Any],
        optimizer_idx: int,
    ) -> None:
        """Log one side's figures, which name its loss already."""
        del loss, optimizer_idx
        self.log_figures(figures, batch, on_step=True, on_epoch=True)

    def validation_figures(self, batch: Mapping[str, Any]) -> Figures:
        """Return what to log of a validation batch; with EMA, of the averaged weights too."""
        figures = self.figures_of_sides(batch, "val")
        if self.use_ema:
            with self.ema_scope():
                figures |= self.figures_of_sides(batch, "val_ema")
        return figures

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> Figures:
        """Log a validation batch's figures; with EMA, those of the averaged weights too."""
        figures = self._validation_step(batch, batch_idx)
        if self.use_ema:
            with self.ema_scope():
                self._validation_step(batch, batch_idx, suffix="_ema")
        return figures

    def _validation_step(
        self,
        batch: Mapping[str, Any],
        batch_idx: int,
        suffix: str = "",
    ) -> Figures:
        """Log the figures of a validation batch as ``val<suffix>/...``, and return them."""
        del batch_idx  # the reference's
        figures = self.figures_of_sides(batch, f"val{suffix}")
        self.log_figures(figures, batch, on_step=False)
        return figures

    def move_averages(self) -> None:
        """Move the average of the weights."""
        if self.use_ema:
            self.model_ema(self)

    @torch.no_grad()
    def log_images(
        self,
        batch: Mapping[str, Any],
        only_inputs: bool = False,
        plot_ema: bool = False,
        N: int = 8,  # noqa: N803 - the logging interface
        **kwargs: Any,  # noqa: ARG002 - of other models' pictures
    ) -> dict[str, Tensor]:
        """Return pictures to look at, each (n, 3, H, W) in [-1, 1].

        Args:
            batch: Pictures under ``image_key``.
            only_inputs: Return only the batch's own pictures.
            plot_ema: Also show what the averaged weights reconstruct.
            N: Pictures of each kind, at most.
            **kwargs: Left unused.
        """
        x = self.first_pictures(batch, N)
        if only_inputs:
            return {"inputs": self.to_rgb(x)}
        pictures = {"inputs": x, "reconstructions": self(x)[0]}
        noise = self.quant_conv(torch.randn_like(self.encoder(x)))
        pictures["samples"] = self.decode(self.quantize(noise)[0])
        if plot_ema:
            with self.ema_scope():
                pictures["reconstructions_ema"] = self(x)[0]
        return {name: self.to_rgb(shown) for name, shown in pictures.items()}


class VQModelInterface(VQFirstStageInterface, VQModel):
    """A VQ first stage for diffusion: latents are not quantized until they are decoded.

    A LightningModule; its parameters are those of ``VQFirstStageInterface``.
    """
