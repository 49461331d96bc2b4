"""The UNet of latent diffusion, in two halves: encode and decode.

Shapes: B batch, C channels, h w latent sides, L context tokens, D context width.
The seam between the halves serves staging on small devices and side networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ldm.errors import UserError
from ldm.modules.attention import SpatialTransformer
from ldm.modules.diffusionmodules.unet_blocks import (
    AttentionBlock,
    Downsample,
    ResBlock,
    TimestepBlock,
    TimestepEmbedSequential,
    Upsample,
)
from ldm.modules.diffusionmodules.util import (
    conv_nd,
    linear,
    normalization,
    timestep_embedding,
    zero_module,
)

__all__ = [
    "AttentionBlock",
    "Downsample",
    "ResBlock",
    "TimestepBlock",
    "TimestepEmbedSequential",
    "UNetModel",
    "Upsample",
]


@dataclass
class _Trunk:
    """What the builder has laid so far: the width now, and the widths that skips will bring."""

    width: int
    skips: list[int] = field(default_factory=list)
    rate: int = 1


@dataclass(frozen=True)
class _Layers:
    """Makes a UNet's layers; its fields are what they have in common, as ``UNetModel`` names it."""

    embed_dim: int
    dropout: float
    dims: int
    use_checkpoint: bool
    use_scale_shift_norm: bool
    num_heads: int
    num_head_channels: int
    num_heads_upsample: int
    use_new_attention_order: bool
    context_dim: int | None
    depth: int
    use_linear: bool
    legacy: bool

    def __post_init__(self) -> None:
        if self.num_heads == -1 and self.num_head_channels == -1:
            raise UserError("give num_heads or num_head_channels of the UNet")

    def residual(self, width: int, out: int, **resample: bool) -> ResBlock:
        """Make a ResBlock from ``width`` to ``out`` channels; ``up`` or ``down`` resamples."""
        return ResBlock(
            width,
            self.embed_dim,
            self.dropout,
            out_channels=out,
            dims=self.dims,
            use_checkpoint=self.use_checkpoint,
            use_scale_shift_norm=self.use_scale_shift_norm,
            **resample,
        )

    def attention(self, width: int, decoder: bool = False) -> nn.Module:
        """Make the attention of a site: to the context where there is one, else to itself."""
        if self.context_dim is not None:
            heads, head_width = self._heads(width, legacy=False)
            return SpatialTransformer(
                width,
                heads,
                head_width,
                depth=self.depth,
                context_dim=self.context_dim,
                use_linear=self.use_linear,
                use_checkpoint=self.use_checkpoint,
            )
        heads, head_width = self._heads(width, self.legacy)
        if decoder and self.num_heads_upsample != -1:
            heads = self.num_heads_upsample
        return AttentionBlock(
            width,
            num_heads=heads,
            num_head_channels=head_width,
            use_checkpoint=self.use_checkpoint,
            use_new_attention_order=self.use_new_attention_order,
        )

    def _heads(self, width: int, legacy: bool) -> tuple[int, int]:
        """Return heads and channels a head at a width.

        Older configs (``legacy``) let the plain form's ``num_heads`` speak for itself; there the
        channels a head stay -1 unless given.
        """
        if self.num_head_channels != -1:
            return width // self.num_head_channels, self.num_head_channels
        return self.num_heads, -1 if legacy else width // self.num_heads


