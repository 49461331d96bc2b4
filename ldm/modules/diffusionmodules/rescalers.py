"""Coders that change the size of latents, and what reads a frozen first stage's latents.

The reference offers them and no published model of the family uses them.
Shapes: B batch, C channels, h w latent sides. Key names are the reference's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ldm.building import place
from ldm.errors import UserError
from ldm.modules.diffusionmodules.model import (
    AttnBlock,
    Decoder,
    Downsample,
    Encoder,
    Normalize,
    ResnetBlock,
    Upsample,
    nonlinearity,
)
from ldm.modules.distributions.distributions import DiagonalGaussianDistribution
from ldm.util import instantiate_from_config


def _residual(before: int, after: int, dropout: float = 0.0) -> ResnetBlock:
    return ResnetBlock(in_channels=before, out_channels=after, temb_channels=0, dropout=dropout)


class SimpleDecoder(nn.Module):
    """Double the sides of (B, in_channels, h, w) once: (B, out_channels, 2h, 2w).

    Further arguments are ignored, as in the reference.
    """

    def __init__(self, in_channels: int, out_channels: int, *_args: Any, **_kwargs: Any):
        super().__init__()
        c = in_channels
        self.model = nn.ModuleList(
            [
                nn.Conv2d(c, c, 1),
                _residual(c, 2 * c),
                _residual(2 * c, 4 * c),
                _residual(4 * c, 2 * c),
                nn.Conv2d(2 * c, c, 1),
                Upsample(c, True),
            ]
        )
        self.norm_out = Normalize(c)
        self.conv_out = nn.Conv2d(c, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.model:
            x = layer(x, None) if isinstance(layer, ResnetBlock) else layer(x)
        return self.conv_out(nonlinearity(self.norm_out(x)))


class UpsampleDecoder(nn.Module):
    """Double the sides between levels: (B, in_channels, h, w) -> (B, out_channels, f h, f w).

    f is 2 to the number of levels less one.

    Args:
        in_channels: Channels of the latent.
        out_channels: Channels of the result.
        ch: Unit of the widths.
        num_res_blocks: ResnetBlocks a level, less one.
        resolution: Kept for CompVis; any size works.
        ch_mult: Width of each level as a multiple of ``ch``, coarse to fine.
        dropout: Dropout probability of the ResnetBlocks.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        ch: int,
        num_res_blocks: int,
        resolution: int,  # noqa: ARG002 - kept for CompVis
        ch_mult: Sequence[int] = (2, 2),
        dropout: float = 0.0,
    ):
        super().__init__()
        self.num_resolutions, self.num_res_blocks = len(ch_mult), num_res_blocks
        widths = [in_channels, *(ch * mult for mult in ch_mult)]
        self.res_blocks, self.upsample_blocks = nn.ModuleList(), nn.ModuleList()
        for before, after in zip(widths, widths[1:], strict=False):
            inputs = [before, *[after] * num_res_blocks]
            self.res_blocks.append(nn.ModuleList(_residual(i, after, dropout) for i in inputs))
        for width in widths[1:-1]:
            self.upsample_blocks.append(Upsample(width, True))
        self.norm_out = Normalize(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        for level, blocks in enumerate(self.res_blocks):
            for block in blocks:
                x = block(x, None)
            if level < len(self.upsample_blocks):
                x = self.upsample_blocks[level](x)
        return self.conv_out(nonlinearity(self.norm_out(x)))


class LatentRescaler(nn.Module):
    """Scale the sides by ``factor``, to the nearest neighbour, among residual blocks.

    Args:
        factor: Of both sides, which are rounded.
        in_channels: C.
        mid_channels: Width inside.
        out_channels: Channels of the result.
        depth: ResnetBlocks before and after.
    """

    def __init__(
        self, factor: float, in_channels: int, mid_channels: int, out_channels: int, depth: int = 2
    ):
        super().__init__()
        self.factor, mid = factor, mid_channels
        self.conv_in = nn.Conv2d(in_channels, mid, 3, padding=1)
        self.res_block1 = nn.ModuleList(_residual(mid, mid) for _ in range(depth))
        self.attn = AttnBlock(mid)
        self.res_block2 = nn.ModuleList(_residual(mid, mid) for _ in range(depth))
        self.conv_out = nn.Conv2d(mid, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)  # (B, mid, h, w)
        for block in self.res_block1:
            x = block(x, None)
        x = F.interpolate(x, size=[round(side * self.factor) for side in x.shape[2:]])
        x = self.attn(x)  # (B, mid, factor h, factor w)
        for block in self.res_block2:
            x = block(x, None)
        return self.conv_out(x)  # (B, out_channels, factor h, factor w)


class MergedRescaleEncoder(nn.Module):
    """An ``Encoder`` and a ``LatentRescaler`` behind it; parameters are theirs.

    Args:
        in_channels: Channels of the picture.
        ch: Width of the first level.
        resolution: Side of the pictures that ``attn_resolutions`` is said for.
        out_ch: Channels of the result.
        num_res_blocks: See ``Encoder``, like the next five.
        attn_resolutions: See there.
        dropout: See there.
        resamp_with_conv: See there.
        ch_mult: See there.
        rescale_factor: The rescaler's factor.
        rescale_module_depth: Its depth.
    """

    def __init__(
        self,
        in_channels: int,
        ch: int,
        resolution: int,
        out_ch: int,
        num_res_blocks: int,
        attn_resolutions: Sequence[int],
        dropout: float = 0.0,
        resamp_with_conv: bool = True,
        ch_mult: Sequence[int] = (1, 2, 4, 8),
        rescale_factor: float = 1.0,
        rescale_module_depth: int = 1,
    ):
        super().__init__()
        width = ch * ch_mult[-1]
        self.encoder = Encoder(
            in_channels=in_channels,
            num_res_blocks=num_res_blocks,
            ch=ch,
            ch_mult=ch_mult,
            z_channels=width,
            double_z=False,
            resolution=resolution,
            attn_resolutions=attn_resolutions,
            dropout=dropout,
            resamp_with_conv=resamp_with_conv,
            out_ch=None,
        )
        self.rescaler = LatentRescaler(rescale_factor, width, width, out_ch, rescale_module_depth)

    def forward(self, x: Tensor) -> Tensor:
        return self.rescaler(self.encoder(x))


class MergedRescaleDecoder(nn.Module):
    """A ``LatentRescaler`` and a ``Decoder`` behind it; see ``MergedRescaleEncoder``.

    ``z_channels`` are the latent's; ``out_ch`` the picture's.
    """

    def __init__(
        self,
        z_channels: int,
        out_ch: int,
        resolution: int,
        num_res_blocks: int,
        attn_resolutions: Sequence[int],
        ch: int,
        ch_mult: Sequence[int] = (1, 2, 4, 8),
        dropout: float = 0.0,
        resamp_with_conv: bool = True,
        rescale_factor: float = 1.0,
        rescale_module_depth: int = 1,
    ):
        super().__init__()
        width = z_channels * ch_mult[-1]
        self.decoder = Decoder(
            out_ch=out_ch,
            z_channels=width,
            attn_resolutions=attn_resolutions,
            dropout=dropout,
            resamp_with_conv=resamp_with_conv,
            in_channels=None,
            num_res_blocks=num_res_blocks,
            ch_mult=ch_mult,
            resolution=resolution,
            ch=ch,
        )
        self.rescaler = LatentRescaler(
            rescale_factor, z_channels, width, width, rescale_module_depth
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.rescaler(x))


class Upsampler(nn.Module):
    """Enlarge maps of ``in_size`` by 1 + (out_size mod in_size), then by the decoder's levels.

    The factor is the reference's. The result has ``out_size`` where ``in_size`` divides it into a
    power of two.

    Raises:
        UserError: ``out_size`` is below ``in_size``.
    """

    def __init__(
        self, in_size: int, out_size: int, in_channels: int, out_channels: int, ch_mult: int = 2
    ):
        super().__init__()
        if out_size < in_size:
            raise UserError(
                f"out_size {out_size} given with in_size {in_size}; expected at least as much; "
                "raise it"
            )
        levels = int(math.log2(out_size // in_size)) + 1
        self.rescaler = LatentRescaler(
            1.0 + out_size % in_size, in_channels, 2 * in_channels, in_channels
        )
        self.decoder = Decoder(
            out_ch=out_channels,
            resolution=out_size,
            z_channels=in_channels,
            num_res_blocks=2,
            attn_resolutions=[],
            in_channels=None,
            ch=in_channels,
            ch_mult=[ch_mult] * levels,
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.rescaler(x))


class Resize(nn.Module):
    """Scale maps (B, C, h, w) by interpolation.

    Args:
        in_channels: Kept for CompVis.
        learned: Kept for CompVis, where it is not implemented either.
        mode: Of ``torch.nn.functional.interpolate``: ``bilinear`` or ``bicubic``.

    Raises:
        NotImplementedError: ``learned`` is set.
    """

    def __init__(
        self,
        in_channels: int | None = None,  # noqa: ARG002 - kept for CompVis
        learned: bool = False,
        mode: str = "bilinear",
    ):
        super().__init__()
        if learned:
            raise NotImplementedError("learned resizing is not implemented; leave learned out")
        self.with_conv, self.mode = learned, mode

    def forward(self, x: Tensor, scale_factor: float = 1.0) -> Tensor:
        if scale_factor == 1.0:
            return x
        return F.interpolate(x, mode=self.mode, align_corners=False, scale_factor=scale_factor)


class FirstStagePostProcessor(nn.Module):
    """Residual blocks and halvings on the latents of a frozen first stage.

    Args:
        ch_mult: Width of each level as a multiple of ``n_channels``; each halves the sides.
        in_channels: Channels of the latent, an even number.
        pretrained_model: The first stage, or
        reshape: Return tokens (B, h*w, C) in place of a map.
        n_channels: Unit of the widths; None for the first stage's ``encoder.ch``.
        dropout: Dropout probability of the blocks.
        pretrained_config: ``target`` / ``params`` of the first stage, which is frozen.

    Raises:
        UserError: No first stage is given.
    """

    def __init__(
        self,
        ch_mult: Sequence[int],
        in_channels: int,
        pretrained_model: nn.Module | None = None,
        reshape: bool = False,
        n_channels: int | None = None,
        dropout: float = 0.0,
        pretrained_config: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        if pretrained_config is not None:
            self.instantiate_pretrained(pretrained_config)
        elif pretrained_model is not None:
            self.pretrained_model = pretrained_model
        else:
            raise UserError("no first stage given; expected pretrained_model or pretrained_config")
        self.do_reshape = reshape
        n_channels = n_channels or self.pretrained_model.encoder.ch
        self.proj_norm = Normalize(in_channels, num_groups=in_channels // 2)
        self.proj = nn.Conv2d(in_channels, n_channels, 3, padding=1)
        widths = [n_channels, *(mult * n_channels for mult in ch_mult)]
        # Time embeddings of the usual width, never given: the reference's checkpoints hold them.
        self.model = nn.ModuleList(
            ResnetBlock(in_channels=before, out_channels=after, dropout=dropout)
            for before, after in zip(widths, widths[1:], strict=False)
        )
        self.downsampler = nn.ModuleList(Downsample(width, False) for width in widths[1:])

    def instantiate_pretrained(self, config: Mapping[str, Any]) -> None:
        """Build the first stage and freeze it."""
        with place("pretrained_config"):
            model = instantiate_from_config(config)
        self.pretrained_model = model.eval().requires_grad_(False)

    @torch.no_grad()
    def encode_with_pretrained(self, x: Tensor) -> Tensor:
        """Return the latents (B, in_channels, h, w) of pictures; of a posterior, the mode."""
        encoded = self.pretrained_model.encode(x)
        return encoded.mode() if isinstance(encoded, DiagonalGaussianDistribution) else encoded

    def forward(self, x: Tensor) -> Tensor:
        z = nonlinearity(self.proj(self.proj_norm(self.encode_with_pretrained(x))))
        for block, halve in zip(self.model, self.downsampler, strict=True):
            z = halve(block(z, None))  # (B, mult * n_channels, h / 2, w / 2), and so on
        return rearrange(z, "b c h w -> b (h w) c") if self.do_reshape else z
