"""Which number format a run computes in: what ``--precision auto`` stands for, and what it costs.

auto -> on CUDA: autocast's float16;  on a CPU: the fastest of float32, bfloat16, float16
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from ldm.errors import UserError
from ldm.modules import int8
from ldm.pipelines.phases import half_of
from ldm.pipelines.progress import Notice, Observer
from ldm.pipelines.request import Request
from ldm.processor import (
    HALVES,
    THREADS,
    Ticks,
    cores,
    cpu_name,
    native_halves,
    speeds,
    taken_by_others,
)
from ldm.settings.generation import GenerationSettings

WORTH_IT = 1.3  # times as fast as float32: less would not be worth another picture
KEPT_DB = {"float16": 59.7, "bfloat16": 50.8, "int8": 38.9}
"""PSNR of the bundled model's pictures to those in float32, by benchmarks/precision.py."""


def settled(precision: str, device: torch.device) -> tuple[str, str]:
    """Return the precision that ``auto`` stands for on a device, and a sentence on it, or none.

    Args:
        precision: A value of ``--precision``; all but ``auto`` are returned as they are.
        device: Where it is computed. A CPU is measured, see ``ldm.processor.speeds``.
    """
    if precision != "auto":
        slow = device.type == "cpu" and precision in HALVES and precision not in native_halves()
        return precision, f"{precision} is emulated by this {cpu_name()}: very slow" if slow else ""
    if device.type == "cuda":
        return "autocast", "--precision auto: float16, as --precision autocast on cuda"
    if device.type != "cpu":
        return "full", f"--precision auto: float32, as nothing is known of {device.type}"
    name, gain = speeds().fastest_half
    if gain == 0.0 and native_halves():
        return "full", "--precision auto: float32; 0.1 s were too short to measure others (busy?)"
    if gain <= WORTH_IT:
        return "full", f"--precision auto: float32; nothing is much faster on this {cpu_name()}"
    return name, f"--precision auto: {name}, {_praise(name, gain)}"


def _praise(name: str, gain: float) -> str:
    return (
        f"which this {cpu_name()} multiplies {gain:.1f} x as fast as float32; it changes pictures "
        f"a little (PSNR {KEPT_DB[name]:.0f} dB with the bundled model)"
    )


def settle(request: Request, device: torch.device, observer: Observer) -> Request:
    """Return a request with a precision that its pictures can record; say what is to be said.

    Args:
        request: Any; one with ``auto`` gets what that stands for.
        device: Where it is drawn.
        observer: Called with what was chosen.
    """
    name, words = settled(request.settings.precision, device)
    if not words:
        return request
    observer(Notice(words))
    return replace(request, settings=replace(request.settings, precision=name))


def notices_on_format(settings: GenerationSettings, device: torch.device) -> Iterator[str]:
    """Say of a run on a CPU what would make it faster: another format.

    Args:
        settings: The run's, settled.
        device: The CPU.
    """
    if settings.precision == "int8" or half_of(device, settings.precision) is not None:
        return
    name, gain = speeds().fastest_half
    if gain > WORTH_IT:
        yield f"faster: --precision {name}, {_praise(name, gain)}"


def notice_on_others(before: Ticks | None) -> str | None:
    """Say on a busy CPU with how few threads a run would probably end sooner.

    Threads wait for the slowest of them, which another program keeps from its core. The number is
    not changed here: sums that are split among other threads end in other bits, and a picture must
    not depend on what else the machine does.

    Args:
        before: The cores' counters some seconds ago, such as when the program began.
    """
    others, threads = taken_by_others(before, Ticks.now()), torch.get_num_threads()
    idle = max(1.0, cores() - others)
    if threads < idle + 0.5:
        return None
    return (
        f"other programs keep {others:.1f} of {cores()} cores busy, and {threads} threads wait for "
        f"the slowest of them: {THREADS}={round(idle)} in the environment is probably faster"
    )


@contextmanager
def in_integers(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Compute the denoiser's layers in 8-bit integers within a ``with`` block.

    Args:
        model: A latent diffusion model.
        device: Where it computes.

    Raises:
        UserError: That is no CPU, or one without instructions for it.
    """
    if device.type != "cpu":
        raise UserError(
            f"--precision int8 was given, and --device is {device}; expected cpu, for which its "
            "sums are written; use --precision auto"
        )
    with int8.in_integers(model.model.diffusion_model):
        yield


@contextmanager
def weights_in(
    model: nn.Module,
    dtype: torch.dtype | None,
    besides: Collection[nn.Module] = (),
) -> Iterator[None]:
    """Keep the weights that draw in another format within a ``with`` block.

    Autocast alone would convert them in every step. (On CUDA, where the reference has it do so, the
    model stays as it is.) The linear and convolution layers of the denoiser, the text encoder and
    the decoder are converted, and have their own tensors back in the end; an init image is encoded
    in float32, whatever the precision.

    Args:
        model: A latent diffusion model on the device where it computes.
        dtype: The format; None keeps the model as it is.
        besides: Layers that convert theirs themselves.
    """
    held: dict[nn.Parameter, torch.Tensor] = {}
    wanted = dtype is not None and model.device.type != "cuda"
    try:
        for weight in _converted(model, besides) if wanted else ():
            if weight not in held and weight.dtype == torch.float32:
                held[weight] = weight.data
                weight.data = weight.data.to(dtype)
        yield
    finally:
        for weight, own in held.items():
            weight.data = own


def _converted(model: nn.Module, besides: Collection[nn.Module]) -> Iterator[nn.Parameter]:
    first = getattr(model, "first_stage_model", None)
    decoding = [getattr(first, name, None) for name in ("decoder", "post_quant_conv")]
    for whole in (model.model, getattr(model, "cond_stage_model", None), *decoding):
        for module in whole.modules() if isinstance(whole, nn.Module) else ():
            layer = isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
            if layer and module not in besides:
                yield from module.parameters(recurse=False)
