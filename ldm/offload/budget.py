"""Estimate the memory of plans, and choose the fastest that fits, before anything is loaded.

    measure(model) -> sizes;  choose(sizes, budget) -> settings;  out of memory: tighter(settings)

An estimate is the maximum over three phases: text, UNet, autoencoder. Each counts the weights that
the policy has on the device in it, and the activations. All sizes are in bytes, without the
device's own needs (CUDA's context).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch

from ldm.errors import UserError
from ldm.models.tiling.strips import STRIP
from ldm.offload.settings import POLICIES, PlanSettings
from ldm.offload.sizes import Activations, StageSizes, measure
from ldm.offload.stages import STAGES, UNET
from ldm.offload.streaming import SLOTS

__all__ = [
    "StageSizes",
    "choose",
    "describe",
    "estimate",
    "free_memory",
    "measure",
    "tighter",
]

WORKSPACE = 2**25
"""Bytes for the tables of the device's libraries, and for the sampler's states."""
STRIPS = 8.0
"""Memory of the autoencoder when it works in strips, as a number of strips."""
STRIPS_BESIDE_KEYS = 6.5
"""The same in its attention, without the keys and values of the whole map."""
GIB = 2**30

_POLICY_WORDS = {
    "resident": "everything resident",
    "turbo": "both halves resident",
    "four-part": "halves swapped",
    "stream": "layers streamed",
}
_TIGHTER_WORDS = {
    "turbo": "the text encoder and the autoencoder now leave the device after use",
    "four-part": "the halves of the UNet now take turns on the device",
    "stream": "the layers of the UNet now come one by one",
}
_DTYPE_WORDS = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32"}


@dataclass(frozen=True)
class _Demand:
    """The pictures to draw, as far as memory depends on them.

    Attributes:
        height: Of the pictures, in pixels.
        width: The same.
        rows: Rows of the UNet's batch.
        itemsize: Bytes per element while computing.
        autocast: Norms are in float32 even if the rest is in half precision.
    """

    height: int
    width: int
    rows: int
    itemsize: int
    autocast: bool

    def bytes(self, activations: Activations) -> float:
        return activations.bytes(self.itemsize, self.autocast)


def estimate(
    sizes: StageSizes,
    settings: PlanSettings,
    *,
    height: int,
    width: int,
    rows: int,
    itemsize: int,
    autocast: bool = True,
) -> int:
    """Return the peak memory of a run on the device, in bytes.

    Args:
        sizes: The model's sizes, in the precision of the run.
        settings: How it is run.
        height: Of the pictures, in pixels.
        width: The same.
        rows: Pictures in a batch, times 2 with guidance.
        itemsize: Bytes per element while computing: 2 in half precision, else 4.
        autocast: Half precision comes from autocast, which keeps norms in float32.
    """
    return _estimate(sizes, settings, _Demand(height, width, rows, itemsize, autocast))


def _estimate(sizes: StageSizes, settings: PlanSettings, demand: _Demand) -> int:
    weights = _weights(sizes, settings)
    phases = (
        weights["text"] + demand.rows * sizes.text * demand.itemsize,
        weights["unet"] + _unet_activations(sizes, settings, demand),
        weights["autoencoder"] + _autoencoder_activations(sizes, settings, demand),
    )
    return int(max(phases)) + sizes.common + WORKSPACE


def _weights(sizes: StageSizes, settings: PlanSettings) -> dict[str, int]:
    """Return the bytes of weights on the device in each phase."""
    halves = [sizes.stages[half] for half in UNET]
    if settings.policy == "resident":
        return dict.fromkeys(("text", "unet", "autoencoder"), sum(sizes.stages.values()))
    if settings.policy == "turbo":
        unet = sum(halves)
    elif settings.policy == "four-part":
        unet = max(halves)
    else:
        stay, travel = [], [0]
        for layer in sizes.layers:
            (stay if layer.name in settings.resident_blocks else travel).append(layer.nbytes)
        unet = sum(stay) + SLOTS * max(travel)
    return {**{stage: sizes.stages[stage] for stage in STAGES}, "unet": unet}


def _unet_activations(sizes: StageSizes, settings: PlanSettings, demand: _Demand) -> float:
    positions = demand.height * demand.width // sizes.factor**2
    at_once = min(demand.rows, settings.unet_rows or demand.rows)
    held = sizes.held
    in_turn = settings.policy == "stream" and at_once < demand.rows
    if in_turn and sizes.rows_meet_in_layers(demand.rows, positions, demand.itemsize):
        held += sizes.between
    return positions * (demand.rows * held * demand.itemsize + at_once * demand.bytes(sizes.work))


def _autoencoder_activations(sizes: StageSizes, settings: PlanSettings, demand: _Demand) -> float:
    """Return the memory of the autoencoder for one picture, plus that of the finished pictures."""
    pixels = demand.height * demand.width
    half = max(demand.bytes(sizes.decoder), demand.bytes(sizes.encoder)) * pixels
    done = demand.rows * 3 * pixels * demand.itemsize
    if settings.tiled_decode and sizes.middle:
        keys = 2 * sizes.middle * pixels / sizes.factor**2
        strips = max(STRIPS * STRIP, STRIPS_BESIDE_KEYS * STRIP + keys) * demand.itemsize
        # Maps no larger than a strip stay on the device, in addition to their strips.
        half = min(1.5 * half, strips)
    return half + done


def choose(
    sizes: StageSizes,
    *,
    height: int,
    width: int,
    rows: int,
    itemsize: int,
    budget: int | None,
    turbo: bool = False,
    unet_bs: int | None = None,
    autocast: bool = True,
) -> PlanSettings:
    """Choose the fastest settings that fit.

    Settings are faster the less they move and the more they compute at a time. In this order:
    policies in the order of ``POLICIES``, then many rows, then decoding in one piece. Memory that a
    streaming plan leaves free goes to resident layers, those with the most work per byte first.

    Args:
        sizes: The model's sizes, in the precision of the run.
        height: See ``estimate``.
        width: See ``estimate``.
        rows: See ``estimate``.
        itemsize: See ``estimate``.
        budget: Bytes to stay within; None if memory does not matter: the halves are then swapped,
            or both kept with ``turbo``.
        turbo: Only policies that keep the UNet on the device while sampling.
        unet_bs: Most rows of the UNet at a time; None for no limit.
        autocast: See ``estimate``.

    Raises:
        UserError: Nothing fits, or ``unet_bs`` is below 1.
    """
    demand = _Demand(height, width, rows, itemsize, autocast)
    if unet_bs is not None and unet_bs < 1:
        raise UserError(f"unet_bs {unet_bs} given; expected 1 row or more; leave it out")
    if budget is None:
        return PlanSettings("turbo" if turbo else "four-part", next(_row_counts(rows, unet_bs)))
    plans = list(_plans(rows, turbo, unet_bs))

    def fits(settings: PlanSettings) -> bool:
        return _estimate(sizes, settings, demand) <= budget

    found = next(filter(fits, plans), None)
    if found is None:
        raise _nothing_fits(sizes, plans, demand, budget, turbo)
    return _with_residents(sizes, found, demand, fits) if found.policy == "stream" else found


def _plans(rows: int, turbo: bool, unet_bs: int | None) -> Iterator[PlanSettings]:
    """Yield the possible settings, fastest first."""
    for policy in POLICIES[: 2 if turbo else None]:
        for count in _row_counts(rows, unet_bs):
            for tiled in (False, True):
                yield PlanSettings(policy, count, tiled)


def _row_counts(rows: int, most: int | None) -> Iterator[int | None]:
    """Yield numbers of rows at a time: as many as allowed, then half of that, down to 1."""
    count = min(rows, most or rows)
    while count >= 1:
        yield None if count == rows else count
        count //= 2


def _with_residents(
    sizes: StageSizes,
    settings: PlanSettings,
    demand: _Demand,
    fits: Callable[[PlanSettings], bool],
) -> PlanSettings:
    """Make layers resident while they fit, those with the most work per byte first."""
    positions = demand.height * demand.width // sizes.factor**2
    weighty = [layer for layer in sizes.layers if layer.nbytes]
    for layer in sorted(weighty, key=lambda layer: -layer.flops(positions) / layer.nbytes):
        more = replace(settings, resident_blocks=settings.resident_blocks | {layer.name})
        settings = more if fits(more) else settings
    return settings


def _nothing_fits(
    sizes: StageSizes, plans: list[PlanSettings], demand: _Demand, budget: int, turbo: bool
) -> UserError:
    need, least = min(((_estimate(sizes, p, demand), p) for p in plans), key=lambda pair: pair[0])
    what = f"pictures of {demand.width}x{demand.height}, {demand.rows} rows of the UNet in a batch,"
    way = f"the smallest plan ({', '.join(_plan_words(least, sizes))}) takes {_amount(need)}"
    advice = "leave turbo out, or " if turbo else ""
    return UserError(
        f"{what} do not fit into {_amount(budget)} of memory; {way}; give that much, {advice}"
        "draw fewer pictures at a time or smaller ones"
    )


def tighter(settings: PlanSettings, *, rows: int | None = None) -> tuple[PlanSettings, str] | None:
    """Return the next settings to try after running out of memory.

    First fewer rows of the UNet at a time, then decoding in strips, then the next policy, then no
    resident blocks.

    Args:
        settings: The settings that ran out of memory.
        rows: Rows of the UNet's batch, if known; else the step after all rows is one row.

    Returns:
        The settings and what has changed, in words for the user; None if nothing is left to try.
    """
    count = settings.unet_rows or rows or 2
    if count > 1 and rows != 1:
        fewer = count // 2
        counted = "1 row" if fewer == 1 else f"{fewer} rows"
        return replace(settings, unet_rows=fewer), f"the UNet now takes {counted} at a time"
    if not settings.tiled_decode:
        return replace(settings, tiled_decode=True), "the autoencoder now works in strips"
    if settings.policy != POLICIES[-1]:
        policy = POLICIES[POLICIES.index(settings.policy) + 1]
        return replace(settings, policy=policy), _TIGHTER_WORDS[policy]
    if settings.resident_blocks:
        return replace(settings, resident_blocks=frozenset()), "no layer of the UNet stays now"
    return None


def free_memory(device: torch.device) -> int | None:
    """Return the bytes of a CUDA device that torch can still allocate; None for other devices."""
    if device.type != "cuda":
        return None
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


def describe(
    settings: PlanSettings,
    sizes: StageSizes,
    *,
    estimate: int,
    available: int | None,
    dtype: torch.dtype,
) -> str:
    """Describe in one line how a model is run.

    Args:
        settings: The settings of the run.
        sizes: The model's sizes.
        estimate: Bytes that the run is expected to take.
        available: Bytes available, None if unknown.
        dtype: Element type of the weights.

    Returns:
        Such as ``UNet fp16, halves swapped, VAE tiled, estimated 1.1 of 5.6 GiB``.
    """
    words = [f"UNet {_DTYPE_WORDS.get(dtype, str(dtype))}", *_plan_words(settings, sizes)]
    limit = "" if available is None else f" of {_gib(available)}"
    return ", ".join([*words, f"estimated {_gib(estimate)}{limit} GiB"])


def _plan_words(settings: PlanSettings, sizes: StageSizes) -> list[str]:
    words = [_POLICY_WORDS[settings.policy]]
    if settings.resident_blocks:
        kept = [layer for layer in sizes.layers if layer.name in settings.resident_blocks]
        amount = _amount(sum(layer.nbytes for layer in kept))
        words.append(f"{len(kept)} of {len(sizes.layers)} kept ({amount})")
    if settings.unet_rows is not None:
        counted = "1 row" if settings.unet_rows == 1 else f"{settings.unet_rows} rows"
        words.append(f"{counted} at a time")
    return [*words, "VAE tiled"] if settings.tiled_decode else words


def _gib(size: int) -> str:
    return f"{size / GIB:.1f}"


def _amount(size: int) -> str:
    return f"{_gib(size)} GiB" if size >= GIB else f"{-(-size // 2**20)} MiB"
