"""Muon optimizer: orthogonalized steps for matrices, AdamW for everything else.

Adam scales every element of a gradient by itself. The gradient of a matrix is dominated by a few
directions; rare inputs, such as one noun of many, hardly move it in the others. Muon takes the
orthogonal matrix nearest to the averaged gradient, in which all directions count equally.

``torch.optim.Muon`` computes the same steps for matrices but accepts nothing else: no convolution
kernels, which are most of a UNet, and no biases.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

# Coefficients of the quintic that maps singular values in (0, 1] to about 1 (Jordan et al. 2024,
# "Muon").
_QUINTIC = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
# Adam's steps have about this root mean square, in units of the learning rate
# (Liu et al. 2025, "Muon is Scalable for LLM Training", eq. 4).
_ADAM_RMS = 0.2


def orthogonalize(matrix: Tensor) -> Tensor:
    """Map singular values to about 1 by Newton-Schulz iterations, in bfloat16.

    Args:
        matrix: (m, n), any floating type.

    Returns:
        (m, n) bfloat16, U S V^T with every s between about 0.7 and 1.2; zeros for zeros.
    """
    a, b, c = _QUINTIC
    x = matrix.bfloat16()
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Muon for parameters of two or more dimensions, AdamW for the others, in one optimizer.

    A convolution's kernel (out, in, h, w) counts as a matrix (out, in h w). Steps of matrices are
    scaled to the size of Adam's, so that both share one learning rate and weight decay.

    Args:
        params: Parameters, or groups of them. A group with ``tables: True`` holds embedding tables,
            which are lookups and not matrix products: AdamW updates them.
        lr: Learning rate, as for AdamW.
        momentum: Momentum of the averaged gradient of matrices (Nesterov's form).
        betas: AdamW's betas.
        weight_decay: Weight decay of both, decoupled.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 1e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 0.01,
    ):
        defaults = {"lr": lr, "momentum": momentum, "betas": betas, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "tables": False})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have a gradient; return the closure's value."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            learning = [p for p in group["params"] if p.grad is not None]
            least = math.inf if group["tables"] else 2
            for p in learning:
                if p.ndim >= least:
                    self._move_matrix(p, group)
            self._move_rest([p for p in learning if p.ndim < least], group)
        return loss

    def _move_matrix(self, p: nn.Parameter, group: dict[str, Any]) -> None:
        state = self.state[p]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(p)
        average = state["momentum_buffer"]
        average.lerp_(p.grad, 1 - group["momentum"])
        ahead = p.grad.lerp(average, group["momentum"]).flatten(1)
        rate = group["lr"] * _ADAM_RMS * math.sqrt(max(ahead.shape))
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.add_(orthogonalize(ahead).view_as(p), alpha=-rate)

    def _move_rest(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        states = [self.state[p] for p in parameters]
        for p, state in zip(parameters, states, strict=True):
            if not state:
                state["step"] = torch.zeros(())
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
        adamw(
            parameters,
            [p.grad for p in parameters],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=1e-8,
            maximize=False,
        )
