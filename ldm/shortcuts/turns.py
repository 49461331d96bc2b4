"""The parts of guidance's batch one after the other: the memory of one, the time of all.

Shapes: B pictures, P parts of B rows each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import Any

from torch import Tensor, nn

from ldm.modules.attention_control.moments import Follower
from ldm.offload.rows import in_rows
from ldm.wrapping import Wrapping


@contextmanager
def in_turn(model: nn.Module) -> Iterator[None]:
    """Let a model compute each part of its walks' batches by itself inside the block.

    Who reads rows (adapters, attention control) learns which ones each call holds.

    Args:
        model: The hub.
    """
    follower, wrapping = Follower(model), Wrapping()

    def apply(own: Callable, x: Tensor, t: Tensor, cond: Any, *rest: Any, **given: Any) -> Tensor:
        """Call the model for rows x (P B, C, h, w), part by part."""
        parts = [len(list(rows)) for _, rows in groupby(follower.rows(len(x)), lambda r: r.part)]
        rows = parts[0] if len(set(parts)) == 1 else None

        def call(x: Tensor, t: Tensor, cond: Any) -> Tensor:
            return own(x, t, cond, *rest, **given)

        return in_rows(call, rows, x, t, cond)

    follower.follow()
    wrapping.put(model, "apply_model", apply)
    try:
        yield
    finally:
        wrapping.undo()
        follower.leave()
