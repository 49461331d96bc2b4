"""First stages with a codebook: VQ-GAN, arXiv:2012.09841, section 3.1.

Shapes: B batch, H W pixels, h w latent sides, C latent channels (embed_dim).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm.errors import UserError
from ldm.models.first_stage import FirstStage, Logs
from ldm.modules.ema import LitEma
from ldm.modules.quantize import Info, VectorQuantizer2

BETA = 0.25
SIDE_STEP = 16
"""Pixels between two sizes of ``batch_resize_range``."""
LARGEST_FIRST = 5
"""Initial steps at the largest size, so that a lack of memory shows at once."""


class VQModel(FirstStage):
    """Autoencoder whose latents are entries of a learnt codebook.

    Args:
        ddconfig: Parameters shared by the encoder and the decoder, with ``double_z`` false.
        lossconfig: ``target`` / ``params`` of ``VQLPIPSWithDiscriminator`` or a class like it;
            ``torch.nn.Identity`` if it is not trained.
        n_embed: Entries of the codebook.
        embed_dim: Latent channels C.
        ckpt_path: Checkpoint to start from.
        ignore_keys: Prefixes of that checkpoint's keys to ignore.
        image_key: Entry of a batch that holds the pictures (B, H, W, 3) in [-1, 1].
        colorize_nlabels: Channels of label maps, which are shown in random colours.
        monitor: Logged value that chooses the best checkpoint.
        batch_resize_range: Smallest and largest side, in pixels: every batch is resized to a
            square of a random side between them, a multiple of 16 above the smallest.
        scheduler_config: ``target`` / ``params`` of a learning-rate multiplier, per step.
        lr_g_factor: Learning rate of the autoencoder over that of the discriminator.
        remap: See ``VectorQuantizer2``.
        sane_index_shape: See ``VectorQuantizer2``.
        use_ema: Keep an average of the autoencoder's weights, in ``model_ema``.

    Raises:
        UserError: ``ddconfig`` is not for a VQ autoencoder or has an unknown parameter,
            ``batch_resize_range`` is not a range, or the loss is a KL autoencoder's.
    """

    takes_losses_for = "VQModel"

    def __init__(
        self,
        ddconfig: Mapping[str, Any],
        lossconfig: Mapping[str, Any],
        n_embed: int,
        embed_dim: int,
        ckpt_path: str | None = None,
        ignore_keys: Sequence[str] = (),
        image_key: str = "image",
        colorize_nlabels: int | None = None,
        monitor: str | None = None,
        batch_resize_range: Sequence[int] | None = None,
        scheduler_config: Mapping[str, Any] | None = None,
        lr_g_factor: float = 1.0,
        remap: str | None = None,
        sane_index_shape: bool = False,
        use_ema: bool = False,
    ):
        if ddconfig.get("double_z", True):
            raise UserError(
                "ddconfig.double_z is true; a VQ first stage has no variance: set it to false"
            )
        super().__init__(
            ddconfig,
            lossconfig,
            embed_dim,
            image_key=image_key,
            colorize_nlabels=colorize_nlabels,
            monitor=monitor,
            scheduler_config=scheduler_config,
        )
        self.n_embed, self.lr_g_factor, self.use_ema = n_embed, lr_g_factor, use_ema
        self.batch_resize_range = _checked_range(batch_resize_range)
        self.quantize = VectorQuantizer2(
            n_embed, embed_dim, beta=BETA, remap=remap, sane_index_shape=sane_index_shape
        )
        self.quant_conv = nn.Conv2d(ddconfig["z_channels"], embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(embed_dim, ddconfig["z_channels"], 1)
        if use_ema:
            self._follow()
        if ckpt_path is not None:
            self.init_from_ckpt(ckpt_path, ignore_keys)

    def _follow(self) -> None:
        """Start the average, of the autoencoder only and not of its loss."""
        loss, self.loss = self.loss, None
        self.model_ema = LitEma(self)
        self.loss = loss

    @contextmanager
    def ema_scope(self, context: str | None = None) -> Iterator[None]:  # noqa: ARG002 - CompVis's
        """Use the averaged weights inside the block, and restore the trained ones after it."""
        if not self.use_ema:
            yield
            return
        self.model_ema.store(self.parameters())
        self.model_ema.copy_to(self)
        try:
            yield
        finally:
            self.model_ema.restore(self.parameters())

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor, Info]:
        """Encode pictures (B, 3, H, W) in [-1, 1].

        Returns:
            Codebook entries (B, C, h, w), the codebook's loss, and ``(None, None, indices)``.
        """
        return self.quantize(self.encode_to_prequant(x))

    def encode_to_prequant(self, x: Tensor) -> Tensor:
        """Encode pictures to latents (B, C, h, w) before quantization."""
        return self.quant_conv(self.encoder(x))

    def decode(self, quant: Tensor) -> Tensor:
        """Decode entries (B, C, h, w) to pictures (B, 3, H, W), about [-1, 1], unclamped."""
        return self.decoder(self.post_quant_conv(quant))

    def decode_code(self, code: Tensor) -> Tensor:
        """Decode indices (B, h, w) of entries to pictures."""
        return self.decode(self.quantize.embed_code(code))

    def forward(self, x: Tensor, return_pred_indices: bool = False) -> tuple[Tensor, ...]:
        """Return the reconstruction, the codebook's loss and, if asked, the indices."""
        quant, codebook_loss, (_, _, indices) = VQModel.encode(self, x)
        reconstruction = VQModel.decode(self, quant)
        if return_pred_indices:
            return reconstruction, codebook_loss, indices
        return reconstruction, codebook_loss

    def get_input(self, batch: Mapping[str, Any], key: str) -> Tensor:
        """Take pictures (B, H, W, C) from a batch as (B, C, H, W) float32, resized if asked."""
        x = super().get_input(batch, key)
        if self.batch_resize_range is None:
            return x
        side = self._draw_side(*self.batch_resize_range)
        return x if side == x.shape[2] else F.interpolate(x, size=side, mode="bicubic")

    def _draw_side(self, lowest: int, highest: int) -> int:
        if self.global_step < LARGEST_FIRST:
            return highest
        sides = range(lowest, highest + 1, SIDE_STEP)
        return sides[int(torch.randint(len(sides), ()))]

    def autoencoder_loss(
        self, batch: Mapping[str, Any], optimizer_idx: int, split: str
    ) -> tuple[Tensor, Logs]:
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
            self.global_step,
            last_layer=self.get_last_layer(),
            split=split,
            predicted_indices=indices,
        )

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> Logs:
        """Return what to log for a validation batch; with EMA, for the averaged weights too."""
        figures = super().validation_step(batch, batch_idx)
        if self.use_ema:
            with self.ema_scope():
                figures |= self.validation_figures(batch, "val_ema")
        return figures

    def on_train_batch_end(self) -> None:
        """Update the average of the weights."""
        if self.use_ema:
            self.model_ema(self)

    @torch.no_grad()
    def log_images(
        self,
        batch: Mapping[str, Any],
        N: int = 8,  # noqa: N803 - the logging interface
        only_inputs: bool = False,
        plot_ema: bool = False,
    ) -> dict[str, Tensor]:
        """Return pictures to look at, each (n, 3, H, W) in [-1, 1].

        Args:
            batch: Pictures under ``image_key``.
            N: Pictures of each kind, at most.
            only_inputs: Return only the batch's own pictures.
            plot_ema: Also show what the averaged weights reconstruct.
        """
        x = self._inputs(batch, N)
        if only_inputs:
            return {"inputs": self.to_rgb(x)}
        pictures = {"inputs": x, "reconstructions": self(x)[0]}
        noise = self.quant_conv(torch.randn_like(self.encoder(x)))
        pictures["samples"] = VQModel.decode(self, self.quantize(noise)[0])
        if plot_ema:
            with self.ema_scope():
                pictures["reconstructions_ema"] = self(x)[0]
        return {name: self.to_rgb(shown) for name, shown in pictures.items()}


