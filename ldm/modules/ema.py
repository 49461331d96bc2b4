"""Exponential moving average of a module's weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class LitEma(nn.Module):
    """Keep a smoothed copy of every trainable parameter, in buffers named without dots.

    The decay warms up as min(decay, (1 + n) / (10 + n)) after n updates. The names are those of
    ``model_ema.*`` in checkpoints.

    Args:
        model: Module whose parameters are followed.
        decay: Share of the old average kept at each update, in [0, 1].
        use_num_upates: Warm the decay up (CompVis's spelling).

    Raises:
        ValueError: ``decay`` outside [0, 1].
    """

    def __init__(self, model: nn.Module, decay: float = 0.9999, use_num_upates: bool = True):
        super().__init__()
        if not 0.0 <= decay <= 1.0:
            raise ValueError(f"EMA decay {decay} given; expected a number from 0 to 1")
        # Explicit device: these two hold values even when weights are built on meta.
        self.register_buffer("decay", torch.tensor(decay, dtype=torch.float32, device="cpu"))
        start = 0 if use_num_upates else -1
        self.register_buffer("num_updates", torch.tensor(start, dtype=torch.int, device="cpu"))
        self.m_name2s_name = {
            name: name.replace(".", "") for name, p in model.named_parameters() if p.requires_grad
        }
        parameters = dict(model.named_parameters())
        for name, shadow in self.m_name2s_name.items():
            self.register_buffer(shadow, parameters[name].detach().clone())
        self.collected_params: list[Tensor] = []

    @torch.no_grad()
    def forward(self, model: nn.Module) -> None:
        """Move the averages towards the weights of ``model``."""
        decay = self.decay.item()
        if self.num_updates >= 0:
            self.num_updates += 1
            updates = self.num_updates.item()
            decay = min(decay, (1 + updates) / (10 + updates))
        parameters, shadows = dict(model.named_parameters()), dict(self.named_buffers())
        averages = [shadows[s] for s in self.m_name2s_name.values()]
        weights = [parameters[n].detach().to(shadows[s]) for n, s in self.m_name2s_name.items()]
        torch._foreach_lerp_(averages, weights, 1.0 - decay)

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Overwrite the weights of ``model`` with the averages."""
        parameters, shadows = dict(model.named_parameters()), dict(self.named_buffers())
        for name, shadow in self.m_name2s_name.items():
            parameters[name].copy_(shadows[shadow])

    @torch.no_grad()
    def store(self, parameters: Iterable[Tensor]) -> None:
        """Save weights for ``restore``."""
        self.collected_params = [p.detach().clone() for p in parameters]

    @torch.no_grad()
    def restore(self, parameters: Iterable[Tensor]) -> None:
        """Put the saved weights back."""
        for kept, parameter in zip(self.collected_params, parameters, strict=True):
            parameter.copy_(kept)
        self.collected_params = []
