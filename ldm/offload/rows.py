"""Process a batch a few rows at a time: the same result with less memory.

Shapes: B batch; every tensor with B rows is cut, whatever its other sides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from ldm.modules.attention_control.moments import rows_in_turn


def in_rows(function: Callable[..., Any], rows: int | None, x: Tensor, *args: Any) -> Any:
    """Return ``function(x, *args)``, computed ``rows`` rows at a time.

    Args:
        function: Treats rows independently; returns a tensor, or a list or tuple of tensors, maybe
            nested.
        rows: Rows at a time; None for all.
        x: The batch (B, ...).
        *args: Further arguments; tensors of B rows, even inside lists and dicts, are cut with
            the batch.
    """
    total = x.shape[0]
    if rows is None or rows >= total:
        return function(x, *args)
    gathered = None
    for start in range(0, total, rows):
        part = slice(start, min(start + rows, total))
        given = [_cut(value, part, total) for value in (x, *args)]
        with rows_in_turn(range(total)[part], total):
            gathered = _gather(gathered, function(*given), part, total)
    return gathered


def _cut(value: Any, part: slice, total: int) -> Any:
    if isinstance(value, Mapping):
        return {key: _cut(item, part, total) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_cut(item, part, total) for item in value]
    rowed = isinstance(value, Tensor) and value.ndim > 0 and value.shape[0] == total
    return value[part] if rowed else value


def _gather(gathered: Any, result: Any, part: slice, total: int) -> Any:
    """Write a part of the result into the whole, which is allocated with the first part.

    Concatenating the parts at the end would hold them twice.
    """
    if not isinstance(result, Tensor):
        held = gathered or [None] * len(result)
        pairs = zip(held, result, strict=True)
        return type(result)(_gather(whole, item, part, total) for whole, item in pairs)
    if gathered is None:
        gathered = result.new_empty((total, *result.shape[1:]))
    gathered[part] = result
    return gathered
