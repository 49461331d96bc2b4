"""Layers of the UNet.

Shapes: B batch, C channels, h w latent sides, D width of the time embedding, N = h*w positions,
heads, d head width.
Most take ``dims``: 1, 2 or 3 spatial dimensions; the shapes below are those of 2.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ldm.errors import UserError
from ldm.modules.attention import SpatialTransformer
from ldm.modules.attention_processors import AttentionLayer
from ldm.modules.diffusionmodules.lean_maps import doubled
from ldm.modules.diffusionmodules.util import (
    avg_pool_nd,
    checkpoint,
    conv_nd,
    normalization,
    zero_module,
)


def convert_module_to_f16(x: nn.Module) -> None:
    """Turn the parameters that ``x`` itself holds to half precision; for ``nn.Module.apply``."""
    for parameter in x.parameters(recurse=False):
        parameter.data = parameter.data.half()


def convert_module_to_f32(x: nn.Module) -> None:
    """Turn the parameters that ``x`` itself holds to single precision."""
    for parameter in x.parameters(recurse=False):
        parameter.data = parameter.data.float()


class Torso(nn.Module):
    """Base of networks whose blocks may have another precision than what stands around them.

    Those are the layers of the time embedding before the blocks and the head behind them.
    """

    torso = ("input_blocks", "middle_block", "output_blocks")

    @property
    def dtype(self) -> torch.dtype:
        """The blocks' dtype."""
        return dtype_of(next(block for block in self._blocks()))

    @dtype.setter
    def dtype(self, value: torch.dtype) -> None:
        """Do nothing: constructors of forks say it, but the weights decide."""

    def _blocks(self) -> list[nn.Module]:
        return [getattr(self, name) for name in self.torso if hasattr(self, name)]

    def convert_to_fp16(self) -> None:
        """Turn the blocks to half precision."""
        for block in self._blocks():
            block.apply(convert_module_to_f16)

    def convert_to_fp32(self) -> None:
        """Turn the blocks to single precision."""
        for block in self._blocks():
            block.apply(convert_module_to_f32)


def dtype_of(module: nn.Module) -> torch.dtype:
    """Return the dtype of the weights of ``module``."""
    return next(module.parameters()).dtype


def carry(x: Tensor, before: torch.dtype, after: torch.dtype) -> Tensor:
    """Bring x from weights of one dtype to those of another.

    Between the same dtypes x stays as it is: under autocast it is narrower than the weights.
    """
    return x if before == after else x.to(after)


