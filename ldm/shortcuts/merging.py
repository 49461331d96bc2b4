"""Token merging in a UNet's largest self-attention: arXiv:2303.17604, section 4.

Shapes: b rows of a call, N = h w tokens of a layer, C their width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ldm.adapters.handle import require_unet
from ldm.errors import UserError
from ldm.modules.attention import CrossAttention
from ldm.modules.attention_control.moments import Follower
from ldm.modules.attention_control.sites import Site, sites_of
from ldm.process.token_merging import match
from ldm.wrapping import Wrapping

_STRIDES = (1_000_003, 1_009)
"""Calls and layers of a run have generators of their own: seed + call * 1000003 + layer * 1009."""


class TokenMerging:
    """Merges tokens before layers of self-attention, and parts them behind.

    Which tokens are destinations depends on the seed, the step and the layer alone: neither the
    batch nor the run's own random numbers matter, nor are the latter touched.

    Args:
        model: The hub.
        ratio: The share of tokens that is merged; 0 merges none.
        seed: Of the choice of destinations.

    Attributes:
        layers: The names of the layers.

    Raises:
        UserError: The UNet has no layer of self-attention over tokens.
    """

    def __init__(self, model: nn.Module, ratio: float, seed: int) -> None:
        self.unet, self.ratio, self.seed = require_unet(model), ratio, seed
        self.follower, self._wrapping = Follower(model), Wrapping()
        self._latent = (0, 0)
        sites = largest(self.unet)
        self.layers = [site.path for site in sites]
        for site, layer in sites.items():
            self._wrapping.put(layer, "forward", partial(self._attend, site))
        first = self.unet.input_blocks[0]
        self._hook = first.register_forward_pre_hook(self._see_latent)
        self.follower.follow()

    def detach(self) -> None:
        """Give the layers back as they were."""
        self.follower.leave()
        self._hook.remove()
        self._wrapping.undo()

    def _see_latent(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:  # noqa: ARG002
        self._latent = tuple(inputs[0].shape[-2:])

    def _attend(
        self, site: Site, own: Callable, x: Tensor, context: Tensor | None = None, **given: Any
    ) -> Tensor:
        """Attend from tokens x (b, N, C) to themselves; to a context as without merging."""
        side = tuple(-(-latent // site.rate) for latent in self._latent)
        if context is not None or self.ratio == 0 or side[0] * side[1] != x.shape[1]:
            return own(x, context=context, **given)
        matching = match(x, side, self.ratio, self._generator(site))
        return matching.unmerge(own(matching.merge(x), **given))

    def _generator(self, site: Site) -> torch.Generator:
        moment = self.follower.moment
        call = 2 * (moment.number or 0) + moment.evaluation
        by_call, by_layer = _STRIDES
        seed = self.seed + call * by_call + site.number * by_layer
        return torch.Generator().manual_seed(seed % 2**63)


def largest(unet: nn.Module) -> dict[Site, CrossAttention]:
    """Return a UNet's layers of self-attention that have the most tokens.

    Raises:
        UserError: There is none over tokens.
    """
    found = {
        site: layer
        for site, layer in sites_of(unet).items()
        if site.kind == "self" and isinstance(layer, CrossAttention)
    }
    if not found:
        raise UserError(
            f"--merge_tokens was given for a {type(unet).__name__} without self-attention over "
            "tokens; expected transformer blocks, as Stable Diffusion has; leave it out"
        )
    rate = min(site.rate for site in found)
    return {site: layer for site, layer in found.items() if site.rate == rate}


@contextmanager
def merging(model: nn.Module, ratio: float, seed: int) -> Iterator[TokenMerging]:
    """Let a model merge tokens inside the block; see ``TokenMerging``."""
    merged = TokenMerging(model, ratio, seed)
    try:
        yield merged
    finally:
        merged.detach()