class UNetModel(nn.Module):
    """UNet with time embedding, skips and attention: arXiv:2105.05233 and arXiv:2112.10752.

    Two forms: ``use_spatial_transformer`` attends to a context (B, L, context_dim); without it
    plain self-attention blocks stand in the same places.

    Public attributes: ``time_embed``, ``input_blocks``, ``middle_block``, ``output_blocks``,
    ``out``, ``model_channels``, ``dtype``.

    Args:
        image_size: Side of the latents it was made for; any size that the levels divide works.
        in_channels: Channels of x.
        model_channels: Width of the first level, a multiple of 32.
        out_channels: Channels of the prediction.
        num_res_blocks: ResBlocks a level.
        attention_resolutions: Downsampling rates at which attention stands.
        dropout: Dropout probability of the ResBlocks.
        channel_mult: Width of each level as a multiple of ``model_channels``.
        conv_resample: Resample by convolutions.
        dims: Spatial dimensions.
        num_classes: Number of class labels, for ``y``.
        use_checkpoint: Recompute activations in the backward pass.
        use_fp16: Hold the weights in half precision.
        num_heads: Heads, or -1 with ``num_head_channels``.
        num_head_channels: Channels a head, or -1 with ``num_heads``.
        num_heads_upsample: Heads of the plain form in the decoder; -1 for ``num_heads``.
        use_scale_shift_norm: The time embedding scales and shifts.
        resblock_updown: Resample inside ResBlocks.
        use_new_attention_order: See ``AttentionBlock``.
        use_spatial_transformer: See above.
        transformer_depth: Transformer blocks a site.
        context_dim: D of the context.
        n_embed: Predict codebook ids in place of latents.
        legacy: The head rule of older configs, see ``_Layers._heads``.
        use_linear_in_transformer: Linear token projections (SD 2).

    Raises:
        UserError: Parameters that do not fit each other.
    """

    def __init__(
        self,
        image_size: int,
        in_channels: int,
        model_channels: int,
        out_channels: int,
        num_res_blocks: int,
        attention_resolutions: Sequence[int],
        dropout: float = 0.0,
        channel_mult: Sequence[int] = (1, 2, 4, 8),
        conv_resample: bool = True,
        dims: int = 2,
        num_classes: int | None = None,
        use_checkpoint: bool = False,
        use_fp16: bool = False,
        num_heads: int = -1,
        num_head_channels: int = -1,
        num_heads_upsample: int = -1,
        use_scale_shift_norm: bool = False,
        resblock_updown: bool = False,
        use_new_attention_order: bool = False,
        use_spatial_transformer: bool = False,
        transformer_depth: int = 1,
        context_dim: int | None = None,
        n_embed: int | None = None,
        legacy: bool = True,
        use_linear_in_transformer: bool = False,
    ):
        super().__init__()
        if use_spatial_transformer != (context_dim is not None):
            raise UserError("use_spatial_transformer and context_dim go together; give both")
        self.image_size, self.in_channels, self.out_channels = image_size, in_channels, out_channels
        self.model_channels, self.channel_mult = model_channels, tuple(channel_mult)
        self.num_res_blocks, self.num_classes = num_res_blocks, num_classes
        self.attention_resolutions = tuple(attention_resolutions)
        self.conv_resample, self.dims, self.resblock_updown = conv_resample, dims, resblock_updown
        self.num_heads, self.num_head_channels = num_heads, num_head_channels
        self.predict_codebook_ids = n_embed is not None
        layers = _Layers(
            embed_dim=model_channels * 4,
            dropout=dropout,
            dims=dims,
            use_checkpoint=use_checkpoint,
            use_scale_shift_norm=use_scale_shift_norm,
            num_heads=num_heads,
            num_head_channels=num_head_channels,
            num_heads_upsample=num_heads_upsample,
            use_new_attention_order=use_new_attention_order,
            context_dim=context_dim,
            depth=transformer_depth,
            use_linear=use_linear_in_transformer,
            legacy=legacy,
        )
        trunk = _Trunk(model_channels)
        self._add_first_half(trunk, layers)
        self._add_second_half(trunk, layers, n_embed)
        if use_fp16:
            self.half()

    @property
    def dtype(self) -> torch.dtype:
        """The weights' dtype."""
        return self.time_embed[0].weight.dtype

    def _add_first_half(self, trunk: _Trunk, make: _Layers) -> None:
        """Add what ``encode`` runs."""
        width = make.embed_dim
        self.time_embed = nn.Sequential(
            linear(self.model_channels, width), nn.SiLU(), linear(width, width)
        )
        if self.num_classes is not None:
            self.label_emb = nn.Embedding(self.num_classes, width)
        self.input_blocks = self._build_encoder(trunk, make)
        self.middle_block = TimestepEmbedSequential(
            make.residual(trunk.width, trunk.width),
            make.attention(trunk.width),
            make.residual(trunk.width, trunk.width),
        )

    def _add_second_half(self, trunk: _Trunk, make: _Layers, n_embed: int | None) -> None:
        """Add what ``decode`` runs, by the skips that the first half leaves."""
        self.output_blocks = self._build_decoder(trunk, make)
        last = conv_nd(self.dims, self.model_channels, self.out_channels, 3, padding=1)
        self.out = nn.Sequential(normalization(trunk.width), nn.SiLU(), zero_module(last))
        if n_embed is not None:
            self.id_predictor = nn.Sequential(
                normalization(trunk.width), conv_nd(self.dims, self.model_channels, n_embed, 1)
            )

    def _build_encoder(self, trunk: _Trunk, make: _Layers) -> nn.ModuleList:
        first = conv_nd(self.dims, self.in_channels, trunk.width, 3, padding=1)
        blocks = nn.ModuleList([TimestepEmbedSequential(first)])
        trunk.skips.append(trunk.width)
        for level, mult in enumerate(self.channel_mult):
            width = mult * self.model_channels
            for _ in range(self.num_res_blocks):
                layers = [make.residual(trunk.width, width)]
                if trunk.rate in self.attention_resolutions:
                    layers.append(make.attention(width))
                blocks.append(TimestepEmbedSequential(*layers))
                trunk.width = width
                trunk.skips.append(width)
            if level < len(self.channel_mult) - 1:
                down = (
                    make.residual(width, width, down=True)
                    if self.resblock_updown
                    else Downsample(width, self.conv_resample, self.dims)
                )
                blocks.append(TimestepEmbedSequential(down))
                trunk.skips.append(width)
                trunk.rate *= 2
        return blocks

    def _build_decoder(self, trunk: _Trunk, make: _Layers) -> nn.ModuleList:
        blocks = nn.ModuleList()
        for level, mult in reversed(list(enumerate(self.channel_mult))):
            width = mult * self.model_channels
            for i in range(self.num_res_blocks + 1):
                layers: list[nn.Module] = [make.residual(trunk.width + trunk.skips.pop(), width)]
                if trunk.rate in self.attention_resolutions:
                    layers.append(make.attention(width, decoder=True))
                trunk.width = width
                if level > 0 and i == self.num_res_blocks:
                    layers.append(
                        make.residual(width, width, up=True)
                        if self.resblock_updown
                        else Upsample(width, self.conv_resample, self.dims)
                    )
                    trunk.rate //= 2
                blocks.append(TimestepEmbedSequential(*layers))
        return blocks

    def embed_time(self, timesteps: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the time embedding (B, 4 model_channels), class label added if there are any."""
        emb = self.time_embed(timestep_embedding(timesteps, self.model_channels).to(self.dtype))
        return emb if self.num_classes is None else emb + self.label_emb(y)

    def encode(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor | None = None,
        y: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Run the input and middle blocks: the first half.

        Returns:
            h (B, C', h', w'), the time embedding, and the skips, shallow first.

        Raises:
            ValueError: Class labels missing, unwanted, or of another batch size.
        """
        if (y is not None) != (self.num_classes is not None):
            raise ValueError("class labels y go with num_classes; give both or neither")
        if y is not None and y.shape != (x.shape[0],):
            raise ValueError(f"y has shape {tuple(y.shape)}; expected ({x.shape[0]},)")
        emb = self.embed_time(timesteps, y)
        context = None if context is None else context.to(self.dtype)
        h, skips = x.to(self.dtype), []
        for block in self.input_blocks:
            h = block(h, emb, context)
            skips.append(h)
        return self.middle_block(h, emb, context), emb, skips

    def decode(
        self, h: Tensor, emb: Tensor, skips: Sequence[Tensor], context: Tensor | None = None
    ) -> Tensor:
        """Run the output blocks: the second half. ``skips`` is left as it was."""
        context = None if context is None else context.to(self.dtype)
        for block, skip in zip(self.output_blocks, reversed(skips), strict=True):
            h = block(torch.cat([h, skip], dim=1), emb, context)
        return self.id_predictor(h) if self.predict_codebook_ids else self.out(h)

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor | None = None,
        y: Tensor | None = None,
    ) -> Tensor:
        """Predict.

        Args:
            x: Noisy latents (B, in_channels, h, w).
            timesteps: Steps (B,), integers or not.
            context: Tokens (B, L, context_dim) in the transformer form.
            y: Class labels (B,).

        Returns:
            Prediction (B, out_channels, h, w) in the weights' dtype.
        """
        h, emb, skips = self.encode(x, timesteps, context, y)
        return self.decode(h, emb, skips, context)
