"""Classifier guidance: arXiv:2105.05233, section 4.2 and Algorithm 2.

Shapes: B batch, C channels, h w sides, K classes.
Symbols: a = sqrt(alphas_cumprod_t), s = sqrt(1 - alphas_cumprod_t), g the gradient of
log p(y | x_t) by x_t.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ldm.process.guidance import NoGuidance
from ldm.process.prediction import Parameterization
from ldm.types import Conditioning, Guider

LogProbability = Callable[[Tensor, Tensor], Tensor]
"""From noisy samples (B,C,h,w) and times (B,) to log p(y | x_t) of each row (B,)."""


def class_log_probability(
    classifier: Callable[[Tensor, Tensor], Tensor], labels: Tensor
) -> LogProbability:
    """Return the log-probability that a classifier gives to the wanted classes.

    Args:
        classifier: From noisy samples (B,C,h,w) and times (B,) to logits (B, K).
        labels: The classes (B,), or one for all rows (1,).
    """

    def log_probability(x: Tensor, t: Tensor) -> Tensor:
        logs = classifier(x, t).float().log_softmax(dim=1)
        wanted = labels.to(logs.device).expand(logs.shape[0])
        return logs.gather(1, wanted[:, None])[:, 0]

    return log_probability


def gradient_of(log_probability: LogProbability, x: Tensor, t: Tensor) -> Tensor:
    """Return the gradient of log p(y | x_t) by each row of x (B,C,h,w); x is left as it is."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_(True)
        # Rows do not depend on each other, so that one gradient of the sum holds them all.
        return torch.autograd.grad(log_probability(leaf, t).sum(), leaf)[0]


@dataclass
class ClassifierGuidance:
    """Moves every prediction of a model along a classifier's gradient: eps - scale s g.

    Algorithm 2 has eps - sqrt(1 - alphas_cumprod_t) g; ``scale`` is Algorithm 1's gradient scale.

    Attributes:
        log_probability: Of what is wanted, see ``class_log_probability``.
        alphas_cumprod: The model's schedule (T,).
        scale: 1 samples from p(x) p(y | x); more insists on y.
        parameterization: What the model predicts.
        inner: Guidance of the model itself, beneath: ``ClassifierFreeGuidance`` or none.
    """

    log_probability: LogProbability
    alphas_cumprod: Tensor
    scale: float = 1.0
    parameterization: Parameterization = "eps"
    inner: Guider = field(default_factory=NoGuidance)

    def __post_init__(self) -> None:
        self._gradient = torch.zeros(())  # scale g where ``prepare`` was called last

    def prepare(
        self, x: Tensor, t: Tensor, cond: Conditioning, uncond: Conditioning
    ) -> tuple[Tensor, Tensor, Conditioning]:
        self._gradient = self.scale * gradient_of(self.log_probability, x, t)
        return self.inner.prepare(x, t, cond, uncond)

    def combine(self, out: Tensor, t: Tensor) -> Tensor:
        """Return the guided prediction (B,C,h,w).

        Where eps falls by s g, the estimate of x0 rises by s^2 g / a, for x = a x0 + s eps, and
        v = a eps - s x0 falls by s g (a + s^2 / a) = s g / a, for a^2 + s^2 = 1.
        """
        out = self.inner.combine(out, t)
        a, s = (v.reshape(-1, *(1,) * (out.ndim - 1)) for v in self.scales(t))
        factor = {"eps": -s, "x0": s**2 / a, "v": -s / a}[self.parameterization]
        return out + (factor * self._gradient).to(out.dtype)

    def scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return a and s (B,) at times 0 ... T-1, between which log a is a straight line.

        Between training steps that is DPM-Solver's reading (arXiv:2206.00927, appendix D.1).
        """
        logs = self.alphas_cumprod.to(t.device, torch.float32).log()
        time = t.float().clamp(0, len(logs) - 1)
        below = time.floor().long()
        above = (below + 1).clamp(max=len(logs) - 1)
        cumprod = torch.lerp(logs[below], logs[above], time - below).exp()
        return cumprod.sqrt(), (1.0 - cumprod).sqrt()
