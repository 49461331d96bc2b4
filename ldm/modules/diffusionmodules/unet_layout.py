"""Lays out a UNet: which layers its levels have, and how they are made.

Shapes: B batch, C channels, h w latent sides. A level is a size of the map; its rate tells how
many of the latent's positions a side has for one of the map's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ldm.errors import UserError
from ldm.modules.attention import SpatialTransformer
from ldm.modules.diffusionmodules.unet_blocks import (
    AttentionBlock,
    Downsample,
    ResBlock,
    TimestepEmbedSequential,
    Upsample,
)
from ldm.modules.diffusionmodules.util import conv_nd


@dataclass
class Widths:
    """What has been laid so far: the width now, and the widths that skips will bring."""

    width: int
    skips: list[int] = field(default_factory=list)
    rate: int = 1

    @property
    def features(self) -> int:
        """Channels of all skips and of the map that comes after them, together."""
        return sum(self.skips) + self.width


@dataclass(frozen=True)
class LayerFactory:
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
    context_dim: int | Sequence[int] | None = None
    depth: int = 1
    use_linear: bool = False
    legacy: bool = True

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

    def attention(
        self, width: int, *, decoder: bool = False, disable_self_attn: bool = False
    ) -> nn.Module:
        """Make the attention of a site: to the context where there is one, else to itself.

        Args:
            width: Channels of the map.
            decoder: Whether the site is in the second half.
            disable_self_attn: Attend to the context twice, where there is one.
        """
        if self.context_dim is not None:
            return self._transformer(width, disable_self_attn)
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

    def _transformer(self, width: int, disable_self_attn: bool) -> SpatialTransformer:
        """Make a transformer; what came with SD 2 is said only where it is set.

        So a fork's ``attention.py`` with the first version's parameters can stand in place of ours.
        """
        options = {"disable_self_attn": disable_self_attn, "use_linear": self.use_linear}
        made = SpatialTransformer(
            width,
            *self._heads(width, legacy=False),
            depth=self.depth,
            context_dim=self.context_dim,
            **{name: True for name, value in options.items() if value},
        )
        for block in made.transformer_blocks:
            block.checkpoint = self.use_checkpoint
        return made

    def _heads(self, width: int, legacy: bool) -> tuple[int, int]:
        """Return heads and channels a head at a width.

        Older configs (``legacy``) let the plain form's ``num_heads`` speak for itself; there the
        channels a head stay -1 unless given.
        """
        if self.num_head_channels != -1:
            return width // self.num_head_channels, self.num_head_channels
        return self.num_heads, -1 if legacy else width // self.num_heads


@dataclass(frozen=True)
class Level:
    """One size of the map.

    Attributes:
        width: Channels.
        res_blocks: ResBlocks of the first half; the second has one more.
        attention_blocks: After how many ResBlocks, of either half, attention may stand.
        self_attention: Whether that attention looks at the map too, and not at the context alone.
    """

    width: int
    res_blocks: int
    attention_blocks: int
    self_attention: bool = True


def lay_levels(
    model_channels: int,
    channel_mult: Sequence[int],
    num_res_blocks: int | Sequence[int],
    num_attention_blocks: Sequence[int] | None = None,
    disable_self_attentions: Sequence[bool] | None = None,
) -> tuple[Level, ...]:
    """Read the parameters that ``UNetModel`` has by level, finest level first.

    Raises:
        UserError: A list that has not one entry a level, or attention after more ResBlocks than
            the level has.
    """
    count = len(channel_mult)
    if isinstance(num_res_blocks, int):
        num_res_blocks = [num_res_blocks] * count
    res_blocks = _by_level("num_res_blocks", num_res_blocks, count)
    # In the second half attention stands after the additional ResBlock too.
    sites = [blocks + 1 for blocks in res_blocks]
    if num_attention_blocks is not None:
        sites = _by_level("num_attention_blocks", num_attention_blocks, count)
        if any(s > r for s, r in zip(sites, res_blocks, strict=True)):
            raise UserError(
                f"num_attention_blocks {sites} given with num_res_blocks {res_blocks}; expected "
                "no more attention than ResBlocks at any level; lower num_attention_blocks"
            )
    disabled = _by_level(
        "disable_self_attentions", disable_self_attentions or [False] * count, count
    )
    rows = zip(channel_mult, res_blocks, sites, disabled, strict=True)
    return tuple(Level(mult * model_channels, r, s, not off) for mult, r, s, off in rows)


def _by_level(name: str, given: Sequence[Any], count: int) -> list[Any]:
    if len(given) != count:
        raise UserError(
            f"{name} {list(given)} given for {count} levels; expected one entry for each entry of "
            "channel_mult; lengthen or shorten the list"
        )
    return list(given)


@dataclass(frozen=True)
class Layout:
    """Where a UNet's layers stand; fields beside ``levels`` are named as ``UNetModel``'s."""

    levels: tuple[Level, ...]
    attention_resolutions: tuple[int, ...]
    conv_resample: bool
    resblock_updown: bool
    dims: int

    def first_half(self, in_channels: int, factory: LayerFactory, widths: Widths) -> nn.ModuleList:
        """Build the input blocks; ``widths`` learns of their skips."""
        first = conv_nd(self.dims, in_channels, widths.width, 3, padding=1)
        blocks = nn.ModuleList([TimestepEmbedSequential(first)])
        widths.skips.append(widths.width)
        for number, level in enumerate(self.levels):
            for i in range(level.res_blocks):
                layers = [
                    factory.residual(widths.width, level.width),
                    *self._site(factory, widths, level, i),
                ]
                blocks.append(TimestepEmbedSequential(*layers))
                widths.width = level.width
                widths.skips.append(level.width)
            if number < len(self.levels) - 1:
                blocks.append(TimestepEmbedSequential(self._down(factory, level.width)))
                widths.skips.append(level.width)
                widths.rate *= 2
        return blocks

    def middle(
        self, factory: LayerFactory, widths: Widths, self_attention: bool = True
    ) -> nn.Module:
        """Build the middle block."""
        width = widths.width
        return TimestepEmbedSequential(
            factory.residual(width, width),
            factory.attention(width, disable_self_attn=not self_attention),
            factory.residual(width, width),
        )

    def second_half(self, factory: LayerFactory, widths: Widths) -> nn.ModuleList:
        """Build the output blocks, which take up the skips of ``widths``."""
        blocks = nn.ModuleList()
        for number, level in reversed(list(enumerate(self.levels))):
            for i in range(level.res_blocks + 1):
                width = widths.width + widths.skips.pop()
                layers: list[nn.Module] = [factory.residual(width, level.width)]
                layers += self._site(factory, widths, level, i, decoder=True)
                widths.width = level.width
                if number > 0 and i == level.res_blocks:
                    layers.append(self._up(factory, level.width))
                    widths.rate //= 2
                blocks.append(TimestepEmbedSequential(*layers))
        return blocks

    def _site(
        self, factory: LayerFactory, widths: Widths, level: Level, index: int, decoder: bool = False
    ) -> list[nn.Module]:
        """Return the attention after a level's ResBlock, if it stands there."""
        if widths.rate not in self.attention_resolutions or index >= level.attention_blocks:
            return []
        off = not level.self_attention
        return [factory.attention(level.width, decoder=decoder, disable_self_attn=off)]

    def _down(self, factory: LayerFactory, width: int) -> nn.Module:
        if self.resblock_updown:
            return factory.residual(width, width, down=True)
        return Downsample(width, self.conv_resample, self.dims)

    def _up(self, factory: LayerFactory, width: int) -> nn.Module:
        if self.resblock_updown:
            return factory.residual(width, width, up=True)
        return Upsample(width, self.conv_resample, self.dims)
