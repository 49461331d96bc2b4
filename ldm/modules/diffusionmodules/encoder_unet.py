"""The first half of a UNet with a pooling head: what classifiers of noisy latents are.

Shapes: B batch, C channels, h w latent sides, N = h*w positions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn

from ldm.errors import UserError
from ldm.modules.attention_processors import AttentionLayer
from ldm.modules.diffusionmodules.unet_blocks import Torso, carry, dtype_of
from ldm.modules.diffusionmodules.unet_layout import LayerFactory, Layout, Widths, lay_levels
from ldm.modules.diffusionmodules.util import (
    conv_nd,
    linear,
    normalization,
    timestep_embedding,
    zero_module,
)

POOLS = ("adaptive", "attention", "spatial", "spatial_v2")
HIDDEN = 2048
"""Width between the two layers of the spatial heads."""


class AttentionPool2d(AttentionLayer):
    """Sum a map (B, C, h, w) up by what its mean attends to: (B, output_dim).

    As in CLIP's image encoder: arXiv:2103.00020, section 2.4.

    Args:
        spacial_dim: h = w, fixed by the position embedding.
        embed_dim: C.
        num_heads_channels: Channels a head.
        output_dim: Width of the result; None for C.
    """

    def __init__(
        self,
        spacial_dim: int,
        embed_dim: int,
        num_heads_channels: int,
        output_dim: int | None = None,
    ):
        super().__init__()
        if embed_dim % num_heads_channels:
            raise UserError(
                f"{embed_dim} channels cannot be split into heads of {num_heads_channels}; "
                "choose num_head_channels so that it divides the last level's width"
            )
        positions = torch.randn(embed_dim, spacial_dim**2 + 1)
        self.positional_embedding = nn.Parameter(positions / embed_dim**0.5)
        self.qkv_proj = conv_nd(1, embed_dim, 3 * embed_dim, 1)
        self.c_proj = conv_nd(1, embed_dim, output_dim or embed_dim, 1)
        self.num_heads = embed_dim // num_heads_channels

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2)  # (B, C, N)
        expected = self.positional_embedding.shape[1] - 1
        if tokens.shape[2] != expected:
            raise ValueError(
                f"the map has {tokens.shape[2]} positions; pool 'attention' is made for {expected}"
            )
        tokens = torch.cat([tokens.mean(dim=2, keepdim=True), tokens], dim=2)  # (B, C, N + 1)
        qkv = self.qkv_proj(tokens + self.positional_embedding)  # (B, 3 C, N + 1)
        q, k, v = rearrange(
            qkv, "b (qkv heads d) n -> qkv b heads n d", qkv=3, heads=self.num_heads
        )  # each (B, heads, N + 1, d)
        # Only the mean's answer is read.
        out = self.processor(q[:, :, :1], k, v, mask=None, scale=q.shape[-1] ** -0.5)
        out = rearrange(out, "b heads n d -> b (heads d) n")  # (B, C, 1)
        return self.c_proj(out)[:, :, 0]  # (B, output_dim)


class EncoderUNetModel(Torso):
    """A UNet's first half and a head: noisy latents and times to ``out_channels`` numbers.

    Args:
        image_size: Side of the latents; fixed where ``pool`` is ``attention``.
        in_channels: Channels of x.
        model_channels: Width of the first level, a multiple of 32.
        out_channels: Numbers for each row, such as classes.
        num_res_blocks: ResBlocks a level, or a list of them by level.
        attention_resolutions: Downsampling rates at which self-attention stands.
        dropout: Dropout probability of the ResBlocks.
        channel_mult: Width of each level as a multiple of ``model_channels``.
        conv_resample: Resample by convolutions.
        dims: Spatial dimensions; pooling knows 2.
        use_checkpoint: Recompute activations in the backward pass.
        use_fp16: Hold the weights in half precision.
        num_heads: Heads, unless ``num_head_channels`` is given.
        num_head_channels: Channels a head, or -1.
        num_heads_upsample: Kept for CompVis; there is no second half.
        use_scale_shift_norm: The time embedding scales and shifts.
        resblock_updown: Resample inside ResBlocks.
        use_new_attention_order: See ``AttentionBlock``.
        pool: How a map becomes a row: the mean of positions (``adaptive``), ``AttentionPool2d``
            (``attention``), or two layers on the means of all maps (``spatial``, and
            ``spatial_v2`` with a norm between them).

    Raises:
        UserError: Parameters that do not fit each other.
    """

    def __init__(
        self,
        image_size: int,
        in_channels: int,
        model_channels: int,
        out_channels: int,
        num_res_blocks: int | Sequence[int],
        attention_resolutions: Sequence[int],
        dropout: float = 0.0,
        channel_mult: Sequence[int] = (1, 2, 4, 8),
        conv_resample: bool = True,
        dims: int = 2,
        use_checkpoint: bool = False,
        use_fp16: bool = False,
        num_heads: int = 1,
        num_head_channels: int = -1,
        num_heads_upsample: int = -1,
        use_scale_shift_norm: bool = False,
        resblock_updown: bool = False,
        use_new_attention_order: bool = False,
        pool: str = "adaptive",
    ):
        super().__init__()
        if pool not in POOLS:
            raise UserError(f"pool {pool!r} given; expected one of {', '.join(POOLS)}")
        if pool == "attention" and num_head_channels == -1:
            raise UserError("pool 'attention' given without num_head_channels; give it")
        self.image_size, self.in_channels, self.out_channels = image_size, in_channels, out_channels
        self.model_channels, self.pool = model_channels, pool
        factory = LayerFactory(
            embed_dim=model_channels * 4,
            dropout=dropout,
            dims=dims,
            use_checkpoint=use_checkpoint,
            use_scale_shift_norm=use_scale_shift_norm,
            num_heads=num_heads,
            num_head_channels=num_head_channels,
            num_heads_upsample=num_heads_upsample,
            use_new_attention_order=use_new_attention_order,
        )
        layout = Layout(
            levels=lay_levels(model_channels, channel_mult, num_res_blocks),
            attention_resolutions=tuple(attention_resolutions),
            conv_resample=conv_resample,
            resblock_updown=resblock_updown,
            dims=dims,
        )
        widths = Widths(model_channels)
        width = factory.embed_dim
        self.time_embed = nn.Sequential(
            linear(model_channels, width), nn.SiLU(), linear(width, width)
        )
        self.input_blocks = layout.first_half(in_channels, factory, widths)
        self.middle_block = layout.middle(factory, widths)
        self.out = self._head(widths, dims, num_head_channels)
        if use_fp16:
            self.half()

    def _head(self, widths: Widths, dims: int, num_head_channels: int) -> nn.Sequential:
        width, out = widths.width, self.out_channels
        if self.pool == "adaptive":
            last = zero_module(conv_nd(dims, width, out, 1))
            pooled = nn.AdaptiveAvgPool2d((1, 1))
            return nn.Sequential(normalization(width), nn.SiLU(), pooled, last, nn.Flatten())
        if self.pool == "attention":
            side = self.image_size // widths.rate
            pooled = AttentionPool2d(side, width, num_head_channels, out)
            return nn.Sequential(normalization(width), nn.SiLU(), pooled)
        normed = self.pool == "spatial_v2"
        between = (normalization(HIDDEN), nn.SiLU()) if normed else (nn.ReLU(),)
        return nn.Sequential(linear(widths.features, HIDDEN), *between, linear(HIDDEN, out))

    def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:
        """Judge noisy latents.

        Args:
            x: Noisy latents (B, in_channels, h, w).
            timesteps: Steps (B,), integers or not.

        Returns:
            (B, out_channels) in the weights' dtype.
        """
        waves = timestep_embedding(timesteps, self.model_channels)  # (B, model_channels)
        outside = dtype_of(self.time_embed)
        emb = self.time_embed(waves.to(outside))  # (B, 4 model_channels)
        emb = carry(emb, outside, self.dtype)
        h, means = x.to(self.dtype), []
        for block in (*self.input_blocks, self.middle_block):
            h = block(h, emb)  # (B, C, h / rate, w / rate)
            if self.pool.startswith("spatial"):
                means.append(h.mean(dim=(2, 3)))  # (B, C)
        summed = torch.cat(means, dim=1) if means else h
        return self.out(carry(summed, self.dtype, outside))
