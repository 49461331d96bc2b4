"""T2I-Adapter (arXiv:2302.08453): a small network that turns a drawing into features by level.

They are added to the UNet's features at the end of each level of its first half.

Shapes: n drawings, c channels, 8h 8w their sides, h w the latent's; C_i, h_i, w_i level i's.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

UNSHUFFLE = 8
"""Pixels of the drawing along one position of the latent; they become channels."""
LIGHT = 4
"""How much narrower a light adapter's blocks are than its features."""


class AdapterBlock(nn.Module):
    """Two convolutions beside an identity.

    Args:
        width: Channels.
        kernel: Side of the second convolution: 1 in the full adapter, 3 in the light one.
    """

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.block1 = nn.Conv2d(width, width, 3, padding=1)
        self.act = nn.ReLU()
        self.block2 = nn.Conv2d(width, width, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return x (n, C, h, w) with what it adds."""
        return x + self.block2(self.act(self.block1(x)))


class AdapterLevel(nn.Module):
    """One level: half the size if it is not the first, another width, residual blocks.

    Args:
        width: Channels that come in.
        out: Channels that go out.
        blocks: How many residual blocks.
        kernel: See ``AdapterBlock``.
        light: Whether the blocks are narrower than what goes out.
        down: Whether the map is halved first.
    """

    def __init__(
        self, width: int, out: int, blocks: int, kernel: int, *, light: bool, down: bool
    ) -> None:
        super().__init__()
        inner = out // LIGHT if light else out
        # Sides that are odd are rounded up, as the UNet's are.
        self.down = nn.AvgPool2d(2, ceil_mode=True) if down else nn.Identity()
        self.in_conv = nn.Conv2d(width, inner, 1) if light or width != out else nn.Identity()
        self.resnets = nn.Sequential(*[AdapterBlock(inner, kernel) for _ in range(blocks)])
        self.out_conv = nn.Conv2d(inner, out, 1) if light else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return the level's features (n, C_i, h_i, w_i)."""
        return self.out_conv(self.resnets(self.in_conv(self.down(x))))


class T2IAdapter(nn.Module):
    """The adapter under diffusers' names; it has no ``conv_in`` where it is light.

    Args:
        channels: Channels of the drawing: 1 or 3.
        widths: C_i, the width of each of the UNet's levels.
        blocks: Residual blocks a level; 2 in the full adapter, 4 in the light one.
        light: Whether it is the light one.
    """

    def __init__(
        self, channels: int, widths: Sequence[int], blocks: int, *, light: bool = False
    ) -> None:
        super().__init__()
        self.channels, unshuffled = channels, channels * UNSHUFFLE**2
        self.widths, self.blocks, self.light = tuple(widths), blocks, light
        self.unshuffle = nn.PixelUnshuffle(UNSHUFFLE)
        self.conv_in = nn.Identity() if light else nn.Conv2d(unshuffled, widths[0], 3, padding=1)
        before = [unshuffled if light else widths[0], *widths]
        self.body = nn.ModuleList(
            AdapterLevel(width, out, blocks, 3 if light else 1, light=light, down=level > 0)
            for level, (width, out) in enumerate(zip(before, widths, strict=False))
        )

    def forward(self, hint: Tensor) -> list[Tensor]:
        """Return the features of each level (n, C_i, h_i, w_i) for a hint (n, c, 8h, 8w)."""
        x, features = self.conv_in(self.unshuffle(hint)), []
        for level in self.body:
            x = level(x)
            features.append(x)
        return features
