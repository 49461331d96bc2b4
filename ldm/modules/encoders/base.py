"""Base class of the conditioners, and helpers that they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class AbstractEncoder(nn.Module):
    """Base of the conditioners: ``encode`` returns what the model's ``apply_model`` takes."""

    def __init__(self) -> None:
        super().__init__()

    def encode(self, *args: Any, **kwargs: Any) -> Tensor:
        """Encode a batch of conditions."""
        raise NotImplementedError(f"{type(self).__name__} must define encode")


def place(module: nn.Module, device: str | torch.device | None) -> None:
    """Move a conditioner's weights, unless ``device`` is None or they are on the meta device."""
    if device is not None and not any(p.is_meta for p in module.parameters()):
        module.to(device)


def freeze(module: nn.Module) -> None:
    """Put a module in evaluation mode and stop its gradients."""
    module.eval().requires_grad_(False)


def as_batch(text: str | Sequence[str]) -> list[str]:
    """Return prompts as a list; one string is a batch of one."""
    return [text] if isinstance(text, str) else list(text)
