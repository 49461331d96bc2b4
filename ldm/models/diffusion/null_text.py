"""Null-text optimisation (arXiv:2211.09794): an unconditional embedding for each guided step.

Shapes: B pictures, C channels, h w latent sides, S steps of the inversion, L tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ldm.errors import UserError
from ldm.models.diffusion.ddim import DDIMSampler
from ldm.models.diffusion.denoiser import Denoiser, times_of
from ldm.process.guidance import ClassifierFreeGuidance, NoGuidance
from ldm.process.stepwise_guidance import mapped, tensors_of
from ldm.types import Conditioning

TEXT = "c_crossattn"
"""The entry of a dict of conditionings that is optimised; what else it has stays as it is."""


@dataclass(frozen=True)
class NullText:
    """How hard to optimise; the defaults are the paper's, for 50 steps.

    Step i, counted from the noisy end, has the learning rate ``rate * (1 - i / rate_steps)`` and
    is done when its loss is below ``epsilon + i * epsilon_growth``. The loss is the mean squared
    distance from the inversion's trajectory, in latents.

    Attributes:
        updates: At most so many of Adam's updates a step.
        rate: Learning rate of the first step.
        rate_steps: Steps after which it would be 0; more than the inversion's.
        epsilon: Loss at which the first step is done.
        epsilon_growth: What each step adds to that.
    """

    updates: int = 10
    rate: float = 1e-2
    rate_steps: int = 100
    epsilon: float = 1e-5
    epsilon_growth: float = 2e-5

    def check(self, steps: int, uncond: Conditioning) -> None:
        """Check that a number of steps can be optimised so, from ``uncond`` on, here and now.

        Raises:
            UserError: They cannot.
        """
        if self.updates < 1:
            raise UserError(f"updates {self.updates} given; expected 1 or more; raise it")
        if self.rate_steps < steps:
            raise UserError(
                f"rate_steps {self.rate_steps} given; expected {steps} or more, one for each step "
                "of the inversion; raise it, as at 0 nothing is learnt"
            )
        text = tensors_of(uncond.get(TEXT) if isinstance(uncond, Mapping) else uncond)
        if not text or not all(part.is_floating_point() for part in text):
            kind = ", ".join(uncond) if isinstance(uncond, Mapping) else "whole numbers"
            raise UserError(
                f"conditioning of {kind} given; null-text inversion optimises embeddings, in a "
                f"dict those of {TEXT}, and there are none; invert by ddim or negative-prompt"
            )
        if torch.is_inference_mode_enabled():
            raise UserError(
                "null-text inversion inside torch.inference_mode given; expected gradients to be "
                "possible; call it inside torch.no_grad, or outside of both"
            )


class Fit(NamedTuple):
    """Losses of a step (B,): with the embedding it began with, and with the one it keeps."""

    before: Tensor
    after: Tensor


def fit_unconds(
    sampler: DDIMSampler,
    trajectory: Sequence[Tensor],
    cond: Conditioning,
    uncond: Conditioning,
    scale: float,
    settings: NullText,
    callback: Callable[[int], Any] = lambda _: None,
) -> tuple[list[Conditioning], list[Fit]]:
    """Find unconditional embeddings with which guided steps follow a trajectory back.

    Algorithm 1 of arXiv:2211.09794, from the noisy end: each step starts where the guided step
    before it landed, and its embedding where that step's ended. Rows are independent: each has
    its own loss and its own early stop. Deviations from the published program: a step that is
    near enough is not updated once more, and of all embeddings tried the best is kept, so that
    the loss never rises.

    Args:
        sampler: With the inversion's schedule and eta 0.
        trajectory: S + 1 samples (B,C,h,w), clean end first.
        cond: Conditioning of B rows.
        uncond: What the first step starts from, B rows that ``settings.check`` has let pass.
        scale: Of guidance, other than 1.
        settings: How hard.
        callback: Called with the number of each step.

    Returns:
        A conditioning and its losses for each step, noisy end first.

    Raises:
        UserError: A loss is not a number.
    """
    x, found, fits = trajectory[-1], [], []
    with _frozen(sampler.model):
        for i, index in enumerate(reversed(range(len(trajectory) - 1))):
            step = _Step(sampler, x, index, cond, scale)
            rate = settings.rate * (1.0 - i / settings.rate_steps)
            search = _Search(uncond, rate, settings.epsilon + i * settings.epsilon_growth)
            search.run(step, trajectory[index], settings.updates)
            uncond, x = search.best, search.landed
            found.append(uncond)
            fits.append(Fit(search.before, search.after))
            callback(i)
    return found, fits


class _Step:
    """A guided DDIM step as a function of its unconditional conditioning.

    The conditional prediction is made once, without gradients.
    """

    def __init__(
        self, sampler: DDIMSampler, x: Tensor, index: int, cond: Conditioning, scale: float
    ) -> None:
        self.sampler, self.x, self.index = sampler, x, index
        with torch.no_grad():
            times = times_of(x, sampler.time(index))
            self.guider = _Beside(scale, sampler.model.apply_model(x, times, cond))

    def __call__(self, uncond: Conditioning) -> Tensor:
        """Return where the step lands (B,C,h,w)."""
        denoiser = Denoiser(self.sampler.model, uncond, None, 1.0, _Silence(), self.guider)
        eps = self.sampler.eps_at(denoiser, self.x, self.index)
        return self.sampler.update(denoiser, self.x, eps, self.index).x


class _Beside(NoGuidance):
    """Guidance whose conditional prediction is there already: the model is asked for the other."""

    def __init__(self, scale: float, out_cond: Tensor) -> None:
        self.plain, self.out_cond = ClassifierFreeGuidance(scale), out_cond

    def combine(self, out: Tensor, t: Tensor) -> Tensor:
        return self.plain.combine(torch.cat([out, self.out_cond]), t)


class _Silence:
    """No noise for steps that add none: whoever draws random numbers later finds them unmoved."""

    def randn(
        self,
        shape: Sequence[int],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        return torch.zeros(tuple(shape), device=device, dtype=dtype)


class _Search:
    """Adam's search for one step's embeddings, a row for each picture.

    Attributes:
        landed: Where the step lands with the best embeddings so far (B,C,h,w).
        before: Losses (B,) that the search began with.
        after: Losses of the best embeddings.
        going: Rows (B,) that are not near enough yet.
    """

    before: Tensor
    after: Tensor
    going: Tensor
    landed: Tensor

    def __init__(self, uncond: Conditioning, rate: float, enough: float) -> None:
        self.uncond, self.enough = uncond, enough
        # In float32 whatever the model's: Adam's updates are too small for half precision.
        self.tried = mapped(lambda u: u.detach().float().clone().requires_grad_(), _text(uncond))
        self.kept = mapped(lambda u: u.detach().clone(), self.tried)
        self.leaves = tensors_of(self.tried)
        self.adam = torch.optim.Adam(self.leaves, lr=rate)

    @property
    def best(self) -> Conditioning:
        """The conditioning with the best embeddings so far."""
        return self._conditioning(self.kept)

    def run(self, step: _Step, target: Tensor, updates: int) -> None:
        """Search until every row is near enough, or has had its updates."""
        for done in range(updates + 1):
            with torch.set_grad_enabled(done < updates):
                landed = step(self._conditioning(self.tried))
                loss = (landed - target).square().flatten(1).mean(dim=1)  # (B,)
                total = loss.sum()
            self._keep(landed.detach(), loss.detach())
            if done == updates or not self.going.any():
                return
            # Not ``backward``, which would leave gradients in whatever else learns.
            gradients = torch.autograd.grad(total, self.leaves)
            for leaf, gradient in zip(self.leaves, gradients, strict=True):
                leaf.grad = gradient
            self.adam.step()

    def _keep(self, landed: Tensor, loss: Tensor) -> None:
        """Keep, of the rows that are still going, those that came nearer."""
        if not hasattr(self, "before"):
            self.before, self.after, self.landed = loss, loss, landed
            self.going = torch.ones_like(loss, dtype=torch.bool)
        if not loss[self.going].isfinite().all():
            raise UserError(
                f"null-text inversion came to losses of {loss.tolist()}; expected numbers; lower "
                "the rate, or compute in full precision"
            )
        nearer = self.going & (loss < self.after)
        self.after, self.landed = _of(nearer, loss, self.after), _of(nearer, landed, self.landed)
        for kept, leaf in zip(tensors_of(self.kept), self.leaves, strict=True):
            kept.copy_(_of(nearer, leaf.detach(), kept))
        self.going = self.going & (self.after >= self.enough)

    def _conditioning(self, text: Conditioning) -> Conditioning:
        dtype = tensors_of(_text(self.uncond))[0].dtype
        text = mapped(lambda u: u.to(dtype), text)
        return {**self.uncond, TEXT: text} if isinstance(self.uncond, Mapping) else text


def _of(rows: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """Return ``new`` in the given rows (B,) and ``old`` in the others."""
    return torch.where(rows.reshape(-1, *(1,) * (new.ndim - 1)), new, old)


def _text(uncond: Conditioning) -> Conditioning:
    return uncond[TEXT] if isinstance(uncond, Mapping) else uncond


@contextmanager
def _frozen(model: Any) -> Iterator[None]:
    """Return a context in which a model's weights need no gradients."""
    learning = [p for p in getattr(model, "parameters", list)() if p.requires_grad]
    for p in learning:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in learning:
            p.requires_grad_(True)
