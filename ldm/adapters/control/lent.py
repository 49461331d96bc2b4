"""A network beside the model: where the walk computes while it lasts, at home in between.

What is lent is a copy. At home the weights stay what they were, such as a mapped file's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Lent:
    """A network whose weights follow a walk's device and precision.

    Args:
        network: In evaluation mode, on the host.

    Attributes:
        network: The network.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._entries = [
            (entries, name)
            for module in network.modules()
            for entries in (module._parameters, module._buffers)
            for name, tensor in entries.items()
            if tensor is not None
        ]
        self._home = [entries[name] for entries, name in self._entries]
        self._device = torch.device("cpu")

    def to(self, device: torch.device, dtype: torch.dtype) -> nn.Module:
        """Return the network where x is.

        Another precision is taken at home, once, so that not every walk converts the weights.
        """
        if any(each.is_floating_point() and each.dtype != dtype for each in self._home):
            self.go_home()
            self._home = [self._copied(each, dtype=dtype) for each in self._home]
            self._show(self._home)
        if device != self._device:
            self._show(self._home if device.type == "cpu" else self._on(device))
            self._device = device
        return self.network

    def go_home(self) -> None:
        """Free the device; nothing is copied back."""
        if self._device.type != "cpu":
            self._show(self._home)
            self._device = torch.device("cpu")

    def _on(self, device: torch.device) -> list[Tensor]:
        return [self._copied(each, device=device) for each in self._home]

    def _copied(self, tensor: Tensor, **where: torch.device | torch.dtype) -> Tensor:
        # Memory from inference mode could not be used for anything else later.
        with torch.inference_mode(False), torch.no_grad():
            if not tensor.is_floating_point():
                where.pop("dtype", None)
            copy = tensor.to(**where)
            return nn.Parameter(copy, requires_grad=False) if _is_weight(tensor) else copy

    def _show(self, tensors: list[Tensor]) -> None:
        for (entries, name), tensor in zip(self._entries, tensors, strict=True):
            entries[name] = tensor


def _is_weight(tensor: Tensor) -> bool:
    return isinstance(tensor, nn.Parameter)
