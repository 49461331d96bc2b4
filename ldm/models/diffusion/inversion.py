"""Invert a real picture: find the noise, and the guidance, from which a walk draws it again.

Shapes: B pictures, C channels, h w latent sides, S steps of the inversion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ldm.errors import UserError
from ldm.models.diffusion.ddim import DDIMSampler
from ldm.models.diffusion.null_text import Fit, NullText, fit_unconds
from ldm.models.diffusion.sampler import Sampler
from ldm.process.guidance import NoGuidance
from ldm.process.stepwise_guidance import StepwiseGuidance, mapped, tensors_of
from ldm.types import Conditioning, Guider

Method = Literal["ddim", "null-text", "negative-prompt"]
METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True)
class Inversion:
    """Where a walk starts and what it moves away from, so that it ends at the inverted pictures.

    ``sampler.decode(inversion.x_T, cond, inversion.steps, guider=inversion.guider())`` draws them
    again. To edit, repeat ``x_T`` for each prompt, all pictures with one prompt before all with
    the next; the guider repeats what it holds in the same way.

    Attributes:
        x_T: Start of the walk (B,C,h,w).
        steps: S, how many steps it takes, counted from the clean end.
        scale: Of its guidance.
        unconds: What the guidance moves away from, by the step's model time.
        fits: Losses of null-text's steps, noisy end first; empty for the other methods.
    """

    x_T: Tensor  # noqa: N815 - the reference's name
    steps: int
    scale: float
    unconds: Mapping[int, Conditioning]
    fits: tuple[Fit, ...] = ()

    def guider(self) -> Guider:
        """Return the guidance of the walk back."""
        return NoGuidance() if self.scale == 1.0 else StepwiseGuidance(self.scale, self.unconds)


@torch.no_grad()
def invert(
    sampler: Sampler,
    x0: Tensor,
    cond: Conditioning,
    *,
    method: Method,
    scale: float,
    uncond: Conditioning = None,
    steps: int | None = None,
    null_text: NullText | None = None,
    callback: Callable[[int, int], Any] = lambda done, total: None,  # noqa: ARG005
) -> Inversion:
    """Invert latents, by DDIM's steps the other way round (arXiv:2010.02502, Eq. 13) at first.

    These go along ``cond`` without guidance, where the inversion is accurate. Guidance on the way
    back would leave their trajectory; the methods differ in what they do about it:

    - ``ddim``: nothing. The walk back is guided plainly and drifts, the more the higher ``scale``.
    - ``negative-prompt`` (arXiv:2305.16807): guidance moves away from ``cond`` itself. Along the
      source prompt it then cancels; what remains is the error of DDIM's steps.
    - ``null-text`` (arXiv:2211.09794): at each step, guidance moves away from an embedding that
      was optimised, from ``uncond`` on, so that the step lands on the trajectory.

    Draws no random numbers, and leaves the model's weights as they are.

    Args:
        sampler: DDIM with its schedule made and eta 0.
        x0: Clean latents (B,C,h,w), scaled as the model has them.
        cond: Conditioning of B rows: what the pictures show.
        method: How.
        scale: Of the guidance that the walk back is to have.
        uncond: Conditioning of B rows that plain guidance moves away from; not needed by
            negative-prompt, and by ddim at scale 1.
        steps: S, steps to invert, counted from the clean end: fewer keep more of the picture when
            it is edited, as img2img's strength does. All by default.
        null_text: How hard null-text optimises; the paper's by default.
        callback: Called after each step with how many are done and how many there are.

    Raises:
        RuntimeError: The sampler has no schedule.
        UserError: It does not invert so, or the other arguments do not go together.
    """
    _check_sampler(sampler)
    _check_guidance(method, scale, cond, uncond, null_text)
    steps = _checked_steps(sampler, steps)
    times = [int(sampler.time(index)) for index in reversed(range(steps))]
    optimises = method == "null-text"
    settings = _checked_settings(null_text, times, uncond) if optimises else None
    x0 = x0.to(sampler.model.device, torch.promote_types(x0.dtype, torch.float32))
    _check_rows(x0, cond=cond, uncond=uncond)
    x0, cond, uncond = (_own(given) for given in (x0, cond, uncond))
    total = steps * (1 + optimises)
    x, kept = sampler.encode(
        x0,
        cond,
        steps,
        return_intermediates=steps,
        callback=lambda i: callback(i + 1, total),
        at_timesteps=True,
    )
    if settings is None:
        away = cond if method == "negative-prompt" else uncond
        return Inversion(x, steps, scale, dict.fromkeys(times, away))
    trajectory = [x0, *kept["intermediates"]]
    unconds, fits = fit_unconds(
        sampler,
        trajectory,
        cond,
        uncond,
        scale,
        settings,
        callback=lambda i: callback(steps + i + 1, total),
    )
    return Inversion(x, steps, scale, dict(zip(times, unconds, strict=True)), tuple(fits))


def _own(given: Conditioning) -> Conditioning:
    """Copy tensors: those made under inference_mode could take no part in optimising."""
    return mapped(lambda part: part.detach().clone(), given)


def _check_sampler(sampler: Sampler) -> None:
    name = type(sampler).__name__
    if not isinstance(sampler, DDIMSampler) or sampler.is_overridden:
        raise UserError(
            f"sampler {name} given; inversion expects ddim's own steps, which it takes the other "
            "way round; choose ddim"
        )
    sampler.require_schedule()
    if sampler.table.sigmas.any():
        raise UserError(
            "a schedule with ddim_eta above 0 given; inversion expects 0, as noise that steps add "
            "cannot be inverted; leave ddim_eta out"
        )


def _checked_steps(sampler: Sampler, steps: int | None) -> int:
    if steps is None:
        return sampler.steps
    if not 1 <= steps <= sampler.steps:
        raise UserError(
            f"{steps} steps to invert given; expected 1 to {sampler.steps}, as many as the "
            "schedule has; change the number or the schedule"
        )
    return steps


def _check_guidance(
    method: str,
    scale: float,
    cond: Conditioning,
    uncond: Conditioning,
    null_text: NullText | None,
) -> None:
    if method not in METHODS:
        raise UserError(f"method {method!r} given; expected one of {', '.join(METHODS)}")
    if null_text is not None and method != "null-text":
        raise UserError(
            f"null_text given with the method {method}, which optimises nothing; leave it out"
        )
    if method == "null-text" and scale == 1.0:
        raise UserError(
            "method null-text with scale 1 given; expected guidance, without which there is "
            "nothing to optimise; use the method ddim, or another scale"
        )
    if cond is None and method != "ddim":
        raise UserError(
            f"method {method} without cond given; expected what the pictures show; give their "
            "prompts' conditioning, or use the method ddim"
        )
    if uncond is None and (method == "null-text" or (method == "ddim" and scale != 1.0)):
        raise UserError(
            f"method {method} with scale {scale:g} given; expected uncond, from which guidance "
            "moves away; give the empty prompt's conditioning"
        )


def _check_rows(x0: Tensor, **given: Conditioning) -> None:
    for name, conditioning in given.items():
        for part in tensors_of(conditioning):
            if part.shape[0] != x0.shape[0]:
                raise UserError(
                    f"{name} of {part.shape[0]} rows given for {x0.shape[0]} pictures; expected a "
                    "row for each; repeat or cut it"
                )


def _checked_settings(
    null_text: NullText | None, times: list[int], uncond: Conditioning
) -> NullText:
    if len(set(times)) != len(times):
        raise UserError(
            "a schedule that visits a time twice given; null-text inversion expects different "
            "times, as it finds something for each; take fewer steps or another spacing"
        )
    settings = null_text or NullText()
    settings.check(len(times), uncond)
    return settings
