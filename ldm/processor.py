"""The processor: its name, the cores that are ours, and which number format it multiplies fastest.

No rule says which format that is: bfloat16 takes half of float32's time on one processor and twice
as long on another of the same year. So two products of a UNet's kind are timed, once for each
machine, and the times are kept in the user's cache folder. Imports no torch before it is measured.
"""

from __future__ import annotations

import functools
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ldm.keeping import keep, kept
from ldm.paths import ERRORS

if TYPE_CHECKING:
    import torch

PROBE_SECONDS = 0.1  # no run is delayed by more
ROUNDS = 5
FINE = 1e-4  # seconds: a coarser clock cannot time a product
HALVES = ("bfloat16", "float16")
THREADS = "OMP_NUM_THREADS"
_TABLE = "processors"  # a shared home folder serves several machines
_MOST_ROWS = 64  # beyond so many threads the products grow no further


def cpu_name() -> str:
    """Return the processor's model name where the system tells it."""
    text = _text(Path("/proc/cpuinfo"))
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if _names_model(line)]
    return names[0] if names else platform.processor() or platform.machine()


def _names_model(line: str) -> bool:
    return line.startswith("model name") and ":" in line


def cores(root: Path = Path("/")) -> int:
    """Return how many cores this process may use: those it may run on, within its quota.

    Args:
        root: Where the system's files are.
    """
    allowed = getattr(os, "sched_getaffinity", None)
    found = len(allowed(0)) if allowed else os.cpu_count() or 1
    share = quota(root)
    # Threads wait for one another: one with a part of a core would hold up all others.
    return found if share is None else max(1, min(found, int(share)))


def quota(root: Path = Path("/")) -> float | None:
    """Return how many cores' time the process's control groups grant it; None is no limit.

    Args:
        root: Where the system's files are: both versions of control groups are read.
    """
    shares = [_share(folder) for folder in _groups(root)]
    return min((share for share in shares if share is not None), default=None)


def free_memory(root: Path = Path("/")) -> int | None:
    """Return how many bytes this process may still take; None where the system does not tell.

    What is free counts the pages of files, such as a checkpoint's, which the system gives up.

    Args:
        root: Where the system's files are.
    """
    lines = _text(root / "proc/meminfo").splitlines()
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    found += [room for folder in _groups(root, "memory") if (room := _room(folder)) is not None]
    return min(found, default=None)


def _room(folder: Path) -> int | None:
    """Return what a control group's limit of memory leaves; None is no limit."""
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        try:
            left = int(_text(folder / limit)) - int(_text(folder / used))
        except ValueError:  # "max", or no such file
            continue
        counted = _text(folder / "memory.stat").splitlines()
        files = [int(line.split()[1]) for line in counted if line.startswith("inactive_file ")]
        return max(0, left + sum(files))
    return None


def _groups(root: Path, controller: str = "cpu") -> Iterator[Path]:
    """Find the folders of the groups that the process is in, inner ones first."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, inner = line.split(":", 2)
        top = root / "sys/fs/cgroup"
        if controllers:  # version 1, which has a tree for each controller
            if controller not in controllers.split(","):
                continue
            top = top / controller
        folder = top / inner.lstrip("/")
        while folder != top and top in folder.parents:
            yield folder
            folder = folder.parent
        yield top  # a container often sees its own group there


def _share(folder: Path) -> float | None:
    given = _text(folder / "cpu.max").split() or [
        _text(folder / name).strip() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    ]
    try:
        granted, period = map(int, given)
    except ValueError:  # "max", or no such file
        return None
    return granted / period if granted > 0 and period > 0 else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except ERRORS:
        return ""


def respect_quota(root: Path = Path("/")) -> None:
    """Let a torch that is imported later use no more threads than a quota has cores for.

    It counts the cores that it may run on by itself, but knows no quota, and threads beyond that
    are all stopped together for a part of the time. A user's ``OMP_NUM_THREADS`` is left alone.
    """
    if quota(root) is not None:
        os.environ.setdefault(THREADS, str(cores(root)))


@dataclass(frozen=True)
class Ticks:
    """What the cores that this process may use have done so far, in seconds of one core.

    Attributes:
        busy: For whom ever.
        own: For this process.
        at: When that was.
    """

    busy: float
    own: float
    at: float

    @classmethod
    def now(cls, root: Path = Path("/")) -> Ticks | None:
        """Read the system's counters; None where there are none."""
        allowed = getattr(os, "sched_getaffinity", None)
        if allowed is None:
            return None
        ours, unit = {f"cpu{n}" for n in allowed(0)}, os.sysconf("SC_CLK_TCK")
        lines = [line.split() for line in _text(root / "proc/stat").splitlines()]
        # user nice system idle iowait irq softirq steal ...; guests are within user and nice.
        spent = [[*map(int, w[1:4]), *map(int, w[6:9])] for w in lines if w and w[0] in ours]
        busy = sum(map(sum, spent)) / unit
        return cls(busy, time.process_time(), time.perf_counter()) if spent else None


