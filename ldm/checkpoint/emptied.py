"""Build a model whose constructor looks at its tensors' values, then free its weights."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import nn

logger = logging.getLogger(__name__)


def needs_values(error: Exception) -> bool:
    """Check whether a constructor failed because it was run on the meta device.

    Forks' do when they assert something of their schedule, or make Python numbers of a tensor.
    """
    words = ("meta tensor", "Meta tensors", "meta device", "device meta")  # not any quoted value
    return any(word in str(error) for word in words)


def build_then_empty(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a model on the CPU and move its parameters, not its buffers, to the meta device.

    Takes the model's memory for a moment; the global generator's state stays as it was.
    """
    logger.info("the model's constructor looks at values; it is built with its weights first")
    with torch.random.fork_rng(devices=[]):
        model = build()
    emptied: dict[nn.Parameter, nn.Parameter] = {}  # a shared parameter stays shared
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is None:
                continue
            if weight not in emptied:
                empty = torch.empty_like(weight, device="meta")
                emptied[weight] = nn.Parameter(empty, weight.requires_grad)
            module._parameters[name] = emptied[weight]
    return model
