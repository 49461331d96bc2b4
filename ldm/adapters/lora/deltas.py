"""The algebra of LoRA's family: how few numbers make the change of a weight.

Every kind changes a weight W (out, in, ...) by ``factor * change``, where ``change`` depends on the
original weight at most: so changes add up, in any order, whatever else is on the model.

    LowRank   up down                       LoRA, arXiv:2106.09685, Eq. 3; LoCon for convolutions
    Hadamard  (w1_a w1_b) * (w2_a w2_b)     LoHa, arXiv:2108.06098, Eq. 2
    Kronecker w1 (x) w2                     LoKr, arXiv:2309.14859, Eq. 4
    Full      the change itself
    Scaling   w * W, by column or by row    IA3, arXiv:2205.05638, Section 3.3
    Decomposed m (W + D) / |W + D| - W      DoRA, arXiv:2402.09353, Eq. 5, with D of another kind

``t`` are a delta's tensors where they are computed with: on the weight's or the input's device.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm.adapters.lora.places import Place

Tensors = Mapping[str, Tensor]


class Delta(ABC):
    """The change of one weight.

    Args:
        tensors: By the names of LyCORIS, LoRA's as ``down``, ``up``, ``mid``.
        factor: What the change is multiplied by: alpha / rank.

    Attributes:
        kind: What it is called.
        roles: The names of its tensors, for every complete set.
        follows_input: Whether it computes in the input's precision; else at least in float32.
        needs_weight: Whether it depends on the original weight; else that may be None.
    """

    kind: ClassVar[str]
    roles: ClassVar[tuple[frozenset[str], ...]]
    follows_input: ClassVar[bool] = False
    needs_weight: ClassVar[bool] = False

    def __init__(self, tensors: Tensors, factor: float = 1.0) -> None:
        self.tensors, self.factor = dict(tensors), factor

    @abstractmethod
    def change(self, t: Tensors, weight: Tensor | None, shape: tuple[int, ...]) -> Tensor:
        """Return the change of a weight, ``factor`` included, in float32 or better.

        Args:
            t: The tensors.
            weight: The original weight, on the same device.
            shape: The weight's.
        """

    def run(self, t: Tensors, place: Place, weight: Tensor | None, x: Tensor) -> Tensor:
        """Return by how much the layer's output changes for an input ``x``."""
        with torch.autocast(x.device.type, enabled=False):
            change = self.change(t, weight, place.shape)
        return place.run(x, change.to(x.dtype))

    @property
    def rank(self) -> int | None:
        """The rank, if there is one."""
        return None

    def size(self) -> int:
        """Return how many numbers the change has.

        Raises:
            RuntimeError: The tensors' shapes do not go together.
        """
        t = {name: value.to("meta") for name, value in self.tensors.items()}
        return self._product(t).numel()

    def _product(self, t: Tensors) -> Tensor:
        """Return the change without ``factor``; of any shape that has its order of numbers."""
        raise NotImplementedError

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Return whether a weight of this shape can be changed."""
        t = {name: value.to("meta") for name, value in self.tensors.items()}
        made = self._product(t)
        return made.numel() == torch.Size(shape).numel() and made.shape[0] == shape[0]


class _Product(Delta):
    """A change that does not depend on the weight."""

    def change(self, t: Tensors, weight: Tensor | None, shape: tuple[int, ...]) -> Tensor:  # noqa: ARG002
        return self._product(widened(t)).reshape(shape) * self.factor


class LowRank(_Product):
    """``up`` (out, r) times ``down`` (r, in), of convolutions (out, r, 1, 1) and (r, in, kh, kw).

    With ``mid`` (r, r, kh, kw), ``down`` is (r, in, 1, 1): the core of a Tucker decomposition.
    """

    kind = "LoRA"
    roles = (frozenset({"down", "up"}), frozenset({"down", "up", "mid"}))
    follows_input = True

    @property
    def rank(self) -> int:
        """The rank r."""
        return self.tensors["down"].shape[0]

    def _product(self, t: Tensors) -> Tensor:
        up, down = t["up"].flatten(1), t["down"]
        if "mid" in t:
            return torch.einsum("o r, r s h w, s i -> o i h w", up, t["mid"], down.flatten(1))
        return (up @ down.flatten(1)).reshape(up.shape[0], *down.shape[1:])

    def run(self, t: Tensors, place: Place, weight: Tensor | None, x: Tensor) -> Tensor:
        if not isinstance(place.module, (nn.Conv1d, nn.Conv2d)):
            if "mid" in t:
                return super().run(t, place, weight, x)
            return F.linear(F.linear(x, t["down"].flatten(1)), t["up"].flatten(1) * self.factor)
        kernel = place.shape[2:]
        ones = [1] * len(kernel)
        if "mid" in t:
            h = _pointwise(x, t["down"].flatten(1), ones)
            h = place.run(h, t["mid"])
        else:
            h = place.run(x, t["down"].reshape(self.rank, -1, *kernel))
        return _pointwise(h, t["up"].flatten(1) * self.factor, ones)


def _pointwise(x: Tensor, weight: Tensor, ones: list[int]) -> Tensor:
    convolve = F.conv1d if len(ones) == 1 else F.conv2d
    return convolve(x, weight.reshape(*weight.shape, *ones))


def _rebuilt(a: Tensor, b: Tensor, core: Tensor | None) -> Tensor:
    """Return a (out, r) b (r, in), or with a core (r, r, kh, kw), a (r, out) and b (r, in)."""
    if core is None:
        return a @ b.flatten(1)
    return torch.einsum("r s h w, s i, r o -> o i h w", core, b, a)


class Hadamard(_Product):
    """The product, entry by entry, of two matrices of low rank."""

    kind = "LoHa"
    _plain = frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"})
    roles = (_plain, _plain | {"hada_t1", "hada_t2"})

    @property
    def rank(self) -> int:
        """The rank of each factor."""
        return self.tensors["hada_w1_b"].shape[0]

    def _product(self, t: Tensors) -> Tensor:
        first, second = (
            _rebuilt(t[f"hada_w{n}_a"], t[f"hada_w{n}_b"], t.get(f"hada_t{n}")) for n in (1, 2)
        )
        if first.shape != second.shape:
            raise RuntimeError(f"factors of {tuple(first.shape)} and {tuple(second.shape)}")
        return first * second


def _kronecker_roles() -> tuple[frozenset[str], ...]:
    firsts = ({"lokr_w1"}, {"lokr_w1_a", "lokr_w1_b"})
    pair = {"lokr_w2_a", "lokr_w2_b"}
    return tuple(
        frozenset(first | second)
        for first in firsts
        for second in ({"lokr_w2"}, pair, pair | {"lokr_t2"})
    )


class Kronecker(_Product):
    """The Kronecker product of two matrices, each whole or of low rank."""

    kind = "LoKr"
    roles = _kronecker_roles()

    @property
    def rank(self) -> int | None:
        """The rank of the factor of low rank; None where both are whole."""
        low = [self.tensors[n].shape[0] for n in ("lokr_w2_b", "lokr_w1_b") if n in self.tensors]
        return low[0] if low else None

    def _product(self, t: Tensors) -> Tensor:
        w1 = t["lokr_w1"] if "lokr_w1" in t else t["lokr_w1_a"] @ t["lokr_w1_b"]
        w2 = t.get("lokr_w2")
        if w2 is None:
            w2 = _rebuilt(t["lokr_w2_a"], t["lokr_w2_b"], t.get("lokr_t2"))
        # A flattened kernel stays within its input channel: the numbers are in the same order.
        made = torch.kron(w1.reshape(*w1.shape, *[1] * (w2.ndim - 2)), w2.contiguous())
        return made.flatten(1)


class Full(_Product):
    """The whole change, of any shape."""

    kind = "full"
    roles = (frozenset({"diff"}),)

    def _product(self, t: Tensors) -> Tensor:
        return t["diff"]


class Scaling(Delta):
    """A factor for each input (column) or output (row) of a weight."""

    kind = "IA3"
    needs_weight = True
    roles = (frozenset({"ia3", "on_input"}),)

    def change(self, t: Tensors, weight: Tensor | None, shape: tuple[int, ...]) -> Tensor:
        t = widened(t)
        axis = [1] * len(shape)
        axis[self._axis] = -1
        return weight.reshape(shape).to(t["ia3"].dtype) * t["ia3"].reshape(axis) * self.factor

    @property
    def _axis(self) -> int:
        return 1 if bool(self.tensors["on_input"].any()) else 0

    def fits(self, shape: tuple[int, ...]) -> bool:
        return len(shape) > self._axis and self.tensors["ia3"].numel() == shape[self._axis]

    def _product(self, t: Tensors) -> Tensor:
        return t["ia3"]


class Decomposed(Delta):
    """A weight in polar form: its direction is changed by another delta, its length is given.

    Lengths are those of rows, ``dora_scale`` (out, 1, ...), or of columns, (1, in, 1, ...). The
    gradient does not go through the length in the denominator (arXiv:2402.09353, Section 4.3).
    """

    kind = "DoRA"
    roles = ()
    needs_weight = True

    def __init__(self, inner: Delta, magnitude: Tensor) -> None:
        super().__init__({**inner.tensors, "dora_scale": magnitude}, inner.factor)
        self.inner = inner

    @property
    def rank(self) -> int | None:
        """The inner delta's."""
        return self.inner.rank

    def change(self, t: Tensors, weight: Tensor | None, shape: tuple[int, ...]) -> Tensor:
        delta = self.inner.change(t, weight, shape)
        weight = weight.reshape(shape).to(delta.dtype)
        moved, axis = weight + delta, self._axis(shape)
        others = [n for n in range(len(shape)) if n != axis]
        length = torch.linalg.vector_norm(moved, dim=others, keepdim=True).detach()
        tiny = torch.finfo(moved.dtype).eps
        view = [1] * len(shape)
        view[axis] = -1
        return moved * (t["dora_scale"].to(moved.dtype).reshape(view) / (length + tiny)) - weight

    def _axis(self, shape: tuple[int, ...]) -> int:
        """Return 0 for lengths of rows, 1 of columns."""
        given = self.tensors["dora_scale"].shape
        return 1 if len(given) > 1 and len(shape) > 1 and given[0] == 1 < given[1] else 0

    def fits(self, shape: tuple[int, ...]) -> bool:
        count = self.tensors["dora_scale"].numel()
        return self.inner.fits(shape) and count == shape[self._axis(shape)]

    def size(self) -> int:
        return self.inner.size()

    def _product(self, t: Tensors) -> Tensor:
        return self.inner._product(t)


KINDS: tuple[type[Delta], ...] = (LowRank, Hadamard, Kronecker, Full, Scaling)


def widened(t: Tensors) -> dict[str, Tensor]:
    """Return tensors in float32, those of higher precision as they are."""
    return {name: v.to(torch.promote_types(v.dtype, torch.float32)) for name, v in t.items()}
