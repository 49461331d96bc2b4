"""Call a model for several pictures at once only where each gets the bits of a call of its own.

A processor's libraries choose by the shape of a batch in which order they add; the last bits of a
picture then depend on who else is drawn. Whether they do is measured, not assumed: the first time
that a batch of some shape comes, it is computed in several ways, and the first one that gives the
bits of the pictures alone serves for that shape from then on:

    at once  ->  at once, but layers that are products of matrices picture by picture  ->  halves

Shapes: B pictures, P parts of B rows each, such as [uncond, cond].
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ldm.modules.attention_control.moments import Follower, rows_in_turn
from ldm.pipelines.joined import form_of
from ldm.process.stepwise_guidance import mapped
from ldm.wrapping import Wrapping

Pictures = Sequence[list[int]]
"""The numbers of each picture's rows, one for each part."""
Way = Literal["at once", "by layer", "halves"]
Known = MutableMapping[Hashable, Way]
"""By the shape of a batch, the first way that changes no bit of a picture."""


class Alike:
    """Stands in for a model's ``apply_model``.

    Args:
        follower: Knows what the rows stand for.
        layers: What can be computed picture by picture.
        known: What was found out before; more is added.
    """

    def __init__(self, follower: Follower, layers: LayersByPicture, known: Known) -> None:
        self._follower, self._layers, self._known = follower, layers, known
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
        """Compute some of the pictures in the way that is known, or find it."""
        if len(pictures) == 1:
            return call(pictures)
        key = len(pictures), len(pictures[0]), form_of(like), torch.get_num_threads()
        way = self._known.get(key)
        if way is None:
            return self._find(call, pictures, key)
        if way != "halves":
            return self._in_one(call, pictures, way)
        middle = (len(pictures) + 1) // 2
        halves = pictures[:middle], pictures[middle:]
        return _put_together([self._some(call, half, like) for half in halves], len(pictures[0]))

    def _find(
        self, call: Callable[[Pictures], Tensor], pictures: Pictures, key: Hashable
    ) -> Tensor:
        """Compute pictures alone, having taken note of the first way that gives the same bits."""
        ways: list[Way] = ["at once", *(["by layer"] if self._layers else [])]
        found = [self._in_one(call, pictures, way) for way in ways]
        alone = _put_together([call([each]) for each in pictures], len(pictures[0]))
        equal = (way for way, each in zip(ways, found, strict=True) if torch.equal(each, alone))
        self._known[key] = next(equal, "halves")
        return alone

    def _in_one(self, call: Callable[[Pictures], Tensor], pictures: Pictures, way: Way) -> Tensor:
        if way == "at once":
            return call(pictures)
        with self._layers.by_picture(len(pictures)):
            return call(pictures)

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


class LayersByPicture:
    """Linear layers and 1x1 convolutions that can be computed picture by picture.

    They are products of matrices, whose libraries choose by the number of all rows. Layers that
    somebody else computes, such as packed ones, are left to him.

    Args:
        network: Whose layers.
    """

    def __init__(self, network: nn.Module) -> None:
        self._layers = [each for each in network.modules() if _is_product(each)]
        self._wrapping = Wrapping()

    def __len__(self) -> int:
        return len(self._layers)

    @contextmanager
    def by_picture(self, pictures: int) -> Iterator[None]:
        """Compute them so inside the block, where rows are parts of ``pictures`` rows each."""
        for layer in self._layers:
            self._wrapping.put(layer, "forward", partial(_by_picture, pictures))
        try:
            yield
        finally:
            self._wrapping.undo()


def _is_product(layer: nn.Module) -> bool:
    if "forward" in vars(layer):
        return False
    point = type(layer) is nn.Conv2d and layer.kernel_size == (1, 1)
    return point or type(layer) is nn.Linear


def _by_picture(pictures: int, own: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Compute a layer of rows x (P B, ...) for one picture's P rows after the other's."""
    if len(x) % pictures:
        return own(x)
    # Cloned, they lie in memory in the order that rows of the picture alone would have.
    made = [own(x[picture::pictures].clone()) for picture in range(pictures)]
    return torch.stack(made, dim=1).flatten(0, 1)  # (P, B, ...) -> (P B, ...)


@contextmanager
def alike(model: nn.Module, known: Known) -> Iterator[None]:
    """Let a model give each picture of a walk the bits of a walk of its own inside the block.

    Args:
        model: The hub.
        known: What was found out before for this model and its arithmetic; more is added.
    """
    follower, wrapping = Follower(model), Wrapping()
    follower.follow()
    layers = LayersByPicture(getattr(model, "model", model))
    wrapping.put(model, "apply_model", Alike(follower, layers, known))
    try:
        yield
    finally:
        wrapping.undo()
        follower.leave()
