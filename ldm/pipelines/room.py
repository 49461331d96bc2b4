"""Is there room for a run: memory for a batch, and the time that it may take?

    request, model -> bytes that each row of a batch takes -> rows at a time, or a refusal

A processor has no clean end of its memory: the system kills whoever asks for more. So a batch that
would not fit, or whose single operations would take so long that nobody could stop them, is drawn
in parts, from the same random numbers. Other devices say that memory has run out, and are not
asked. Estimates are ``ldm.offload.sizes``' for what layers hold, times what a processor's libraries
hold besides.

Shapes: H W pixels.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from typing import Protocol

import torch

from ldm.errors import UserError
from ldm.models.diffusion.latent_diffusion import LatentSpaceDiffusion
from ldm.offload.sizes import StageSizes, measure
from ldm.pipelines.phases import half_of
from ldm.pipelines.request import Request
from ldm.processor import free_memory
from ldm.settings.samplers import SAMPLERS

GIB = 2**30  # bytes
MARGIN = 1.3
"""How far off estimates may be: so much more has to be free to draw all at once, and so much less
to draw nothing."""
COPIES = 2.3
"""What a processor takes, as a multiple of what layers hold: its libraries copy maps into layouts
of their own, and the system gets pages back late. Measured on the bundled model at 1024x1024."""
LONGEST = 4e11
"""FLOP of one layer for a batch beyond which it is drawn in parts: some seconds on few cores."""
IN_PARTS = ("text", "image", "mask")
"""What is drawn in batches that can be cut: the rows of others depend on one another."""
PROBE = 1024  # side of the matrices whose product is timed
LUCK = 2.0
"""How many times faster than such a product a model might compute, at the very most."""


class Drawer(Protocol):
    """What a run is drawn with: a ``Pipeline``, for one.

    Attributes:
        model: The hub.
        device: Where it computes.
    """

    model: LatentSpaceDiffusion
    device: torch.device


@dataclass(frozen=True)
class Room:
    """What a run takes, and what there is.

    Attributes:
        rows: How many pictures of a batch are drawn at a time.
        needed: Bytes that the largest batch would take at once, beside the model.
        free: Bytes that there are; None where nobody tells.
        seconds: What the run takes at the very least; None where nobody asked, or it is not known.
        notice: Says that a batch is drawn in parts, and why; empty if it is not.
    """

    rows: int
    needed: int = 0
    free: int | None = None
    seconds: float | None = None
    notice: str = ""


def check_room(request: Request, drawer: Drawer, *, seconds: float | None = None) -> Room:
    """Check that there is memory for a run, and time if that is limited.

    Args:
        request: What is to be drawn.
        drawer: What draws it.
        seconds: The most that the run may take; None is any time.

    Raises:
        UserError: A single picture does not fit into memory, or the run would take longer than it
            may even if this processor did its very best.
    """
    if drawer.device.type != "cpu" or request.settings.task == "tiles":  # those never see the whole
        return Room(request.rows)
    try:
        sizes = measure(drawer.model)
    except UserError:  # a UNet that is laid out in a way of its own
        return Room(request.rows)
    least = None if seconds is None else _least_seconds(request, sizes)
    if least is not None and least > seconds:
        raise UserError(
            f"{request.pictures} pictures of {request.settings.ddim_steps} steps were given, which "
            f"take {_time(least)} here at the very least; expected at most {_time(seconds)}; give "
            "fewer pictures, fewer steps or smaller ones"
        )
    each, free = _bytes_of_a_row(request, drawer, sizes), free_memory()
    rows, notice = _rows(request, each, free, sizes)
    return Room(rows, int(each * request.rows), free, least, notice)


def _rows(request: Request, each: float, free: int | None, sizes: StageSizes) -> tuple[int, str]:
    """Return how many pictures are drawn at a time, and what is to be said about it."""
    height, width = request.final_size
    wanted, what = request.rows, f"{request.rows} pictures of {width}x{height} at a time"
    if free is not None and each > MARGIN * free:
        raise UserError(
            f"a picture of {width}x{height} takes about {each / GIB:.1f} GiB of memory, and "
            f"{free / GIB:.1f} GiB are free; expected a smaller one; give smaller sides"
        )
    if request.settings.task not in IN_PARTS:
        if free is not None and each * wanted > MARGIN * free:
            raise UserError(
                f"{what} take about {each * wanted / GIB:.1f} GiB of memory, and {free / GIB:.1f} "
                "GiB are free; expected less; give a smaller --n_samples"
            )
        return wanted, ""
    fitting = wanted if free is None else max(1, int(free / (MARGIN * each)))
    positions = _positions(request)
    work = max(layer.flops(positions) for layer in sizes.layers) * request.rows_per_picture
    quick = max(1, int(LONGEST / work))
    rows = min(wanted, fitting, quick)
    if rows == wanted:
        return rows, ""
    why = f"would take about {each * wanted / GIB:.1f} of {(free or 0) / GIB:.1f} GiB"
    why = why if fitting <= quick else "would take so long for each step that nobody could stop it"
    return rows, f"{what} {why}: {rows} are drawn at a time, from the same random numbers."


def _positions(request: Request) -> int:
    """Return how many positions the latent of a picture has."""
    height, width = (side // request.settings.f for side in request.final_size)
    return height * width


def _bytes_of_a_row(request: Request, drawer: Drawer, sizes: StageSizes) -> float:
    """Estimate what a picture takes while it is drawn, beside the model."""
    precision = request.settings.precision
    half = None if precision in ("auto", "int8") else half_of(drawer.device, precision)
    shown = 3 * (4 + 4) * request.shown_size[0] * request.shown_size[1]  # float32, and as bytes
    return COPIES * max(held_by_picture(request, half, sizes)) + shown


def held_by_picture(
    request: Request, half: torch.dtype | None, sizes: StageSizes
) -> tuple[float, float]:
    """Estimate the bytes that layers hold of a picture: in its steps, and in the autoencoder.

    Args:
        request: What is drawn.
        half: The half precision that it is computed in; None is float32.
        sizes: The model's.
    """
    height, width = request.final_size
    itemsize = 4 if half is None else half.itemsize
    held = sizes.held * itemsize + sizes.work.bytes(itemsize, autocast=True)
    walk = held * request.rows_per_picture * _positions(request)
    coder = max(each.bytes(itemsize, autocast=True) for each in (sizes.decoder, sizes.encoder))
    return walk, coder * height * width


def _least_seconds(request: Request, sizes: StageSizes) -> float | None:
    """Return what a run takes at the very least; None where shortcuts make that hard to say."""
    settings = request.settings
    if settings.is_shortened or settings.takes_folder:
        return None
    positions = _positions(request)
    rows = 1 if settings.scale == 1.0 else 2
    steps = int(getattr(settings, "strength", 1.0) * settings.ddim_steps)
    if request.final_size != request.size:  # the first walk, of small pictures, is not counted
        steps = settings.hires_walk_steps
    calls = steps * SAMPLERS[settings.sampler].calls
    work = sum(layer.flops(positions) for layer in sizes.layers)
    return work * rows * calls * request.pictures / (LUCK * _speed(torch.get_num_threads()))


@functools.cache
def _speed(threads: int) -> float:  # noqa: ARG001 - which speed it is
    """Return how many FLOP this processor does in a second, in a large product of matrices."""
    a, taken = torch.ones(PROBE, PROBE), []
    for _ in range(4):
        began = time.perf_counter()
        a @ a
        taken.append(time.perf_counter() - began)
    return 2 * PROBE**3 / min(taken)


def _time(seconds: float) -> str:
    """Say a time in words.

    Example:
        >>> _time(90), _time(7200)
        ('90 s', '2.0 hours')
    """
    return f"{seconds:.0f} s" if seconds < 3600 else f"{seconds / 3600:.1f} hours"
