"""Shortcuts on a model for the time of a run, and what each costs or saves, in a line.

settings -> contexts around the run: reuse, merging, FreeU, a tiny decoder, rows in turn
         -> the run's sampler: guidance in an interval, rescaled; another schedule
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch

from ldm.adapters.handle import within
from ldm.errors import UserError
from ldm.models.diffusion.latent_diffusion import LatentSpaceDiffusion
from ldm.models.diffusion.sampler import Sampler
from ldm.modules.attention_control.moments import Follower, Moment
from ldm.pipelines.progress import Notice
from ldm.rng import PerImageNoise
from ldm.settings.generation import GenerationSettings
from ldm.settings.shortcuts import ShortcutSettings, read_freeu, read_interval, read_reuse
from ldm.types import Conditioning, EpsModel, Guider

DIFFER = "pictures differ from plain ones"


@contextmanager
def shortened(
    model: LatentSpaceDiffusion, settings: GenerationSettings, sampler: Sampler
) -> Iterator[None]:
    """Let a model and a run's sampler take the shortcuts of settings inside the block.

    Raises:
        UserError: One does not fit the model.
    """
    around = sampler.around
    with ExitStack() as stack:
        for context in _contexts(model, settings):
            stack.enter_context(context)
        sampler.around = _around(model, settings, stack)
        try:
            yield
        finally:
            sampler.around = around


def _contexts(model: LatentSpaceDiffusion, settings: ShortcutSettings) -> Iterator:
    if settings.reuse is not None:
        from ldm.shortcuts.reuse import reusing

        yield reusing(model, *read_reuse(settings.reuse))
    if settings.merge_tokens:
        from ldm.shortcuts.merging import merging

        # A picture with a seed of its own depends on nothing else, so not on the run's either.
        per_image = getattr(settings, "seed_mode", "") == "per-image"
        yield merging(model, settings.merge_tokens, 0 if per_image else settings.seed)
    if settings.freeu is not None:
        from ldm.shortcuts.freeu import freed

        yield freed(model, *read_freeu(settings.freeu))
    if settings.decoder is not None:
        from ldm.shortcuts.decoder import check_fit, decoding_by, read_decoder

        decoder = read_decoder(settings.decoder)
        check_fit(decoder, model, settings.decoder)
        yield decoding_by(model, decoder)
    if settings.batch_cfg == "off":
        from ldm.shortcuts.turns import in_turn

        yield in_turn(model)


def _around(
    model: LatentSpaceDiffusion, settings: ShortcutSettings, stack: ExitStack
) -> Callable[[Guider], Guider] | None:
    """Return what makes a run's guiders of plain ones; None changes nothing."""
    if settings.guidance_interval is None and not settings.guidance_rescale:
        return None
    from ldm.shortcuts.guidance import IntervalGuidance, RescaledGuidance, is_guided

    follower = Follower(model)
    follower.follow()
    stack.callback(follower.leave)

    def around(guider: Guider) -> Guider:
        flag = "--guidance_interval" if settings.guidance_interval else "--guidance_rescale"
        if not is_guided(guider, flag):
            return guider
        if settings.guidance_rescale:
            guider = RescaledGuidance(guider, settings.guidance_rescale)
        if settings.guidance_interval is not None:
            guider = IntervalGuidance(guider, follower, *read_interval(settings.guidance_interval))
        return guider

    return around


def model_for(settings: ShortcutSettings, model: EpsModel) -> EpsModel:
    """Return a model as a run's sampler is to see it: under another schedule if asked.

    Raises:
        UserError: The model has no such schedule.
    """
    if not settings.zero_terminal_snr:
        return model
    from ldm.shortcuts.zero_snr import ZeroTerminalSnr

    return ZeroTerminalSnr(model)


def check_control(settings: ShortcutSettings) -> None:
    """Refuse shortcuts under which attention control would not see what it has to.

    Raises:
        UserError: One of them is asked for.
    """
    flags = {"--reuse": settings.reuse, "--merge_tokens": settings.merge_tokens or None}
    for flag, value in flags.items():
        if value is not None:
            raise UserError(
                f"{flag} {value} was given with edits or maps by attention, which need every layer "
                f"and every token in every step; leave out {flag}, or draw without them"
            )


