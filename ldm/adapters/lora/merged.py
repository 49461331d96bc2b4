"""Weights with changes merged into them, and the way back to the tensors that stood there before.

Changes are sums over the original weight, so they join and leave in any order. Joining adds one
change to what stands there. Leaving, and another strength, sum up the rest anew from the original,
so that nothing of what left remains. When the last one leaves, the original tensor object itself
is put back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ldm.errors import UserError


class Share(NamedTuple):
    """What one adapter adds to a weight.

    Attributes:
        change: From the original weight to its change, for these rows, at strength 1.
        rows: Rows that are changed; None for all.
    """

    change: Callable[[Tensor], Tensor]
    rows: slice | None


class _Merged:
    """A weight of a layer with adapters in it."""

    def __init__(self, module: nn.Module, entry: str) -> None:
        self.module, self.entry = module, entry
        self.original = module._parameters[entry]
        self.shares: dict[Any, tuple[Sequence[Share], float]] = {}

    @property
    def current(self) -> Tensor:
        return self.module._parameters[self.entry]

    def put(self, owner: Any, shares: Sequence[Share], strength: float) -> None:
        """Merge an adapter, or change how strongly it is merged."""
        known = owner in self.shares
        self.shares[owner] = shares, strength
        base = self._base()
        if known or len(self.shares) == 1:
            self._sum(base)
        else:
            self._show(self._added(_wide(self.current), base, shares, strength))

    def remove(self, owner: Any) -> None:
        """Take an adapter out."""
        del self.shares[owner]
        if self.shares:
            self._sum(self._base())
            return
        self.original.data = self._base()
        self.module._parameters[self.entry] = self.original

    def _base(self) -> Tensor:
        """Return the original weight where the model is now: it may have moved meanwhile."""
        return self.original.data.to(self.current.device, self.current.dtype)

    def _sum(self, base: Tensor) -> None:
        total = _wide(base)
        for shares, strength in self.shares.values():
            total = self._added(total, base, shares, strength)
        self._show(total)

    def _added(
        self, total: Tensor, base: Tensor, shares: Sequence[Share], strength: float
    ) -> Tensor:
        total = total.clone()
        for change, rows in shares:
            part = slice(None) if rows is None else rows
            if strength:
                total[part] += strength * change(base[part]).to(total)
        return total

    def _show(self, total: Tensor) -> None:
        value = nn.Parameter(total.to(self.current.dtype), requires_grad=False)
        self.module._parameters[self.entry] = value


_MERGED: dict[tuple[int, str], _Merged] = {}
"""Every weight with adapters in it, by its layer's identity; the layer is kept alive by it."""


def original_of(module: nn.Module, entry: str) -> Tensor:
    """Return a layer's weight without what is merged into it."""
    found = _MERGED.get((id(module), entry))
    return module._parameters[entry] if found is None else found.original


@torch.no_grad()
def merge_into(
    module: nn.Module, entry: str, owner: Any, shares: Sequence[Share], strength: float
) -> None:
    """Merge an adapter's shares into a weight, in float32, or change their strength.

    Raises:
        UserError: The weight has no values yet.
    """
    if module._parameters[entry].is_meta:
        raise UserError(
            "an adapter cannot be merged into weights on the meta device; expected a model with "
            "its weights; load them first, or attach the adapter without merging"
        )
    with torch.inference_mode(False):
        merged = _MERGED.get((id(module), entry))
        if merged is None:
            merged = _MERGED[id(module), entry] = _Merged(module, entry)
        merged.put(owner, shares, strength)


@torch.no_grad()
def take_out(module: nn.Module, entry: str, owner: Any) -> None:
    """Take an adapter out of a weight; does nothing if it is not in it."""
    merged = _MERGED.get((id(module), entry))
    if merged is None or owner not in merged.shares:
        return
    with torch.inference_mode(False):
        merged.remove(owner)
    if not merged.shares:
        del _MERGED[id(module), entry]


def _wide(value: Tensor) -> Tensor:
    return value.detach().to(torch.promote_types(value.dtype, torch.float32))
