"""What steps.py measures, and its tables: means by sampler and calls, and the best of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

CALLS = [8, 15, 25, 50]
RUNS = [
    "ddim trailing",
    "ddim linspace",
    "plms linspace",
    "dpm_solver uniform",
    "euler karras",
    "heun karras",
    "dpm2 karras",
    "lms karras",
    "deis karras",
    "dpmpp_2m karras",
    "dpmpp_2m exponential",
    "dpmpp_2m uniform",
    "dpmpp_2m trailing",
    "dpmpp_2m sgm_uniform",
    "dpmpp_2m beta",
    "dpmpp_2m align_your_steps",
    "dpmpp_3m karras",
    "dpmpp_2s karras",
    "unipc karras",
    "unipc trailing",
    "unipc_bh2 karras",
    "unipc_bh2 align_your_steps",
    "ddpm trailing",
    "euler_a karras",
    "dpm2_a karras",
    "dpmpp_2s_a karras",
    "dpmpp_sde karras",
    "dpmpp_2m_sde karras",
    "dpmpp_2m_sde exponential",
    "dpmpp_2m_sde_heun exponential",
    "dpmpp_3m_sde exponential",
    "restart karras",
]
"""Every sampler but those of distilled models, with the spacings that suit it."""
NOISY = (
    *("ddpm", "euler_a", "dpm2_a", "dpmpp_2s_a", "dpmpp_sde", "dpmpp_2m_sde"),
    *("dpmpp_2m_sde_heun", "dpmpp_3m_sde", "restart"),
)
"""Samplers that add noise, so that their pictures have no common limit."""


class Measured(Protocol):
    """One picture's measures, see ``benchmarks.steps.Drawn``."""

    run: str
    calls: int
    psnr: float | None
    right: bool
    explained: float


@dataclass(frozen=True)
class Mean:
    """Means over pictures: PSNR in dB, shares of 0 to 1."""

    psnr: float
    right: float
    explained: float


def mean_of(drawn: Sequence[Measured], run: str, calls: int) -> Mean:
    """Return the means of a run at a number of calls; there must be some."""
    own = [each for each in drawn if (each.run, each.calls) == (run, calls)]
    psnr = [each.psnr for each in own if each.psnr is not None]
    columns = (psnr, [each.right for each in own], [each.explained for each in own])
    return Mean(*(sum(column) / len(column) for column in columns))


def is_noisy(run: str) -> bool:
    """Tell whether a run's sampler adds noise."""
    return run.partition(" ")[0] in NOISY


Means = Mapping[str, Mean]
"""By run and calls, as ``"dpmpp_2m karras 8"``."""


def flow_rows(means: Means, runs: Sequence[str], calls: Sequence[int]) -> Iterator[str]:
    """Give the lines of the table of PSNR, of the samplers without noise."""
    yield f"| PSNR to the limit, dB | {' | '.join(f'{c} calls' for c in calls)} |"
    yield "|---" * (1 + len(calls)) + "|"
    for run in runs:
        if not is_noisy(run):
            cells = [f"{means[f'{run} {c}'].psnr:.1f}" for c in calls]
            yield f"| `{run}` | {' | '.join(cells)} |"


def rows(means: Means, runs: Sequence[str], calls: Sequence[int]) -> Iterator[str]:
    """Give the lines of the table of what the oracle sees, of all samplers."""
    yield f"| right / explained, % | {' | '.join(f'{c} calls' for c in calls)} |"
    yield "|---" * (1 + len(calls)) + "|"
    for run in runs:
        found = [means[f"{run} {c}"] for c in calls]
        cells = [f"{100 * each.right:.0f} / {100 * each.explained:.1f}" for each in found]
        noise = " (noise)" if is_noisy(run) else ""
        yield f"| `{run}`{noise} | {' | '.join(cells)} |"


def best_rows(means: Means, runs: Sequence[str], calls: Sequence[int]) -> Iterator[str]:
    """Give the lines of the table of what is best at each number of calls."""
    yield "| calls | nearest to the limit | best explained without noise | with noise |"
    yield "|---" * 4 + "|"
    plain = [run for run in runs if not is_noisy(run)]
    noisy = [run for run in runs if is_noisy(run)]
    for c in calls:
        near = sorted(plain, key=lambda run: -means[f"{run} {c}"].psnr)[:3]
        cells = [", ".join(f"`{run}` {means[f'{run} {c}'].psnr:.1f} dB" for run in near) or "-"]
        for group in (plain, noisy):
            seen = sorted(group, key=lambda run: -means[f"{run} {c}"].explained)[:3]
            named = (f"`{run}` {100 * means[f'{run} {c}'].explained:.1f} %" for run in seen)
            cells.append(", ".join(named) or "-")
        yield f"| {c} | {' | '.join(cells)} |"
