"""Call a model for several pictures at once only where each gets the bits of a call of its own.

A processor's libraries choose by the shape of a batch in which order they add; the last bits of a
picture then depend on who else is drawn. Whether they do is measured, not assumed: the first time
that a batch of some shape comes, it is computed both ways. If all bits are equal, batches of that
shape are computed at once from then on; if not, in halves, of which the same is asked.

Shapes: B pictures, P parts of B rows each, such as [uncond, cond].
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ldm.modules.attention_control.moments import Follower, rows_in_turn
from ldm.pipelines.joined import form_of
from ldm.process.stepwise_guidance import mapped
from ldm.wrapping import Wrapping

Pictures = Sequence[list[int]]
"""The numbers of each picture's rows, one for each part."""


class Alike:
    """Stands in for a model's ``apply_model``.

    Args:
        follower: Knows what the rows stand for.
        known: By the shape of a batch, whether its pictures have the bits that they have alone.
    """

    def __init__(self, follower: Follower, known: MutableMapping[Hashable, bool]) -> None:
        self._follower, self._known = follower, known
        self._cut: tuple[Any, dict[tuple[int, ...], Any]] = None, {}

    def __call__(self, own: Callable, x: Tensor, t: Tensor, cond: Any) -> Tensor:
        """Call the model for rows x (P B, C, h, w)."""
        pictures: dict[int, list[int]] = {}
        for number, row in enumerate(self._follower.rows(len(x))):
            pictures.setdefault(row.picture, []).append(number)
        if self._cut[0] is not cond:
            self._cut = cond, {}
        return self._some(partial(self._part, own, x, t, cond), [*pictures.values()], (x, cond, t))

    def _some(
        self, call: Callable[[Pictures], Tensor], pictures: Pictures, like: tuple[Any, ...]
    ) -> Tensor:
        """Compute some of the pictures: at once, in halves, or both at once and alone."""
        if len(pictures) == 1:
            return call(pictures)
        key = len(pictures), len(pictures[0]), form_of(like), torch.get_num_threads()
        equal = self._known.get(key)
        if equal:
            return call(pictures)
        if equal is None:
            whole, parts = call(pictures), [[each] for each in pictures]
        else:
            middle = (len(pictures) + 1) // 2
            parts = [pictures[:middle], pictures[middle:]]
        found = _put_together([self._some(call, part, like) for part in parts], len(pictures[0]))
        if equal is None:
            self._known[key] = torch.equal(whole, found)
        return found

    def _part(self, own: Callable, x: Tensor, t: Tensor, cond: Any, pictures: Pictures) -> Tensor:
        """Call the model for the rows of some pictures."""
        rows = [row for part in zip(*pictures, strict=True) for row in part]
        total, cut = len(x), self._cut[1]
        if rows == [*range(total)]:
            return own(x, t, cond)
        if tuple(rows) not in cut:  # the same for all steps that are given the same
            cut[tuple(rows)] = mapped(lambda c: c[rows] if len(c) == total else c, cond)
        with rows_in_turn(rows, total):
            return own(x[rows], t[rows], cut[tuple(rows)])


def _put_together(found: Sequence[Tensor], parts: int) -> Tensor:
    """Return rows of P parts from results for some pictures each, part by part."""
    cut = [each.chunk(parts) for each in found]
    return torch.cat([each[part] for part in range(parts) for each in cut])


@contextmanager
def alike(model: nn.Module, known: MutableMapping[Hashable, bool]) -> Iterator[None]:
    """Let a model give each picture of a walk the bits of a walk of its own inside the block.

    Args:
        model: The hub.
        known: What was found out before for this model and its arithmetic; more is added.
    """
    follower, wrapping = Follower(model), Wrapping()
    follower.follow()
    wrapping.put(model, "apply_model", Alike(follower, known))
    try:
        yield
    finally:
        wrapping.undo()
        follower.leave()
