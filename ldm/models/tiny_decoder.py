"""A tiny decoder from latents to pictures, as TAESD has it: convolutions and nothing else.

madebyollin/taesd, whose ``taesd_decoder`` this reads, has for SD v1 a convolution, three times
three blocks and a doubling, a last block and a convolution, all 64 wide.
Shapes: B batch, C latent channels, h w latent sides, H W pixels, c width of a layer.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from ldm.errors import UserError

MOST_LAYERS = 64
LATENT_BOUND = 3.0
"""Latents are bent smoothly to stay below it."""


class TinyBlock(nn.Module):
    """Three convolutions, added to what enters them: (B, c, h, w) -> the same shape."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x) + x)


class Bend(nn.Module):
    """Bend latents into (-3, 3): 3 tanh(z / 3)."""

    def forward(self, z: Tensor) -> Tensor:
        return LATENT_BOUND * (z / LATENT_BOUND).tanh()


class TinyDecoder(nn.Sequential):
    """The decoder that a file's weights are of; its keys are those of ``taesd_decoder``.

    Layers that have no weights are told by their places: the first bends latents, the third is a
    ReLU, every other doubles the sides.

    Args:
        shapes: The shape of each weight by its key.
        scale: Latents are divided by it first: diffusers' ``scaling_factor``, which TAESD has at 1.

    Attributes:
        in_channels: C.
        factor: H / h.

    Raises:
        UserError: The weights are not those of such a decoder.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], scale: float = 1.0) -> None:
        numbers = {int(name.split(".")[0]) for name in shapes if name.split(".")[0].isdecimal()}
        last = max(numbers, default=0)
        if not 3 < last < MOST_LAYERS or shapes.get(f"{last}.weight", ())[:1] != (3,):
            raise _no_decoder()
        layers = [_layer(place, shapes) for place in range(last + 1)]
        super().__init__(*layers)
        if not isinstance(layers[1], nn.Conv2d):
            raise _no_decoder()
        self.in_channels, self.scale = layers[1].in_channels, scale
        self.factor = 2 ** sum(isinstance(layer, nn.Upsample) for layer in layers)

    def forward(self, z: Tensor) -> Tensor:
        """Decode the diffusion's latents (B, C, h, w) to pictures (B, 3, H, W), about [-1, 1]."""
        return super().forward(z / self.scale) * 2.0 - 1.0


def _layer(place: int, shapes: Mapping[str, tuple[int, ...]]) -> nn.Module:
    if (weight := shapes.get(f"{place}.weight")) is not None:
        return _convolution(weight, bias=f"{place}.bias" in shapes)
    if (weight := shapes.get(f"{place}.conv.0.weight")) is not None:
        _convolution(weight, bias=True)  # only to look at its shape
        return TinyBlock(weight[0])
    return {0: Bend(), 2: nn.ReLU()}.get(place) or nn.Upsample(scale_factor=2)


def _convolution(weight: tuple[int, ...], *, bias: bool) -> nn.Conv2d:
    if len(weight) != 4 or weight[2:] != (3, 3):
        raise _no_decoder()
    return nn.Conv2d(weight[1], weight[0], 3, padding=1, bias=bias)


def _no_decoder() -> UserError:
    return UserError(
        "the weights are not those of a tiny decoder: expected convolutions and blocks with the "
        "keys of taesd_decoder, or of diffusers' AutoencoderTiny; give such a file"
    )
