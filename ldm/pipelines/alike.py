"""Call a model for several pictures at once only where each gets the bits of a call of its own.

A processor's libraries choose by the shape of a batch in which order they add; the last bits of a
picture then depend on who else is drawn. Whether they do is measured, not assumed: the first time
that a batch of some shape comes, it is computed both ways. If all bits are equal, batches of that
shape are computed at once from then on; if not, picture by picture.

Shapes: B pictures, P parts of B rows each, such as [uncond, cond].
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ldm.modules.attention_control.moments import Follower, rows_in_turn
from ldm.pipelines.joined import form_of
from ldm.process.stepwise_guidance import mapped
from ldm.wrapping import Wrapping


class Alike:
    """Stands in for a model's ``apply_model``.

    Args:
        follower: Knows what the rows stand for.
        known: By the shape of a batch, whether its pictures have the bits that they have alone.
    """

    def __init__(self, follower: Follower, known: MutableMapping[Hashable, bool]) -> None:
        self._follower, self._known = follower, known
        self._cut: tuple[Any, list[Any]] = None, []

    def __call__(self, own: Callable, x: Tensor, t: Tensor, cond: Any) -> Tensor:
        """Call the model for rows x (P B, C, h, w)."""
        pictures: dict[int, list[int]] = {}
        for number, row in enumerate(self._follower.rows(len(x))):
            pictures.setdefault(row.picture, []).append(number)
        if len(pictures) == 1:
            return own(x, t, cond)
        key = len(x), len(pictures), form_of([x, cond]), t.dtype, torch.get_num_threads()
        if self._known.get(key):
            return own(x, t, cond)
        whole = None if key in self._known else own(x, t, cond)
        alone = self._one_by_one(own, x, t, cond, list(pictures.values()))
        if whole is not None:
            self._known[key] = torch.equal(whole, alone)
        return alone

    def _one_by_one(
        self, own: Callable, x: Tensor, t: Tensor, cond: Any, pictures: Sequence[list[int]]
    ) -> Tensor:
        out = torch.empty_like(x)
        for rows, part in zip(pictures, self._parts(cond, len(x), pictures), strict=True):
            with rows_in_turn(rows, len(x)):
                out[rows] = own(x[rows], t[rows], part)
        return out

    def _parts(self, cond: Any, total: int, pictures: Sequence[list[int]]) -> list[Any]:
        """Return each picture's conditioning, cut once for all steps that are given the same."""
        if self._cut[0] is not cond:
            cut = [
                mapped(lambda c, r=rows: c[r] if len(c) == total else c, cond) for rows in pictures
            ]
            self._cut = cond, cut
        return self._cut[1]


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
