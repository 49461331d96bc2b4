"""A processor that divides by the host's numbers as another device does."""

from __future__ import annotations

import torch
from torch.overrides import TorchFunctionMode

from ldm.kernels.division import Division


class Dividing(TorchFunctionMode):
    """Divide tensors by numbers in a way of ``ldm.kernels.division`` inside a ``with`` block."""

    def __init__(self, way: Division) -> None:
        super().__init__()
        self.way = way

    def __torch_function__(self, func, types, args=(), kwargs=None):  # noqa: ARG002
        if func is torch.Tensor.div and args[0].ndim and not getattr(args[1], "ndim", 0):
            return self.way.does(args[0], torch.tensor(self.way.number(float(args[1]))))
        return func(*args, **(kwargs or {}))
