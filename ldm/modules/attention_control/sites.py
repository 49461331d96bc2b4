"""The places in a UNet where attention is computed, in the order in which they compute.

Shapes: h w sides of a map; the latents' are h0 w0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from ldm.errors import UserError
from ldm.modules.attention import BasicTransformerBlock
from ldm.modules.attention_processors import AttentionLayer

Place = Literal["down", "mid", "up"]
Kind = Literal["cross", "self"]
_PLACES = {"input_blocks": "down", "middle_block": "mid", "output_blocks": "up"}
QUARTER = 4
"""What the paper edits at 512 pixels: maps of 16x16 where the latents are 64x64."""


@dataclass(frozen=True)
class Site:
    """One layer of attention.

    Attributes:
        path: Its name in the UNet's keys, ``input_blocks.1.1.transformer_blocks.0.attn2``.
        place: On the way down, in the middle or on the way up.
        kind: ``cross`` looks at the context, ``self`` at the map's own positions.
        number: Its place in the order in which layers compute, from 0.
        rate: How many times smaller than the latents' its map's sides are.
        side: The map's (h, w); (0, 0) where no call is under way.
        latent: The latents' (h0, w0), in the same way.
    """

    path: str
    place: Place
    kind: Kind
    number: int
    rate: int
    side: tuple[int, int] = (0, 0)
    latent: tuple[int, int] = (0, 0)


def sites_of(unet: nn.Module) -> dict[Site, AttentionLayer]:
    """Return a UNet's layers of attention by where they stand.

    Raises:
        UserError: It is not laid out as the reference's, or has no such layer.
    """
    missing = [name for name in _PLACES if not hasattr(unet, name)]
    if missing:
        raise UserError(
            f"a {type(unet).__name__} has no {', '.join(missing)}; attention control expects a UNet"
            " laid out as ldm's UNetModel; give such a model, or its hub"
        )
    kinds, sites = _kinds(unet), {}
    for block, name, rate in _blocks(unet):
        for inner, layer in block.named_modules(prefix=name):
            if isinstance(layer, AttentionLayer):
                place, kind = _PLACES[name.split(".")[0]], kinds.get(layer, "self")
                sites[Site(inner, place, kind, len(sites), rate)] = layer
    if not sites:
        raise UserError(
            f"the {type(unet).__name__} has no layer of attention that can be controlled; expected"
            " ldm's CrossAttention or AttentionBlock; give a model that has some"
        )
    return sites


def nearest_rate(sites: Any, wanted: int = QUARTER) -> int:
    """Return the rate outside the middle that is nearest to ``wanted``; the larger of two.

    Stable Diffusion has 1, 2 and 4 there; a smaller UNet may not have the paper's 4.
    """
    rates = {site.rate for site in sites if site.place != "mid"} or {site.rate for site in sites}
    return min(rates, key=lambda rate: (max(rate / wanted, wanted / rate), -rate))


def _kinds(unet: nn.Module) -> dict[nn.Module, Kind]:
    """Return which layers of the transformer blocks look at the context."""
    kinds: dict[nn.Module, Kind] = {}
    for block in unet.modules():
        if hasattr(block, "attn1") and hasattr(block, "attn2"):
            kinds[block.attn1] = "cross" if getattr(block, "disable_self_attn", False) else "self"
            kinds[block.attn2] = "cross"
    return kinds


def _blocks(unet: nn.Module) -> Iterator[tuple[nn.Module, str, int]]:
    """Yield each block with its name and the rate of the maps that its attention sees."""
    rate = 1
    for number, block in enumerate(unet.input_blocks):
        rate *= 2 if _resamples(block, "Downsample") else 1
        yield block, f"input_blocks.{number}", rate
    yield unet.middle_block, "middle_block", rate
    for number, block in enumerate(unet.output_blocks):
        yield block, f"output_blocks.{number}", rate  # a block doubles the sides at its end
        rate //= 2 if _resamples(block, "Upsample") else 1


def _resamples(block: nn.Module, name: str) -> bool:
    """Return whether a block changes the sides; by name, as forks bring classes of their own."""
    return any(type(module).__name__ == name for module in block.modules())


def recomputing(unet: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Yield the blocks that recompute their attention in the backward pass, and the flag's name."""
    for module in unet.modules():
        if isinstance(module, BasicTransformerBlock) and module.checkpoint:
            yield module, "checkpoint"
        elif isinstance(module, AttentionLayer) and getattr(module, "use_checkpoint", False):
            yield module, "use_checkpoint"
