"""A diffusion hub without a network that knows its data, for tests of the reverse process."""

from __future__ import annotations

import torch

from ldm.models.diffusion.forward_process import ForwardProcess
from ldm.models.diffusion.latent_reverse_process import LatentReverseProcess
from ldm.models.diffusion.reverse_process import PixelReverseProcess
from ldm.process import prediction

MEAN, STEPS, SHAPE = 0.4, 20, (3, 2, 4, 4)
KINDS = ("eps", "x0", "v")


class Exact(ForwardProcess):
    """A hub without network: it knows that data are N(MEAN + condition, 0.5^2)."""

    clip_denoised, log_every_t, channels, image_size = False, 7, 2, 4

    def __init__(self, kind: str = "eps", steps: int = STEPS):
        super().__init__()
        self.parameterization = kind
        self.register_schedule(timesteps=steps, linear_start=0.4 / steps, linear_end=10 / steps)

    def apply_model(self, x, t, cond=None, return_ids=False):
        a, s = self.mix(t, x.shape)
        mean = MEAN if cond is None else MEAN + cond
        eps = s * (x - a * mean) / (0.25 * a**2 + s**2)
        x0 = (x - s * eps) / a
        out = prediction.target(x0, eps, a, s, self.parameterization)
        return (out, torch.arange(3.0).reshape(1, 3, 1, 1) * x[:, :1].abs()) if return_ids else out


class Pixels(PixelReverseProcess, Exact):
    """Without conditioning."""


class Latents(LatentReverseProcess, Exact):
    """With conditioning."""


def seeded(function, *args, **kwargs):
    torch.manual_seed(0)
    return function(*args, **kwargs)


def drawn() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    return x, torch.tensor([0, 5, STEPS - 1])


def conditions() -> torch.Tensor:
    return torch.tensor([0.0, 1.0, -2.0]).reshape(3, 1, 1, 1)


def equal(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