def costs(settings: GenerationSettings, sampler: Sampler, steps: int) -> Iterator[Notice]:
    """Say of each shortcut what it saves and what it costs.

    Args:
        settings: The run's.
        sampler: One of the run's kind, of a model that costs nothing to call.
        steps: That each picture takes.
    """
    for text in _said(settings, partial(calls_by_step, sampler, steps)):
        yield Notice(text)


def _said(settings: GenerationSettings, by_step: Callable[[], list[int]]) -> Iterator[str]:
    guided = settings.scale != 1.0
    if settings.reuse is not None or settings.guidance_interval is not None:
        yield from _said_of_calls(settings, by_step())
    if settings.merge_tokens:
        yield (
            f"--merge_tokens {settings.merge_tokens:g}: the largest self-attention sees "
            f"{1 - settings.merge_tokens:.0%} of its tokens; {DIFFER}"
        )
    if settings.guidance_rescale and guided:
        yield f"--guidance_rescale {settings.guidance_rescale:g}: costs no time; {DIFFER}"
    if settings.zero_terminal_snr:
        yield f"--zero_terminal_snr: the schedule ends in pure noise; costs no time; {DIFFER}"
    if settings.freeu is not None:
        yield f"--freeu {settings.freeu}: costs a Fourier transform for some skips; {DIFFER}"
    if settings.decoder is not None:
        yield f"--decoder {settings.decoder}: decodes in place of the model's decoder; {DIFFER}"
    if settings.batch_cfg == "off" and guided:
        yield (
            "--batch_cfg off: guidance's two rows are computed one after the other, in half of the "
            "memory for them; pictures differ in the last digits"
        )


def _said_of_calls(settings: GenerationSettings, by_step: list[int]) -> Iterator[str]:
    window = (0.0, 1.0)
    if settings.guidance_interval is not None and settings.scale != 1.0:
        window = read_interval(settings.guidance_interval)
    total = len(by_step)
    inside = [within(*window, Moment(step, total)) for step in range(total)]
    guided = [inside[step] for step, calls in enumerate(by_step) for _ in range(calls)]
    if settings.reuse is not None:
        computed = computed_calls(guided, read_reuse(settings.reuse).every)
        yield (
            f"--reuse {settings.reuse}: the deep blocks are computed in {computed} of "
            f"{len(guided)} calls; {DIFFER}"
        )
    if window != (0.0, 1.0):
        yield (
            f"--guidance_interval {settings.guidance_interval}: {sum(guided)} of {len(guided)} "
            f"calls are guided, the others take half the rows; {DIFFER}"
        )


def computed_calls(guided: list[bool], every: int) -> int:
    """Count the calls that compute all blocks: each N-th, and those with rows not yet known.

    Args:
        guided: Of each call, whether it has unconditional rows.
        every: N.
    """
    computed, knows_uncond = 0, False
    for call, has_uncond in enumerate(guided):
        due = call % every == 0
        if due or (has_uncond and not knows_uncond):
            computed += 1
            knows_uncond = has_uncond
    return computed


class _Counted:
    """A model that costs nothing and counts its calls."""

    def __init__(self, model: EpsModel) -> None:
        self._model, self.calls = model, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def apply_model(self, x: torch.Tensor, t: torch.Tensor, cond: Conditioning) -> torch.Tensor:  # noqa: ARG002
        self.calls += 1
        return torch.zeros_like(x)


def calls_by_step(sampler: Sampler, steps: int) -> list[int]:
    """Count the calls of the model that each step of a walk takes; some samplers make two.

    The steps are taken, with a model that costs nothing: samplers need not say it of themselves.

    Args:
        sampler: With its schedule made; its model is put back.
        steps: Of the walk.
    """
    own, counted = sampler.model, _Counted(sampler.model)
    found, before, x = [], 0, torch.zeros(1, 1, 1, 1)
    sampler.model = counted
    try:
        for _ in sampler.walk(x, t_start=steps, noise=PerImageNoise([0])):
            found.append(counted.calls - before)
            before = counted.calls
    finally:
        sampler.model = own
    return found
