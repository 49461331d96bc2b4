"""Encoder and decoder of the autoencoders.

Shapes: B batch, C channels, H W pixels, h w latent sides; f = 2**(len(ch_mult) - 1) = H / h.
Key names and layer order are the checkpoints'; all norms have eps 1e-6.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ldm.errors import UserError
from ldm.lazy import lazy_exports
from ldm.modules.attention_processors import AttentionLayer
from ldm.modules.diffusionmodules.coder_layers import coder_layers
from ldm.modules.diffusionmodules.lean_maps import activated_by_groups, doubled

# What CompVis's file defines or imports besides, and no first stage of the family needs.
ELSEWHERE = {
    "FirstStagePostProcessor": "ldm.modules.diffusionmodules.rescalers",
    "LatentRescaler": "ldm.modules.diffusionmodules.rescalers",
    "MergedRescaleDecoder": "ldm.modules.diffusionmodules.rescalers",
    "MergedRescaleEncoder": "ldm.modules.diffusionmodules.rescalers",
    "Resize": "ldm.modules.diffusionmodules.rescalers",
    "SimpleDecoder": "ldm.modules.diffusionmodules.rescalers",
    "UpsampleDecoder": "ldm.modules.diffusionmodules.rescalers",
    "Upsampler": "ldm.modules.diffusionmodules.rescalers",
    "Model": "ldm.modules.diffusionmodules.pixel_unet",
    "get_timestep_embedding": "ldm.modules.diffusionmodules.pixel_unet",
    "LinAttnBlock": "ldm.modules.linear_attention",
    "LinearAttention": "ldm.modules.linear_attention",
    "instantiate_from_config": "ldm.util",
    "math": "math:",
    "np": "numpy:",
}
__all__ = [
    "AttnBlock",
    "Decoder",
    "Downsample",
    "Encoder",
    "Normalize",
    "ResnetBlock",
    "Upsample",
    "make_attn",
    "nonlinearity",
    *ELSEWHERE,
]
__getattr__, __dir__ = lazy_exports(__name__, ELSEWHERE)

ATTENTIONS = ("vanilla", "linear", "none")


def nonlinearity(x: Tensor) -> Tensor:
    """Return x sigmoid(x): arXiv:1710.05941."""
    return F.silu(x)


def Normalize(in_channels: int, num_groups: int = 32) -> nn.GroupNorm:  # noqa: N802 - CompVis's
    """Return the autoencoder's norm."""
    return nn.GroupNorm(num_groups, in_channels, eps=1e-6)