class TimestepBlock(nn.Module):
    """A layer whose forward also takes the time embedding (B, D)."""

    @abstractmethod
    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Apply the layer to maps x (B, C, h, w) and the time embedding."""
        raise NotImplementedError(f"{type(self).__name__} must define forward")


class TimestepEmbedSequential(nn.Sequential, TimestepBlock):
    """A sequence that gives each layer what it takes: time embedding, context, or neither."""

    def forward(
        self, x: Tensor, emb: Tensor, context: Tensor | Sequence[Tensor] | None = None
    ) -> Tensor:
        for layer in self:
            if isinstance(layer, TimestepBlock):
                x = layer(x, emb)
            elif isinstance(layer, SpatialTransformer):
                x = layer(x, context)
            else:
                x = layer(x)
        return x


class Upsample(nn.Module):
    """Double the sides by nearest neighbours, then convolve if asked: (B,C,h,w) -> (B,C',2h,2w)."""

    def __init__(
        self,
        channels: int,
        use_conv: bool,
        dims: int = 2,
        out_channels: int | None = None,
        padding: int = 1,
    ):
        super().__init__()
        self.channels, self.out_channels, self.dims = channels, out_channels or channels, dims
        self.use_conv = use_conv
        if use_conv:
            self.conv = conv_nd(dims, channels, out_channels or channels, 3, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        if self.dims == 3:
            # Video keeps its number of frames.
            x = F.interpolate(x, (x.shape[2], x.shape[3] * 2, x.shape[4] * 2), mode="nearest")
        elif self.use_conv:
            x = doubled(x)  # (B, C, 2h, 2w)
        else:
            x = F.interpolate(x, scale_factor=2, mode="nearest")  # (B, C, 2h, 2w)
        return self.conv(x) if self.use_conv else x  # (B, C', 2h, 2w)


class Downsample(nn.Module):
    """Halve the sides by a strided convolution or a mean: (B,C,h,w) -> (B,C',h/2,w/2)."""

    def __init__(
        self,
        channels: int,
        use_conv: bool,
        dims: int = 2,
        out_channels: int | None = None,
        padding: int = 1,
    ):
        super().__init__()
        self.channels, self.out_channels, self.dims = channels, out_channels or channels, dims
        self.use_conv = use_conv
        stride = (1, 2, 2) if dims == 3 else 2
        if use_conv:
            out_channels = out_channels or channels
            self.op = conv_nd(dims, channels, out_channels, 3, stride=stride, padding=padding)
        else:
            self.op = avg_pool_nd(dims, kernel_size=stride, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)  # (B, C', h/2, w/2)


class ResBlock(TimestepBlock):
    """Two normalised convolutions with the time embedding between them, added to the input.

    ``up`` and ``down`` resample inside the block, on both paths; ``use_scale_shift_norm`` lets
    the time embedding scale and shift the second norm in place of being added.
    """

    def __init__(
        self,
        channels: int,
        emb_channels: int,
        dropout: float,
        out_channels: int | None = None,
        use_conv: bool = False,
        use_scale_shift_norm: bool = False,
        dims: int = 2,
        use_checkpoint: bool = False,
        up: bool = False,
        down: bool = False,
    ):
        super().__init__()
        out_channels = out_channels or channels
        self.channels, self.out_channels, self.emb_channels = channels, out_channels, emb_channels
        self.dropout, self.use_conv, self.use_checkpoint = dropout, use_conv, use_checkpoint
        self.use_scale_shift_norm = use_scale_shift_norm
        self.in_layers = nn.Sequential(
            normalization(channels), nn.SiLU(), conv_nd(dims, channels, out_channels, 3, padding=1)
        )
        resample = Upsample if up else Downsample
        self.updown = up or down
        self.h_upd = resample(channels, False, dims) if self.updown else nn.Identity()
        self.x_upd = resample(channels, False, dims) if self.updown else nn.Identity()
        emb_width = 2 * out_channels if use_scale_shift_norm else out_channels
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb_channels, emb_width))
        self.out_layers = nn.Sequential(
            normalization(out_channels),
            nn.SiLU(),
            nn.Dropout(p=dropout),
            zero_module(conv_nd(dims, out_channels, out_channels, 3, padding=1)),
        )
        if out_channels == channels:
            self.skip_connection = nn.Identity()
        elif use_conv:
            self.skip_connection = conv_nd(dims, channels, out_channels, 3, padding=1)
        else:
            self.skip_connection = conv_nd(dims, channels, out_channels, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return checkpoint(self._forward, (x, emb), self.parameters(), self.use_checkpoint)

    def _forward(self, x: Tensor, emb: Tensor) -> Tensor:
        norm, act, conv = self.in_layers
        h = conv(self.h_upd(act(norm(x))))  # (B, C', h', w')
        emb_out = self.emb_layers(emb).to(h.dtype)  # (B, C'), twice as wide for scale and shift
        emb_out = emb_out[(...,) + (None,) * (h.ndim - emb_out.ndim)]  # (B, C', 1, 1)
        norm, *rest = self.out_layers
        if self.use_scale_shift_norm:
            scale, shift = emb_out.chunk(2, dim=1)  # each (B, C', 1, 1)
            h = norm(h) * (1 + scale) + shift
        else:
            h = norm(h + emb_out)
        for layer in rest:
            h = layer(h)  # (B, C', h', w')
        return self.skip_connection(self.x_upd(x)) + h  # (B, C', h', w')


class AttentionBlock(AttentionLayer):
    """Self-attention over all positions of (B, C, ...), added to the input: the plain form.

    ``use_new_attention_order`` splits q, k, v before the heads; checkpoints differ in it.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int = 1,
        num_head_channels: int = -1,
        use_checkpoint: bool = False,
        use_new_attention_order: bool = False,
    ):
        super().__init__()
        self.channels = channels
        self.num_heads = num_heads if num_head_channels == -1 else channels // num_head_channels
        if channels % self.num_heads or (num_head_channels != -1 and channels % num_head_channels):
            raise UserError(
                f"{channels} channels cannot be split into heads of {num_head_channels} channels; "
                "choose num_head_channels (or num_heads) so that it divides every level's width"
            )
        self.use_checkpoint = use_checkpoint
        self.norm = normalization(channels)
        self.qkv = conv_nd(1, channels, channels * 3, 1)
        self.proj_out = zero_module(conv_nd(1, channels, channels, 1))
        order = "(qkv heads d)" if use_new_attention_order else "(heads qkv d)"
        self._pattern = f"b {order} n -> qkv b heads n d"

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self._forward, (x,), self.parameters(), self.use_checkpoint)

    def _forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)  # (B, C, N)
        qkv = self.qkv(self.norm(flat))  # (B, 3 C, N)
        q, k, v = rearrange(qkv, self._pattern, qkv=3, heads=self.num_heads)  # (B, heads, N, d)
        out = self.processor(q, k, v, mask=None, scale=q.shape[-1] ** -0.5)  # (B, heads, N, d)
        out = self.proj_out(rearrange(out, "b heads n d -> b (heads d) n"))  # (B, C, N)
        return (flat + out).reshape(x.shape)  # (B, C, h, w)
