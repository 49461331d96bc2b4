"""The UNet of DDPM, arXiv:2006.11239, appendix B, made of the autoencoder's layers.

Shapes: B batch, C channels, H W sides, D width of the time embedding.
Key names are those of the reference's ``Model``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ldm.modules.diffusionmodules.model import (
    Downsample,
    Normalize,
    ResnetBlock,
    Upsample,
    make_attn,
    nonlinearity,
)


def get_timestep_embedding(timesteps: Tensor, embedding_dim: int) -> Tensor:
    """Embed steps (B,) as [sin, cos] waves (B, embedding_dim) with periods from 2 pi to 20000 pi.

    Unlike ``timestep_embedding``, the sines come first and the longest period is reached.

    Raises:
        ValueError: ``timesteps`` is not one-dimensional.
    """
    if timesteps.ndim != 1:
        raise ValueError(f"timesteps of shape {tuple(timesteps.shape)} given; expected (B,)")
    half = embedding_dim // 2
    step = -math.log(10000) / (half - 1)
    exponents = torch.arange(half, dtype=torch.float32, device=timesteps.device) * step
    angles = timesteps[:, None].float() * exponents.exp()
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    return nn.functional.pad(waves, (0, embedding_dim % 2))


class Model(nn.Module):
    """Predict noise of pictures, conditioned on the step and on maps joined to the picture.

    Args:
        ch: Width of the first level, a multiple of 32.
        out_ch: Channels of the prediction.
        ch_mult: Width of each level as a multiple of ``ch``.
        num_res_blocks: ResnetBlocks a level; the second half has one more.
        attn_resolutions: Sides at which attention stands.
        dropout: Dropout probability of the ResnetBlocks.
        resamp_with_conv: Resample by convolutions.
        in_channels: C, the joined maps' included.
        resolution: Side of the pictures that ``attn_resolutions`` is said for.
        use_timestep: Whether there is a step.
        use_linear_attn: The same as ``attn_type`` ``linear``.
        attn_type: See ``make_attn``.
    """

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
        use_timestep: bool = True,
        use_linear_attn: bool = False,
        attn_type: str = "vanilla",
    ):
        super().__init__()
        self.ch, self.temb_ch = ch, 4 * ch
        self.in_channels, self.resolution = in_channels, resolution
        self.num_resolutions, self.num_res_blocks = len(ch_mult), num_res_blocks
        self.use_timestep = use_timestep
        if use_timestep:
            self.temb = nn.Module()
            self.temb.dense = nn.ModuleList(
                [nn.Linear(ch, self.temb_ch), nn.Linear(self.temb_ch, self.temb_ch)]
            )
        kind = "linear" if use_linear_attn else attn_type
        widths = [ch * mult for mult in ch_mult]
        attends = [resolution // 2**i in attn_resolutions for i in range(len(widths))]
        self.conv_in = nn.Conv2d(in_channels, ch, 3, padding=1)
        self._add_down(widths, attends, kind, dropout, resamp_with_conv)
        self.mid = nn.Module()
        self.mid.block_1 = self._block(widths[-1], widths[-1], dropout)
        self.mid.attn_1 = make_attn(widths[-1], attn_type=kind)
        self.mid.block_2 = self._block(widths[-1], widths[-1], dropout)
        self._add_up(widths, attends, kind, dropout, resamp_with_conv)
        self.norm_out = Normalize(widths[0])
        self.conv_out = nn.Conv2d(widths[0], out_ch, 3, padding=1)

    def _block(self, before: int, after: int, dropout: float) -> ResnetBlock:
        return ResnetBlock(
            in_channels=before, out_channels=after, temb_channels=self.temb_ch, dropout=dropout
        )

    def _level(
        self, before: Sequence[int], after: int, attends: bool, kind: str, dropout: float
    ) -> nn.Module:
        """Make the layers of a level; ``before`` are the widths that its blocks take."""
        level = nn.Module()
        level.block = nn.ModuleList(self._block(width, after, dropout) for width in before)
        level.attn = nn.ModuleList(make_attn(after, attn_type=kind) for _ in before if attends)
        return level

    def _add_down(
        self, widths: list[int], attends: list[bool], kind: str, dropout: float, conv: bool
    ) -> None:
        self.down = nn.ModuleList()
        for i, after in enumerate(widths):
            before = [widths[i - 1] if i else self.ch, *[after] * (self.num_res_blocks - 1)]
            level = self._level(before, after, attends[i], kind, dropout)
            if i < len(widths) - 1:
                level.downsample = Downsample(after, conv)
            self.down.append(level)

    def _add_up(
        self, widths: list[int], attends: list[bool], kind: str, dropout: float, conv: bool
    ) -> None:
        levels = []
        for i, after in enumerate(widths):
            # What comes from below, joined to the level's skips; the last is the one that the
            # level above handed down.
            comes = [widths[min(i + 1, len(widths) - 1)], *[after] * self.num_res_blocks]
            skips = [*[after] * self.num_res_blocks, widths[i - 1] if i else self.ch]
            before = [a + b for a, b in zip(comes, skips, strict=True)]
            level = self._level(before, after, attends[i], kind, dropout)
            if i > 0:
                level.upsample = Upsample(after, conv)
            levels.append(level)
        self.up = nn.ModuleList(levels)

    def forward(self, x: Tensor, t: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        """Predict.

        Args:
            x: Noisy pictures (B, C, H, W), or fewer channels where maps join them.
            t: Steps (B,); needed with ``use_timestep``.
            context: Maps (B, C', H, W) that join the picture on its channels.

        Returns:
            Prediction (B, out_ch, H, W).

        Raises:
            ValueError: The step is missing.
        """
        if self.use_timestep and t is None:
            raise ValueError("t is None; expected steps (B,), because use_timestep is set")
        temb = self._embed(t) if self.use_timestep else None  # (B, D)
        h = self.conv_in(x if context is None else torch.cat((x, context), dim=1))
        skips = [h]
        for level in self.down:
            for j, block in enumerate(level.block):
                h = _attend(level, j, block(h, temb))  # (B, width, H / 2^i, W / 2^i)
                skips.append(h)
            if hasattr(level, "downsample"):
                h = level.downsample(h)
                skips.append(h)
        h = self.mid.block_2(self.mid.attn_1(self.mid.block_1(h, temb)), temb)
        for level in reversed(self.up):
            for j, block in enumerate(level.block):
                h = _attend(level, j, block(torch.cat([h, skips.pop()], dim=1), temb))
            if hasattr(level, "upsample"):
                h = level.upsample(h)
        return self.conv_out(nonlinearity(self.norm_out(h)))  # (B, out_ch, H, W)

    def _embed(self, t: Tensor) -> Tensor:
        first, second = self.temb.dense
        return second(nonlinearity(first(get_timestep_embedding(t, self.ch))))  # (B, D)

    def get_last_layer(self) -> nn.Parameter:
        """Return the last convolution's weight."""
        return self.conv_out.weight


def _attend(level: nn.Module, index: int, h: Tensor) -> Tensor:
    return level.attn[index](h) if len(level.attn) else h
