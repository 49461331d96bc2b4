"""Count the bytes of tensors while code runs, on any device and on a pretended one."""

from __future__ import annotations

import weakref
from collections import Counter

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PeakBytes(TorchDispatchMode):
    """Counts tensors made inside its ``with`` block, by type of device.

    Attributes:
        live: Bytes that are held now.
        peak: Most bytes that were held at once.
    """

    def __init__(self):
        super().__init__()
        self.live, self.peak, self._known = Counter(), Counter(), weakref.WeakSet()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage() not in self._known:
                storage, device = tensor.untyped_storage(), tensor.device.type
                self._known.add(storage)
                self._add(device, storage.nbytes())
                weakref.finalize(storage, self._add, device, -storage.nbytes())
        return out

    def _add(self, device: str, count: int) -> None:
        self.live[device] += count
        self.peak[device] = max(self.peak[device], self.live[device])
