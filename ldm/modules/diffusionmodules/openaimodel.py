"""The UNet of latent diffusion, in two halves: encode and decode.

Shapes: B batch, C channels, h w latent sides, L context tokens, D context width.
The seam between the halves serves staging on small devices and side networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from ldm.errors import UserError
from ldm.lazy import lazy_exports
from ldm.modules.diffusionmodules.label_embedding import check_labels, label_embedding
from ldm.modules.diffusionmodules.unet_blocks import (
    AttentionBlock,
    Downsample,
    ResBlock,
    TimestepBlock,
    TimestepEmbedSequential,
    Torso,
    Upsample,
    carry,
    convert_module_to_f16,
    convert_module_to_f32,
    dtype_of,
)
from ldm.modules.diffusionmodules.unet_layout import LayerFactory, Layout, Widths, lay_levels
from ldm.modules.diffusionmodules.util import (
    conv_nd,
    linear,
    normalization,
    timestep_embedding,
    zero_module,
)
from ldm.types import Context, FeatureReuse, Joint, SideNetwork

# What CompVis's file defines or imports besides, and no published UNet needs.
ELSEWHERE = {
    "AttentionPool2d": "ldm.modules.diffusionmodules.encoder_unet",
    "EncoderUNetModel": "ldm.modules.diffusionmodules.encoder_unet",
    "QKVAttention": "ldm.modules.diffusionmodules.qkv_attention",
    "QKVAttentionLegacy": "ldm.modules.diffusionmodules.qkv_attention",
    "TransposedUpsample": "ldm.modules.diffusionmodules.qkv_attention",
    "count_flops_attn": "ldm.modules.diffusionmodules.qkv_attention",
    "F": "torch.nn.functional:",
    "Iterable": "collections.abc",
    "SpatialTransformer": "ldm.modules.attention",
    "abstractmethod": "abc",
    "avg_pool_nd": "ldm.modules.diffusionmodules.util",
    "checkpoint": "ldm.modules.diffusionmodules.util",
    "exists": "ldm.util",
    "math": "math:",
    "np": "numpy:",
    "partial": "functools",
    "th": "torch:",
}
__all__ = [
    "AttentionBlock",
    "Downsample",
    "ResBlock",
    "TimestepBlock",
    "TimestepEmbedSequential",
    "UNetModel",
    "Upsample",
    "convert_module_to_f16",
    "convert_module_to_f32",
    *ELSEWHERE,
]
__getattr__, __dir__ = lazy_exports(__name__, ELSEWHERE)


class UNetModel(Torso):
    """UNet with time embedding, skips and attention: arXiv:2105.05233 and arXiv:2112.10752.

    Two forms: ``use_spatial_transformer`` attends to a context (B, L, context_dim); without it
    plain self-attention blocks stand in the same places.

    Public attributes: ``time_embed``, ``input_blocks``, ``middle_block``, ``output_blocks``,
    ``out``, ``model_channels``, ``dtype``; ``layout`` and ``factory``, of which a network with the
    same layers can be made; ``side_networks``, a list of what changes the features
    between the two halves (``SideNetwork``): no modules of the UNet, no keys; ``reuse`` and
    ``joints``, which shortcuts set: features of deep blocks that are used again
    (``FeatureReuse``), and what changes features where they meet their skips (``Joint``).

    Args:
        image_size: Side of the latents it was made for; any size that the levels divide works.
        in_channels: Channels of x.
        model_channels: Width of the first level, a multiple of 32.
        out_channels: Channels of the prediction.
        num_res_blocks: ResBlocks a level, or a list of them by level.
        attention_resolutions: Downsampling rates at which attention stands.
        dropout: Dropout probability of the ResBlocks.
        channel_mult: Width of each level as a multiple of ``model_channels``.
        conv_resample: Resample by convolutions.
        dims: Spatial dimensions.
        num_classes: What ``y`` is: a number of classes, ``continuous`` or ``sequential``; see
            ``label_embedding``.
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
        context_dim: D of the context, or a list of it by transformer block; see
            ``SpatialTransformer``.
        n_embed: Predict codebook ids in place of latents.
        legacy: The head rule of older configs, see ``LayerFactory._heads``.
        disable_self_attentions: By level, whether attention looks at the context alone.
        num_attention_blocks: By level, after how many ResBlocks attention stands; None for all.
        disable_middle_self_attn: As ``disable_self_attentions``, for the middle block.
        use_linear_in_transformer: Linear token projections (SD 2).
        adm_in_channels: Numbers in a row of ``y``, where ``num_classes`` is ``sequential``.

    Raises:
        UserError: Parameters that do not fit each other.
    """

    # Of the class, so that whole modules which were pickled without them have them too.
    reuse: FeatureReuse | None = None
    joints: Sequence[Joint] = ()

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
        num_classes: int | str | None = None,
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
        context_dim: int | Sequence[int] | None = None,
        n_embed: int | None = None,
        legacy: bool = True,
        disable_self_attentions: Sequence[bool] | None = None,
        num_attention_blocks: Sequence[int] | None = None,
        disable_middle_self_attn: bool = False,
        use_linear_in_transformer: bool = False,
        adm_in_channels: int | None = None,
    ):
        super().__init__()
        if use_spatial_transformer != (context_dim is not None):
            raise UserError("use_spatial_transformer and context_dim go together; give both")
        if context_dim is None and (any(disable_self_attentions or ()) or disable_middle_self_attn):
            raise UserError(
                "self-attention disabled without a context; give use_spatial_transformer "
                "and context_dim, or leave it enabled"
            )
        self.image_size, self.in_channels, self.out_channels = image_size, in_channels, out_channels
        self.model_channels, self.channel_mult = model_channels, tuple(channel_mult)
        self.num_res_blocks, self.num_classes = num_res_blocks, num_classes
        self.attention_resolutions = tuple(attention_resolutions)
        self.conv_resample, self.dims, self.resblock_updown = conv_resample, dims, resblock_updown
        self.num_heads, self.num_head_channels = num_heads, num_head_channels
        self.num_heads_upsample = num_heads if num_heads_upsample == -1 else num_heads_upsample
        self.dropout, self.use_checkpoint = dropout, use_checkpoint
        self.predict_codebook_ids = n_embed is not None
        self.disable_middle_self_attn = disable_middle_self_attn
        self.adm_in_channels = adm_in_channels
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
            context_dim=context_dim,
            depth=transformer_depth,
            use_linear=use_linear_in_transformer,
            legacy=legacy,
        )
        by_level = num_res_blocks, num_attention_blocks, disable_self_attentions
        self.layout = Layout(
            levels=lay_levels(model_channels, channel_mult, *by_level),
            attention_resolutions=self.attention_resolutions,
            conv_resample=conv_resample,
            resblock_updown=resblock_updown,
            dims=dims,
        )
        widths = Widths(model_channels)
        self.factory = factory
        self._add_first_half(widths, factory)
        self._add_second_half(widths, factory, n_embed)
        if use_fp16:
            self.half()

    def _add_first_half(self, widths: Widths, factory: LayerFactory) -> None:
        """Add what ``encode`` runs."""
        self.side_networks: list[SideNetwork] = []  # they change what it returns
        width = factory.embed_dim
        self.time_embed = nn.Sequential(
            linear(self.model_channels, width), nn.SiLU(), linear(width, width)
        )
        if self.num_classes is not None:
            self.label_emb = label_embedding(self.num_classes, self.adm_in_channels, width)
        self.input_blocks = self.layout.first_half(self.in_channels, factory, widths)
        self.middle_block = self.layout.middle(factory, widths, not self.disable_middle_self_attn)

    def _add_second_half(self, widths: Widths, factory: LayerFactory, n_embed: int | None) -> None:
        """Add what ``decode`` runs, by the skips that the first half leaves."""
        self.output_blocks = self.layout.second_half(factory, widths)
        last = conv_nd(self.dims, self.model_channels, self.out_channels, 3, padding=1)
        self.out = nn.Sequential(normalization(widths.width), nn.SiLU(), zero_module(last))
        if n_embed is not None:
            self.id_predictor = nn.Sequential(
                normalization(widths.width), conv_nd(self.dims, self.model_channels, n_embed, 1)
            )

    def embed_time(self, timesteps: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the time embedding (B, 4 model_channels), the label's added if there is one."""
        waves = timestep_embedding(timesteps, self.model_channels)  # (B, model_channels)
        outside = dtype_of(self.time_embed)
        emb = self.time_embed(waves.to(outside))  # (B, 4 model_channels)
        if self.num_classes is not None:
            is_class = isinstance(self.label_emb, nn.Embedding)
            emb = emb + self.label_emb(y if is_class else y.to(outside))
        return carry(emb, outside, self.dtype)

    def encode(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Context = None,
        y: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Run the input and middle blocks: the first half.

        Where features are reused, the first input blocks alone are run.

        Returns:
            h (B, C', h', w'), the time embedding, and the skips, shallow first.

        Raises:
            ValueError: Labels missing, unwanted, or of another shape.
        """
        check_labels(y, getattr(self, "label_emb", None), x.shape[0])
        emb = self.embed_time(timesteps, y)  # (B, 4 model_channels)
        context = self._cast(context)  # (B, L, context_dim)
        h, skips = x.to(self.dtype), []  # (B, in_channels, h, w)
        reused = None if self.reuse is None else self.reuse.recall(len(x))
        for block in islice(self.input_blocks, None if reused is None else self.reuse.shallow):
            h = block(h, emb, context)  # (B, C_i, h_i, w_i): Downsample halves the sides
            skips.append(h)
        # As it is at the last level, or what entered an output block in an earlier call.
        h = self.middle_block(h, emb, context) if reused is None else reused
        for side_network in self.side_networks:
            h, skips = side_network(x, timesteps, context, h, skips)
        return h, emb, skips

    def decode(
        self, h: Tensor, emb: Tensor, skips: Sequence[Tensor], context: Context = None
    ) -> Tensor:
        """Run the output blocks: the second half. ``skips`` is left as it was.

        With the skips of the first input blocks alone, where features are reused, it runs as many
        of the last output blocks.

        Raises:
            ValueError: There are not as many skips as output blocks, and nothing is reused.
        """
        context = self._cast(context)
        first = len(self.output_blocks) - len(skips)
        if first and self.reuse is None:
            raise ValueError(f"{len(skips)} skips given; expected {len(self.output_blocks)}")
        for number, skip in enumerate(reversed(skips), start=first):
            if self.reuse is not None and first == 0 and number == len(skips) - self.reuse.shallow:
                self.reuse.keep(h)
            for change in self.joints:
                h, skip = change(number, h, skip)
            joined = torch.cat([h, skip], dim=1)  # (B, C' + C_skip, h', w')
            # (B, C'', h', w'), or with both sides doubled
            h = self.output_blocks[number](joined, emb, context)
        # (B, model_channels, h, w) -> (B, out_channels or n_embed, h, w)
        head = self.id_predictor if self.predict_codebook_ids else self.out
        return head(carry(h, self.dtype, dtype_of(head)))

    def _cast(self, context: Context) -> Context:
        """Bring the context, or one for each transformer block of a site, to the blocks' dtype."""
        if context is None or isinstance(context, Tensor):
            return None if context is None else context.to(self.dtype)
        return [each.to(self.dtype) for each in context]

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor | None = None,
        context: Context = None,
        y: Tensor | None = None,
        **kwargs: Any,  # noqa: ARG002 - kept for CompVis, whose callers give what others take
    ) -> Tensor:
        """Predict.

        Args:
            x: Noisy latents (B, in_channels, h, w).
            timesteps: Steps (B,), integers or not.
            context: Tokens (B, L, context_dim) in the transformer form.
            y: Class labels (B,), or (B, V) where ``num_classes`` is no number.

        Returns:
            Prediction (B, out_channels, h, w) in the weights' dtype.

        Raises:
            ValueError: The steps are missing.
        """
        if timesteps is None:
            raise ValueError("timesteps is None; expected steps (B,)")
        h, emb, skips = self.encode(x, timesteps, context, y)  # h (B, C', h', w'), see there
        return self.decode(h, emb, skips, context)  # (B, out_channels, h, w)
