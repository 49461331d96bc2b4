"""ControlNet (arXiv:2302.05543): a copy of the UNet's first half that sees a drawing beside x.

Its outputs are added to what the UNet's own first half hands to the second.

Shapes: B batch, C channels, h w latent sides, 8h 8w the drawing's, L context tokens, D their width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ldm.modules.diffusionmodules.openaimodel import UNetModel
from ldm.modules.diffusionmodules.unet_blocks import TimestepEmbedSequential
from ldm.modules.diffusionmodules.unet_layout import LayerFactory, Widths
from ldm.modules.diffusionmodules.util import conv_nd, zero_module
from ldm.types import Context

HINT_WIDTHS = (16, 32, 96, 256)
"""Channels of the hint's embedding at its full size, its half, quarter and eighth."""
HINT_RATE = 2 ** (len(HINT_WIDTHS) - 1)
"""The hint's side in pixels for one position of the latent."""


class ControlNet(UNetModel):
    """The trainable copy, under cldm's names.

    Beside the UNet's ``time_embed``, ``input_blocks`` and ``middle_block`` it has
    ``input_hint_block``, ``zero_convs`` and ``middle_block_out``; the second half is missing.

    Args:
        image_size: As UNetModel's, as are all parameters but the next.
        in_channels: Channels of x that it sees: the first ones.
        model_channels: See UNetModel.
        hint_channels: Channels of the hint: 3, as a rule.
        num_res_blocks: See UNetModel.
        attention_resolutions: See UNetModel.
        **others: See UNetModel.
    """

    def __init__(
        self,
        image_size: int,
        in_channels: int,
        model_channels: int,
        hint_channels: int,
        num_res_blocks: int | Sequence[int],
        attention_resolutions: Sequence[int],
        **others: Any,
    ):
        super().__init__(
            image_size,
            in_channels,
            model_channels,
            in_channels,
            num_res_blocks,
            attention_resolutions,
            **others,
        )
        self.hint_channels = hint_channels
        self.input_hint_block = _hint_block(self.dims, hint_channels, model_channels)
        self.input_hint_block.to(self.dtype)

    def _add_second_half(
        self,
        widths: Widths,
        factory: LayerFactory,  # noqa: ARG002 - UNetModel's hook
        n_embed: int | None,  # noqa: ARG002 - cldm takes it, and predicts no codebook ids
    ) -> None:
        """Add what takes the features out, in place of the UNet's second half."""
        convs = (self.make_zero_conv(width) for width in widths.skips)
        self.zero_convs = nn.ModuleList(convs)
        self.middle_block_out = self.make_zero_conv(widths.width)
        self.predict_codebook_ids = False

    def _blocks(self) -> list[nn.Module]:
        """Return what has the blocks' dtype."""
        return [self.input_blocks, self.middle_block]

    def make_zero_conv(self, channels: int) -> TimestepEmbedSequential:
        """Return a 1x1 convolution that is zero until it is trained."""
        conv = conv_nd(self.dims, channels, channels, 1, padding=0)
        return TimestepEmbedSequential(zero_module(conv))

    def embed_hint(self, hint: Tensor) -> Tensor:
        """Return what is added to the first features: (B, hint_channels, 8h, 8w) -> (B, C, h, w).

        It depends on neither x nor the step, so once is enough for all steps of a walk.
        """
        return self.input_hint_block(hint.to(self.dtype), None)

    def controls(
        self,
        x: Tensor,
        embedded: Tensor,
        timesteps: Tensor,
        context: Context = None,
        y: Tensor | None = None,
    ) -> list[Tensor]:
        """Return what is added to each skip, shallow first, and to the middle's features.

        Args:
            x: Noisy latents (B, in_channels, h, w).
            embedded: What ``embed_hint`` returned, (B, C, h, w) or (1, C, h, w).
            timesteps: Steps (B,).
            context: Tokens (B, L, D).
            y: Labels, where the UNet has them.
        """
        emb = self.embed_time(timesteps, y)  # (B, 4 C)
        context = self._cast(context)
        h, out = x.to(self.dtype), []
        for block, zero_conv in zip(self.input_blocks, self.zero_convs, strict=True):
            h = block(h, emb, context)  # (B, C_i, h_i, w_i)
            h = h if out else h + embedded
            out.append(zero_conv(h, emb))
        h = self.middle_block(h, emb, context)
        return [*out, self.middle_block_out(h, emb)]

    def forward(
        self,
        x: Tensor,
        hint: Tensor,
        timesteps: Tensor,
        context: Context = None,
        y: Tensor | None = None,
        **kwargs: Any,  # noqa: ARG002 - kept for cldm, whose callers give what others take
    ) -> list[Tensor]:
        """Return the features to add for x and a hint (B, hint_channels, 8h, 8w) in [0, 1]."""
        return self.controls(x, self.embed_hint(hint), timesteps, context, y)


def control_net_like(unet: UNetModel, in_channels: int, hint_channels: int) -> ControlNet:
    """Return a new ControlNet with the layers of a UNet's first half, without its labels.

    Args:
        unet: A UNetModel.
        in_channels: Channels of x that it sees.
        hint_channels: Channels of the hint.
    """
    made, levels = unet.factory, unet.layout.levels
    return ControlNet(
        unet.image_size,
        in_channels,
        unet.model_channels,
        hint_channels,
        [level.res_blocks for level in levels],
        unet.attention_resolutions,
        dropout=unet.dropout,
        channel_mult=unet.channel_mult,
        conv_resample=unet.conv_resample,
        dims=unet.dims,
        use_checkpoint=unet.use_checkpoint,
        num_heads=made.num_heads,
        num_head_channels=made.num_head_channels,
        use_scale_shift_norm=made.use_scale_shift_norm,
        resblock_updown=unet.resblock_updown,
        use_new_attention_order=made.use_new_attention_order,
        use_spatial_transformer=made.context_dim is not None,
        transformer_depth=made.depth,
        context_dim=made.context_dim,
        legacy=made.legacy,
        disable_self_attentions=[not level.self_attention for level in levels],
        num_attention_blocks=[min(e.attention_blocks, e.res_blocks) for e in levels],
        disable_middle_self_attn=unet.disable_middle_self_attn,
        use_linear_in_transformer=made.use_linear,
    )


def _hint_block(dims: int, channels: int, out: int) -> TimestepEmbedSequential:
    """Return eight convolutions that take a hint to the latent's size; the last is zero."""
    layers: list[nn.Module] = [conv_nd(dims, channels, HINT_WIDTHS[0], 3, padding=1), nn.SiLU()]
    for narrow, wide in zip(HINT_WIDTHS, HINT_WIDTHS[1:], strict=False):
        layers += [conv_nd(dims, narrow, narrow, 3, padding=1), nn.SiLU()]
        layers += [conv_nd(dims, narrow, wide, 3, padding=1, stride=2), nn.SiLU()]
    layers.append(zero_module(conv_nd(dims, HINT_WIDTHS[-1], out, 3, padding=1)))
    return TimestepEmbedSequential(*layers)