def taken_by_others(before: Ticks | None, after: Ticks | None) -> float:
    """Return how many of our cores other processes kept busy on average; 0 where nobody knows.

    Args:
        before: Counters at the beginning of a span of time.
        after: Those at its end.
    """
    if before is None or after is None or after.at <= before.at:
        return 0.0
    others = (after.busy - before.busy) - (after.own - before.own)
    return max(0.0, others) / (after.at - before.at)


@dataclass(frozen=True)
class Speeds:
    """Seconds that the probe's products take in each number format."""

    seconds: dict[str, float]

    def gain(self, name: str) -> float:
        """Return how many times as fast as float32 a format is; 0 if it was not measured."""
        own = self.seconds.get(name)
        return self.seconds["float32"] / own if own else 0.0

    @property
    def fastest_half(self) -> tuple[str, float]:
        """The faster of the half formats, and how many times as fast as float32 it is."""
        return max(((name, self.gain(name)) for name in HALVES), key=lambda pair: pair[1])


@functools.cache
def speeds() -> Speeds:
    """Return the probe's times on this machine: remembered ones, or measured now in 0.1 s."""
    key, table = _machine(), kept(_TABLE)
    if _is_measured(times := table.get(key)):
        return Speeds(times)
    found, complete = probe()
    if complete:
        keep(_TABLE, {**table, key: found})
    return Speeds(found)


def _machine() -> str:
    import torch

    return f"{cpu_name()}, torch {torch.__version__}, {torch.get_num_threads()} threads"


def _is_measured(times: object) -> bool:
    return (
        isinstance(times, dict)
        and "float32" in times
        and all(isinstance(each, float) and each > 0 for each in times.values())
    )


def probe(limit: float = PROBE_SECONDS) -> tuple[dict[str, float], bool]:
    """Time a product of matrices and a 3x3 convolution in each format that oneDNN computes in.

    The formats take turns. Processor time is counted, so that other programs disturb little.

    Args:
        limit: Seconds after which no further turn begins.

    Returns:
        Median seconds by format, at least float32's; and whether every turn was taken.
    """
    import torch

    now = _clock(torch.get_num_threads())
    end = now() + limit
    works = {name: _products(getattr(torch, name)) for name in ("float32", *native_halves())}
    taken: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(1 + ROUNDS):
        for name, work in works.items():
            begin = now()
            if begin > end and turn > 0:
                break
            work()
            if turn > 0:  # the first call chooses kernels
                taken[name].append(now() - begin)
    complete = all(len(each) == ROUNDS for each in taken.values())
    if not taken["float32"]:  # the machine is so busy that nothing can be said of it
        return {"float32": limit}, False
    return {name: statistics.median(each) for name, each in taken.items() if each}, complete


def _clock(threads: int) -> Callable[[], float]:
    """Return a clock of the time that the processor spends on each of this process's threads."""
    if time.get_clock_info("process_time").resolution > FINE:
        return time.perf_counter
    return lambda: time.process_time() / threads


def native_halves() -> list[str]:
    """Return the half formats that are more than emulated here."""
    import torch

    if not torch.backends.mkldnn.is_available():
        return []
    asked = {"bfloat16": "_is_mkldnn_bf16_supported", "float16": "_is_mkldnn_fp16_supported"}
    known = {name: getattr(torch.ops.mkldnn, asked[name], None) for name in HALVES}
    return [name for name, supported in known.items() if supported is not None and supported()]


def _products(dtype: torch.dtype) -> Callable[[], object]:
    """Return a function that multiplies as a UNet does: 0.24 GFLOP for each thread."""
    import torch

    rows = min(torch.get_num_threads(), _MOST_ROWS)
    a, b = (torch.ones(n, 512, dtype=dtype) for n in (128 * rows, 512))
    x, kernels = torch.ones(rows, 192, 16, 16, dtype=dtype), torch.ones(192, 192, 3, 3, dtype=dtype)

    def work() -> None:
        with torch.no_grad():
            a @ b
            torch.nn.functional.conv2d(x, kernels, padding=1)

    return work
