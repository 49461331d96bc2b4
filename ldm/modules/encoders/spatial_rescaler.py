"""Conditioner for maps: scale them to the latent's size and mix their channels.

Shapes: B batch, C channels, H W sides of the map.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import interpolate

from ldm.errors import UserError
from ldm.modules.encoders.base import AbstractEncoder

METHODS = ("nearest", "linear", "bilinear", "trilinear", "bicubic", "area")


class SpatialRescaler(AbstractEncoder):
    """Scale a map (B, C, H, W) ``n_stages`` times by ``multiplier``, then mix its channels.

    Args:
        n_stages: Number of times it is scaled; 0 keeps its size.
        method: Name of a torch interpolation mode.
        multiplier: Factor of each stage.
        in_channels: C.
        out_channels: Channels of the result, by a learned 1x1 convolution; None keeps them.
        bias: Whether that convolution has a bias.

    Raises:
        UserError: The method is unknown, or ``n_stages`` is negative.
    """

    def __init__(
        self,
        n_stages: int = 1,
        method: str = "bilinear",
        multiplier: float = 0.5,
        in_channels: int = 3,
        out_channels: int | None = None,
        bias: bool = False,
    ):
        super().__init__()
        if method not in METHODS:
            raise UserError(f"method {method!r} given; expected one of {', '.join(METHODS)}")
        if n_stages < 0:
            raise UserError(f"n_stages {n_stages} given; expected 0 or more")
        self.n_stages, self.method, self.multiplier = n_stages, method, multiplier
        self.remap_output = out_channels is not None
        if self.remap_output:
            self.channel_mapper = nn.Conv2d(in_channels, out_channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map (B, out_channels, H m^n, W m^n), m the multiplier, n the stages."""
        for _ in range(self.n_stages):
            x = interpolate(x, scale_factor=self.multiplier, mode=self.method)
        return self.channel_mapper(x) if self.remap_output else x

    def encode(self, x: Tensor) -> Tensor:
        """Scale a map; see ``forward``."""
        return self(x)