class VQModelInterface(VQModel):
    """A VQ first stage for diffusion: latents are not quantized until they are decoded.

    Args:
        embed_dim: Latent channels C.
        *args: See ``VQModel``, whose other parameters follow in order.
        **kwargs: See ``VQModel``.
    """

    def __init__(self, embed_dim: int, *args: Any, **kwargs: Any):
        super().__init__(*args, embed_dim=embed_dim, **kwargs)

    def encode(self, x: Tensor) -> Tensor:
        """Encode pictures (B, 3, H, W) to latents (B, C, h, w) before quantization."""
        return self.encode_to_prequant(x)

    def decode(self, h: Tensor, force_not_quantize: bool = False) -> Tensor:
        """Decode latents (B, C, h, w) to pictures.

        Args:
            h: Latents.
            force_not_quantize: Decode the latents themselves, not their nearest entries.
        """
        return super().decode(h if force_not_quantize else self.quantize(h)[0])


def _checked_range(given: Sequence[int] | None) -> tuple[int, int] | None:
    if given is None:
        return None
    sides = tuple(given)
    whole = len(sides) == 2 and all(isinstance(side, int) and side > 0 for side in sides)
    if not whole or sides[0] > sides[1]:
        raise UserError(
            f"batch_resize_range is {list(sides)}; expected the smallest and the largest side in "
            "pixels, such as [192, 320]"
        )
    return sides
