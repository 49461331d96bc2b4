"""Count where a host would wait for a device, on a machine that has none.

Inside ``counted_waits()`` new tensors on ``DEVICE`` have a shape and no memory. The host waits when
it reads a number of such a tensor, and when it copies between the two sides from or to memory that
the copy may not use alone: torch then waits for the stream, whichever way the copy goes.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

DEVICE = torch.device("cuda", 0)


class Waits(TorchDispatchMode):
    """Attributes: ``found``, a line for each wait: the operation, and who asked for it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ARG002
        kwargs = kwargs or {}
        try:
            result = func(*args, **kwargs)
        except DataDependentOutputException:
            if args[0].device.type == "cpu":
                return 0  # the host's own number, which it has at once; here nobody knows it
            self._note(func)
            return 1
        third = func is torch.ops.aten.copy_.default and args[2:] == (True,)
        blocking = not (kwargs.get("non_blocking", False) or third)
        kinds = {
            leaf.device.type for leaf in tree_leaves((args, result)) if isinstance(leaf, Tensor)
        }
        copies = func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
        if copies and blocking and len(kinds) == 2:
            self._note(func)
        return result

    def _note(self, func) -> None:
        callers = [f for f in traceback.extract_stack() if "/ldm/" in f.filename]
        places = [f"{f.filename.rpartition('/ldm/')[2]}:{f.lineno}" for f in callers[-2:]]
        self.found.append(f"{func} at {', '.join(places)}")


class _Pinned(TorchFunctionMode):
    """Pinned memory, which fake tensors refuse without a driver."""

    def __torch_function__(self, func, types, args=(), kwargs=None):  # noqa: ARG002
        if func is Tensor.pin_memory:
            return args[0]
        return func(*args, **(kwargs or {}))


@contextmanager
def counted_waits() -> Iterator[Waits]:
    """Return a context with the device, which says afterwards where the host waited for it."""
    waits = Waits()
    with FakeTensorMode(allow_non_fake_inputs=True), _Pinned(), waits:
        yield waits
