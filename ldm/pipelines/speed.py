"""A run's choices of arithmetic, applied to its model while it lasts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from ldm.pipelines.progress import Notice, Observer
from ldm.settings.speed import SpeedSettings


@contextmanager
def sped_up(
    model: Any, settings: SpeedSettings, device: torch.device, whole: bool, observer: Observer
) -> Iterator[None]:
    """Return a context in which a hub computes as the settings say; it says what it cannot do.

    Args:
        model: The hub.
        settings: The run's.
        device: Where it computes.
        whole: Whether the whole model is there, and not its parts in turn.
        observer: Called with notices.

    Raises:
        UserError: ``--compile`` without a compiler.
    """
    idle = _without_effect(settings.asked, device, whole)
    for flag, why in idle.items():
        observer(Notice(f"{flag} has no effect: {why}", warning=True))
    with ExitStack() as stack:
        if device.type == "cuda" and whole and {*settings.asked} - {"--compile", "--decode_beside"}:
            from ldm.kernels.card import prepared_for_card

            chosen = {
                "kernels": settings.kernels == "auto",
                "attention": settings.attention_backend,
                "graphs": settings.graphs == "auto",
            }
            stack.enter_context(prepared_for_card(model, device, **chosen))
        if settings.compile and "--compile" not in idle:
            from ldm.kernels.compiled import check_compiler, compile_model

            check_compiler(device)
            stack.callback(compile_model(model))
        yield


def _without_effect(asked: Sequence[str], device: torch.device, whole: bool) -> dict[str, str]:
    """Return why choices have no effect, by flag."""
    if not whole:
        return dict.fromkeys(asked, "the model's parts take turns on the device")
    if device.type == "cuda":
        return {}
    elsewhere = f"it is for a CUDA device, and this run is on {device.type}"
    why = {flag: elsewhere for flag in asked if flag != "--compile"}
    if device.type == "cpu" and "--kernels" in why:
        del why["--kernels"]
        if "--compile" in asked:
            why["--kernels"] = "--compile makes kernels of its own on a processor"
    return why
