"""First stages with a codebook, as drawing needs them: VQ-GAN, arXiv:2012.09841, section 3.1.

Shapes: B batch, H W pixels, h w latent sides, C latent channels (embed_dim).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from ldm.errors import UserError
from ldm.models.first_stage import FirstStage
from ldm.modules.ema import LitEma
from ldm.modules.quantize import Info, VectorQuantizer2

BETA = 0.25


class VQFirstStage(FirstStage):
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

    def decode_code(self, code_b: Tensor) -> Tensor:
        """Decode indices (B, h, w) of entries to pictures."""
        return self.decode(self.quantize.embed_code(code_b))

    def forward(self, input: Tensor, return_pred_indices: bool = False) -> tuple[Tensor, ...]:
        """Return the reconstruction, the codebook's loss and, if asked, the indices."""
        quant, codebook_loss, (_, _, indices) = self.encode(input)
        out = self.decode(quant), codebook_loss
        return (*out, indices) if return_pred_indices else out


class VQFirstStageInterface(VQFirstStage):
    """A VQ first stage for diffusion: latents are not quantized until they are decoded.

    Args:
        embed_dim: Latent channels C.
        *args: See ``VQFirstStage``, whose other parameters follow in order.
        **kwargs: See ``VQFirstStage``.
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

    def forward(self, input: Tensor, return_pred_indices: bool = False) -> tuple[Tensor, ...]:
        """Return the reconstruction, the codebook's loss and, if asked, the indices."""
        quant, codebook_loss, (_, _, indices) = self.quantize(self.encode(input))
        out = self.decode(quant, force_not_quantize=True), codebook_loss
        return (*out, indices) if return_pred_indices else out


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
