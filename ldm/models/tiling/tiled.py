"""Run the autoencoder in strips of rows: the same picture as in one piece, in bounded memory.

The autoencoder's layers run one after the other, each over all strips of the previous map, with
norms over the whole picture: see ``ldm.models.tiling.strips``. Gradients are not kept.

Shapes: B batch, C channels, h w latent sides, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm.errors import UserError
from ldm.models.first_stage import KLFirstStage
from ldm.models.tiling.strips import FeatureMap, Strips
from ldm.modules.diffusionmodules.coder_layers import coder_layers
from ldm.modules.diffusionmodules.model import (
    AttnBlock,
    Decoder,
    Downsample,
    Encoder,
    ResnetBlock,
    Upsample,
)
from ldm.modules.distributions.distributions import DiagonalGaussianDistribution

TABLE = 2**26
"""Queries x keys of attention at a time: the scores that a device without a fused kernel holds."""
UNITS = {Upsample: (1, 2), Downsample: (2, 1)}
"""Input rows and the output rows that they become, for layers that change the size."""


@torch.no_grad()
def decode_in_tiles(first_stage: KLFirstStage, z: Tensor, *, rows: int | None = None) -> Tensor:
    """Decode as ``first_stage.decode`` does, strip by strip.

    Args:
        first_stage: On the device of ``z``; not modified.
        z: Latents (B, C, h, w), as for ``decode``; decoded one after the other.
        rows: Rows of a strip without its halo, in every layer; None chooses by memory.

    Returns:
        Pictures (B, 3, H, W) on the device of ``z``, about [-1, 1], unclamped: equal to those of
        ``decode`` up to rounding.

    Raises:
        UserError: The first stage overrides the method, or ``rows`` is below 1.
    """
    _check(first_stage, "decode", rows)
    decoder, strips = first_stage.decoder, Strips(z.device, rows)
    last = torch.tanh if decoder.tanh_out else nn.Identity()
    pictures = []
    for latent in first_stage.post_quant_conv(z).split(1):
        h = _walk(decoder, latent, strips)
        h = h.values.to(z.device) if decoder.give_pre_end else _head(decoder, h, strips, last)
        pictures.append(h.contiguous())
    return torch.cat(pictures)


@torch.no_grad()
def encode_in_tiles(
    first_stage: KLFirstStage, x: Tensor, *, rows: int | None = None
) -> DiagonalGaussianDistribution:
    """Encode as ``first_stage.encode`` does, strip by strip.

    Args:
        first_stage: On the device of ``x``; not modified.
        x: Pictures (B, 3, H, W) in [-1, 1]; encoded one after the other.
        rows: See ``decode_in_tiles``.

    Returns:
        The distribution over latents (B, C, h, w), equal to that of ``encode`` up to rounding.

    Raises:
        UserError: As ``decode_in_tiles``.
    """
    _check(first_stage, "encode", rows)
    encoder, strips = first_stage.encoder, Strips(x.device, rows)
    moments = [
        _head(encoder, _walk(encoder, picture, strips), strips, nn.Identity()).contiguous()
        for picture in x.split(1)
    ]
    return DiagonalGaussianDistribution(first_stage.quant_conv(torch.cat(moments)))


def _check(first_stage: KLFirstStage, method: str, rows: int | None) -> None:
    if rows is not None and rows < 1:
        raise UserError(f"strips of {rows} rows given; expected 1 or more, or None to choose")
    kind = type(first_stage)
    if getattr(kind, method, None) is not getattr(KLFirstStage, method):
        raise UserError(
            f"first stage {kind.__name__} given; only an AutoencoderKL can {method} in tiles; "
            f"{method} in one piece"
        )


def _walk(half: Encoder | Decoder, x: Tensor, strips: Strips) -> FeatureMap:
    """Run one picture (1, C, H, W) through all layers before the last norm."""
    h = FeatureMap(x)
    for layer in coder_layers(half):
        if isinstance(layer, ResnetBlock):
            h = _residual(layer, h, strips)
        elif isinstance(layer, AttnBlock) and hasattr(layer, "attend"):
            h = _attention(layer, h, strips)
        elif isinstance(layer, (nn.Conv2d, Upsample, Downsample)):
            channels = getattr(layer, "out_channels", h.values.shape[1])
            h = strips.run(layer, h, channels=channels, unit=UNITS.get(type(layer), (1, 1)))
        elif not isinstance(layer, nn.Identity):
            h = _whole(layer, h, strips)
    return h


def _residual(block: ResnetBlock, x: FeatureMap, strips: Strips) -> FeatureMap:
    channels = block.conv1.out_channels
    norm1 = x.normaliser(block.norm1)
    h = strips.run(lambda s: block.conv1(_silu(norm1(s))), x, channels=channels)
    norm2 = h.normaliser(block.norm2)
    # By its parts, which the reference's block has too.
    layers = (getattr(block, name, None) for name in ("conv_shortcut", "nin_shortcut"))
    shortcut = next((layer for layer in layers if layer is not None), nn.Identity())
    return strips.run(
        lambda s, before: shortcut(before) + block.conv2(block.dropout(_silu(norm2(s)))),
        h,
        x,
        channels=channels,
    )


def _attention(block: AttnBlock, x: FeatureMap, strips: Strips) -> FeatureMap:
    """Attend from strips of the map to the keys and values of the whole map."""
    _, channels, height, width = x.values.shape
    norm = x.normaliser(block.norm)

    def project(layer: nn.Module) -> Tensor:
        return strips.run(lambda s: layer(norm(s)), x, channels=channels, halo=0, stay=True).values

    k, v = project(block.k), project(block.v)
    return strips.run(
        lambda s: s + block.attend(block.q(norm(s)), k, v),
        x,
        channels=channels,
        halo=0,
        most=max(1, TABLE // (height * width * width)),
    )


def _whole(layer: nn.Module, x: FeatureMap, strips: Strips) -> FeatureMap:
    """Run a layer in one piece: linear attention, or that of another project's file."""
    out = FeatureMap(layer(x.values.to(strips.device)))
    out.observe(out.values)
    return out


def _head(
    half: Encoder | Decoder,
    x: FeatureMap,
    strips: Strips,
    last: Callable[[Tensor], Tensor],
) -> Tensor:
    """Run the last norm and convolution, and ``last`` after them; stay on the device."""
    norm, conv = x.normaliser(half.norm_out), half.conv_out
    return strips.run(
        lambda s: last(conv(_silu(norm(s)))), x, channels=conv.out_channels, stay=True
    ).values


def _silu(x: Tensor) -> Tensor:
    return F.silu(x, inplace=True)  # x is a norm's output, which nothing else uses