def activated(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """Return SiLU(norm(x)), (B, C, H, W), for a convolution.

    Autocast normalises in float32. Of a large map that would take twice the memory of all that the
    layer holds besides, so there it is done a part of the groups at a time, to the same bits.
    A norm may have both computed its own way, as an attribute ``activated``.
    """
    if (own := vars(norm).get("activated")) is not None:
        return own(x)
    if takes_much(norm, x):
        return activated_by_groups(norm, x)
    return F.silu(norm(x))


LARGE = 2**24  # elements: 64 MiB in float32


def takes_much(norm: nn.GroupNorm, x: Tensor) -> bool:
    """Check whether autocast would make large float32 maps of x for a norm that is a plain one."""
    if not x.is_cuda or torch.is_grad_enabled():  # on a CPU autocast leaves norms as they are
        return False
    if x.numel() < LARGE or x.itemsize != 2 or not x.is_contiguous():
        return False
    # What stands in for it, or listens to it, wants the whole map.
    plain = type(norm) is nn.GroupNorm and "forward" not in vars(norm)
    heard = norm._forward_hooks or norm._forward_pre_hooks
    return plain and not heard and norm.affine and torch.is_autocast_enabled(x.device.type)


class Upsample(nn.Module):
    """Double both sides by nearest neighbours, then convolve."""

    def __init__(self, in_channels: int, with_conv: bool = True):
        super().__init__()
        self.with_conv = with_conv
        self.conv = nn.Conv2d(in_channels, in_channels, 3, padding=1) if with_conv else None

    def forward(self, x: Tensor) -> Tensor:
        if self.conv is None:
            return F.interpolate(x, scale_factor=2.0, mode="nearest")  # (B, C, 2h, 2w)
        return self.conv(doubled(x))  # (B, C, 2h, 2w)


class Downsample(nn.Module):
    """Halve both sides: a strided convolution padded at the right and bottom, or a mean."""

    def __init__(self, in_channels: int, with_conv: bool = True):
        super().__init__()
        self.with_conv = with_conv
        self.conv = nn.Conv2d(in_channels, in_channels, 3, stride=2) if with_conv else None

    def forward(self, x: Tensor) -> Tensor:
        if self.conv is None:
            return F.avg_pool2d(x, kernel_size=2)  # (B, C, h/2, w/2)
        return self.conv(F.pad(x, (0, 1, 0, 1)))  # (B, C, h + 1, w + 1) -> (B, C, h/2, w/2)


class ResnetBlock(nn.Module):
    """Two normalised convolutions around an optional time embedding, added to the input."""

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int | None = None,
        conv_shortcut: bool = False,
        dropout: float = 0.0,
        temb_channels: int = 512,
    ):
        super().__init__()
        out_channels = out_channels or in_channels
        self.in_channels, self.out_channels = in_channels, out_channels
        self.use_conv_shortcut = conv_shortcut
        self.norm1 = Normalize(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.temb_proj = nn.Linear(temb_channels, out_channels) if temb_channels > 0 else None
        self.norm2 = Normalize(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = self.nin_shortcut = None
        if in_channels != out_channels and conv_shortcut:
            self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        elif in_channels != out_channels:
            self.nin_shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, temb: Tensor | None = None) -> Tensor:
        h = self.conv1(activated(self.norm1, x))  # (B, C', h, w)
        if temb is not None:
            h = h + self.temb_proj(F.silu(temb))[:, :, None, None]  # + (B, C', 1, 1)
        h = self.conv2(self.dropout(activated(self.norm2, h)))  # (B, C', h, w)
        return self.shortcut(x) + h  # (B, C', h, w)

    def shortcut(self, x: Tensor) -> Tensor:
        """Return the input, brought to the output's width."""
        layer = self.conv_shortcut or self.nin_shortcut
        return x if layer is None else layer(x)


class AttnBlock(AttentionLayer):
    """Single-head self-attention over the pixels of (B, C, h, w), added to it."""

    def __init__(self, in_channels: int):
        super().__init__()
        self.norm = Normalize(in_channels)
        self.q = nn.Conv2d(in_channels, in_channels, 1)
        self.k = nn.Conv2d(in_channels, in_channels, 1)
        self.v = nn.Conv2d(in_channels, in_channels, 1)
        self.proj_out = nn.Conv2d(in_channels, in_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        return x + self.attend(self.q(normed), self.k(normed), self.v(normed))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return what is added to the pixels (B, C, h', w) whose queries are ``q``.

        Args:
            q: Queries (B, C, h', w): of the whole map, or of some of its rows.
            k: Keys (B, C, h, w) of the whole map.
            v: Its values (B, C, h, w).
        """
        # One head, as wide as the map: (B, 1, N', C), (B, 1, N, C), (B, 1, N, C).
        tokens = (rearrange(a, "b c h w -> b 1 (h w) c") for a in (q, k, v))
        out = self.processor(*tokens, mask=None, scale=q.shape[1] ** -0.5)  # (B, 1, N', C)
        out = rearrange(out, "b 1 (h w) c -> b c h w", h=q.shape[2])  # (B, C, h', w')
        return self.proj_out(out)  # (B, C, h', w')


def make_attn(in_channels: int, attn_type: str = "vanilla") -> nn.Module:
    """Return the attention layer that ``attn_type`` names.

    Raises:
        UserError: Unknown name.
    """
    if attn_type == "vanilla":
        return AttnBlock(in_channels)
    if attn_type == "none":
        return nn.Identity()
    if attn_type == "linear":
        from ldm.modules.linear_attention import LinAttnBlock

        return LinAttnBlock(in_channels)
    raise UserError(f"attn_type {attn_type!r} given; expected one of {', '.join(ATTENTIONS)}")


def _middle(channels: int, dropout: float, attn_type: str) -> nn.Module:
    middle = nn.Module()
    middle.block_1 = ResnetBlock(in_channels=channels, temb_channels=0, dropout=dropout)
    middle.attn_1 = make_attn(channels, attn_type)
    middle.block_2 = ResnetBlock(in_channels=channels, temb_channels=0, dropout=dropout)
    return middle


def _level(
    channels_in: int,
    channels_out: int,
    blocks: int,
    *,
    attention: bool,
    attn_type: str,
    drop: float,
) -> nn.Module:
    level = nn.Module()
    level.block, level.attn = nn.ModuleList(), nn.ModuleList()
    for j in range(blocks):
        level.block.append(
            ResnetBlock(
                in_channels=channels_in if j == 0 else channels_out,
                out_channels=channels_out,
                temb_channels=0,
                dropout=drop,
            )
        )
        if attention:
            level.attn.append(make_attn(channels_out, attn_type))
    return level


class Encoder(nn.Module):
    """Picture (B, in_channels, H, W) -> moments (B, 2 z_channels, h, w), or z without double_z."""

    def __init__(
        self,
        *,
        ch: int,
        out_ch: int,  # noqa: ARG002 - shared ddconfig: the decoder's
        ch_mult: Sequence[int] = (1, 2, 4, 8),
        num_res_blocks: int,
        attn_resolutions: Sequence[int],
        dropout: float = 0.0,
        resamp_with_conv: bool = True,
        in_channels: int,
        resolution: int,
        z_channels: int,
        double_z: bool = True,
        use_linear_attn: bool = False,
        attn_type: str = "vanilla",
    ):
        super().__init__()
        attn_type = "linear" if use_linear_attn else attn_type
        widths = [ch * mult for mult in ch_mult]
        self.ch, self.in_channels, self.resolution = ch, in_channels, resolution
        self.num_resolutions, self.num_res_blocks = len(widths), num_res_blocks
        self.conv_in = nn.Conv2d(in_channels, ch, 3, padding=1)
        self.down = nn.ModuleList()
        for i, (before, after) in enumerate(zip([ch, *widths], widths, strict=False)):
            attention = resolution // 2**i in attn_resolutions
            level = _level(
                before,
                after,
                num_res_blocks,
                attention=attention,
                attn_type=attn_type,
                drop=dropout,
            )
            if i < len(widths) - 1:
                level.downsample = Downsample(after, resamp_with_conv)
            self.down.append(level)
        self.mid = _middle(widths[-1], dropout, attn_type)
        self.norm_out = Normalize(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], z_channels * (2 if double_z else 1), 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        for layer in coder_layers(self):
            x = layer(x)  # (B, ch, H, W) at first, (B, ch_mult[-1] ch, h, w) at last
        return self.conv_out(
            activated(self.norm_out, x)
        )  # (B, 2 z_channels, h, w); z_channels in VQ


class Decoder(nn.Module):
    """Latent (B, z_channels, h, w) -> picture (B, out_ch, H, W), unclamped."""

    def __init__(
        self,
        *,
        ch: int,
        out_ch: int,
        ch_mult: Sequence[int] = (1, 2, 4, 8),
        num_res_blocks: int,
        attn_resolutions: Sequence[int],
        dropout: float = 0.0,
        resamp_with_conv: bool = True,
        in_channels: int,
        resolution: int,
        z_channels: int,
        double_z: bool = True,  # noqa: ARG002 - shared ddconfig: the encoder's
        give_pre_end: bool = False,
        tanh_out: bool = False,
        use_linear_attn: bool = False,
        attn_type: str = "vanilla",
    ):
        super().__init__()
        self.give_pre_end, self.tanh_out = give_pre_end, tanh_out
        attn_type = "linear" if use_linear_attn else attn_type
        widths = [ch * mult for mult in ch_mult]
        self.ch, self.in_channels, self.resolution = ch, in_channels, resolution
        self.num_resolutions, self.num_res_blocks = len(widths), num_res_blocks
        side = resolution // 2 ** (len(widths) - 1)
        self.z_shape = (1, z_channels, side, side)
        self.conv_in = nn.Conv2d(z_channels, widths[-1], 3, padding=1)
        self.mid = _middle(widths[-1], dropout, attn_type)
        levels = []
        for i in reversed(range(len(widths))):
            before = widths[min(i + 1, len(widths) - 1)]
            attention = resolution // 2**i in attn_resolutions
            level = _level(
                before,
                widths[i],
                num_res_blocks + 1,
                attention=attention,
                attn_type=attn_type,
                drop=dropout,
            )
            if i > 0:
                level.upsample = Upsample(widths[i], resamp_with_conv)
            levels.insert(0, level)
        # Level i works at 1 / 2**i of the picture's side: checkpoints count from the shallow end.
        self.up = nn.ModuleList(levels)
        self.norm_out = Normalize(widths[0])
        self.conv_out = nn.Conv2d(widths[0], out_ch, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = z
        for layer in coder_layers(self):
            h = layer(h)  # (B, ch_mult[-1] ch, h, w) at first, (B, ch_mult[0] ch, H, W) at last
        if self.give_pre_end:
            return h
        h = self.conv_out(activated(self.norm_out, h))  # (B, out_ch, H, W)
        return torch.tanh(h) if self.tanh_out else h
