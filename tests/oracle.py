"""A diffusion model whose every answer is known: the data are Gaussian.

If x0 ~ N(mean, std^2) elementwise, then x_t = a x0 + s eps (a^2 = alphas_cumprod, s^2 = 1 - a^2)
is Gaussian too, with mean a*mean and variance V = a^2 std^2 + s^2, and

    E[eps | x_t] = s (x_t - a mean) / V        what a perfectly trained eps-model predicts,
    E[x0 | x_t]  = mean + a std^2 (x_t - a mean) / V,
    (x_t - a_t mean) / sqrt(V_t)               is constant along the probability flow

(Song et al., arXiv:2011.13456, Eq. 13). A sampler's error is therefore a number, not an opinion.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ldm.process.schedules import diffusion_coefficients, make_beta_schedule


class GaussianModel:
    """The optimal model of N(mean, std^2) data, as samplers see a model.

    A condition is the data's mean: a tensor that broadcasts against (B, C, h, w), or
    ``{"c_crossattn": [tensor]}``. Because every prediction is linear in the mean, guidance of scale
    w between two conditions is exactly the model whose mean is ``u + w (c - u)``.

    Args:
        mean: mean of the data where no condition is given.
        std: standard deviation of the data.
        parameterization: what is predicted: ``eps``, ``x0`` or ``v``.
    """

    num_timesteps = 1000

    def __init__(self, mean: float = 0.0, std: float = 0.5, parameterization: str = "eps") -> None:
        self.mean, self.std, self.parameterization = mean, std, parameterization
        betas = make_beta_schedule("linear", self.num_timesteps, 0.00085, 0.012)
        for name, table in diffusion_coefficients(betas).items():
            setattr(self, name, torch.tensor(table, dtype=torch.float32))
        self.calls: list[Tensor] = []

    @property
    def device(self) -> torch.device:
        """Where the schedule is."""
        return self.alphas_cumprod.device

    def alpha_bar(self, t: Tensor) -> Tensor:
        """Return alphas_cumprod at times 0 ... T-1 in float64, log-linear between the integers.

        DPM-Solver evaluates the model between training steps; its discrete schedule interpolates
        log alpha in this way (arXiv:2206.00927, appendix D.1).
        """
        logs = self.alphas_cumprod.double().log()
        below = t.double().clamp(0, self.num_timesteps - 1).floor().long()
        above = (below + 1).clamp(max=self.num_timesteps - 1)
        return torch.lerp(logs[below], logs[above], t.double() - below).exp()

    def apply_model(self, x: Tensor, t: Tensor, cond: Any) -> Tensor:
        """Return the optimal prediction: (B, C, h, w), (B,) -> (B, C, h, w), in x's dtype."""
        self.calls.append(t.clone())
        alpha_bar = self.alpha_bar(t).reshape(-1, *(1,) * (x.ndim - 1))  # (B, 1, 1, 1)
        a, s = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        mean = self._mean(cond)
        standardised = (x.double() - a * mean) / (a**2 * self.std**2 + s**2)
        eps, x0 = s * standardised, mean + a * self.std**2 * standardised
        out = {"eps": eps, "x0": x0, "v": a * eps - s * x0}[self.parameterization]
        return out.to(x.dtype)

    def q_sample(self, x_start: Tensor, t: Tensor, noise: Tensor | None = None) -> Tensor:
        """Noise clean data to the integer steps t (B,)."""
        noise = torch.randn_like(x_start) if noise is None else noise
        alpha_bar = self.alphas_cumprod[t].reshape(-1, *(1,) * (x_start.ndim - 1))
        return alpha_bar.sqrt() * x_start + (1 - alpha_bar).sqrt() * noise

    def flow(self, x: Tensor, t_from: float, t_to: float, mean: float | Tensor = 0.0) -> Tensor:
        """Carry x exactly along the probability flow between two times, in float64."""
        start, end = self.alpha_bar(torch.tensor([float(t_from), float(t_to)]))
        spread = [(a_bar * self.std**2 + 1 - a_bar).sqrt() for a_bar in (start, end)]
        return end.sqrt() * mean + (x.double() - start.sqrt() * mean) * spread[1] / spread[0]

    def _mean(self, cond: Any) -> float | Tensor:
        if cond is None:
            return self.mean
        tensor = cond["c_crossattn"][0] if isinstance(cond, dict) else cond
        return tensor.double()
