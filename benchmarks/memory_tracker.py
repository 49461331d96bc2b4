"""Count the bytes of living tensors by device while any torch code runs.

Nothing is asked of an allocator: each operation's results are weighed by their storages, and a
storage leaves the count when Python and torch have let go of it. So it works for real tensors and
for fake ones, which have a device and a size but no memory. What a kernel takes for itself and
gives back before it returns is not seen.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# CUDA's allocator hands out multiples of this many bytes, and counts them.
GRANULE = 512
_COPIES = {torch.ops.aten._to_copy.default: 0, torch.ops.aten.copy_.default: 1}


@dataclass
class Phase:
    """What was seen during a part of a run, by type of device.

    Attributes:
        peak: Most bytes that lived at once.
        moved: Bytes copied, by (from, to).
    """

    peak: Counter[str] = field(default_factory=Counter)
    moved: Counter[tuple[str, str]] = field(default_factory=Counter)


class MemoryTracker(TorchDispatchMode):
    """Counts living bytes inside its ``with`` block.

    Attributes:
        live: Bytes that live now, by type of device.
        phases: What each phase saw, by name, in order.

    Example:
        >>> with MemoryTracker() as tracker, tracker.phase("sum"):
        ...     _ = (torch.ones(1000) + torch.ones(1000)).sum()
        >>> tracker.phases["sum"].peak["cpu"] // 4096  # three vectors at once, then the sum
        3
    """

    def __init__(self) -> None:
        super().__init__()
        self.live: Counter[str] = Counter()
        self.phases: dict[str, Phase] = {}
        self._current = Phase()
        self._known: dict[int, tuple[weakref.ref, str, int]] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[Phase]:
        """Note what happens inside under ``name``; a name may come again."""
        before, self._current = self._current, self.phases.setdefault(name, Phase())
        for kind, amount in self.live.items():
            self._current.peak[kind] = max(self._current.peak[kind], amount)
        try:
            yield self._current
        finally:
            self._current = before

    def count(self, tensors: Iterable[Tensor]) -> None:
        """Count tensors that were made before."""
        for tensor in tensors:
            self._weigh(tensor)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Run one operation and weigh what came out."""
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._weigh(leaf)
        if func in _COPIES:
            self._note_copy(args[_COPIES[func]], result)
        return result

    def _note_copy(self, source: Tensor, target: Tensor) -> None:
        between = source.device.type, target.device.type
        if len({*between, "meta"}) == 3:
            moved = target.numel() * target.itemsize
            self._current.moved[between] += moved

    def _weigh(self, tensor: Tensor) -> None:
        """Add a tensor's storage to the count, unless it is in it; follow a change of size."""
        storage, kind = tensor.untyped_storage(), tensor.device.type
        if kind == "meta":  # a device for sizes: nothing is held there
            return
        key, size = storage._cdata, -(-storage.nbytes() // GRANULE) * GRANULE
        _, _, counted = self._known.get(key, (None, kind, 0))
        if key not in self._known or counted != size:
            release = weakref.ref(storage, lambda _, key=key: self._forget(key))
            self._known[key] = (release, kind, size)
            self.live[kind] += size - counted
            self._current.peak[kind] = max(self._current.peak[kind], self.live[kind])

    def _forget(self, key: int) -> None:
        _, kind, size = self._known.pop(key)
        self.live[kind] -= size
