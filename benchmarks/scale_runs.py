"""Runs of scripts/batch.py as processes that are timed, killed and gone on with; what they left."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.processes import PAUSE, alive, descendants, draws, title

ROOT = Path(__file__).resolve().parents[1]
PICTURE = re.compile(r"(\d{8})\.png")
# What a run starts beside what draws: Ray's own processes do not count as the run's workers.
ACTOR = "ray::"


def write_jobs(path: Path, pictures: int, steps: int) -> None:
    """Write a job file: scenes of the demo's words, every picture another seed."""
    from ldm.data.demo.scene_captions import with_article
    from ldm.data.demo.scene_vocabulary import COLOURS, NOUNS

    nouns, colours = list(NOUNS), list(COLOURS)
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["prompt", "seed", "ddim_steps", "scale"])
        for number in range(pictures):
            noun, colour = nouns[number % len(nouns)], colours[number % len(colours)]
            prompt = f"{with_article(noun)} on {with_article(colour)} background"
            rows.writerow([prompt, number, steps, 3])


@dataclass(frozen=True)
class Way:
    """How a run draws.

    Attributes:
        engine: ``local``, ``torchrun`` or ``ray``.
        workers: How many processes draw.
        threads: Of each of them.
        batch: Pictures drawn at once.
        format: ``folder``, ``webdataset`` or ``parquet``.
        kernels: ``plain`` or ``auto``.
    """

    engine: str = "local"
    workers: int = 1
    threads: int = 1
    batch: int = 8
    format: str = "folder"
    kernels: str = "plain"

    def __str__(self) -> str:
        return f"{self.engine}, {self.workers} x {self.threads} thread(s), {self.format}"

    def command(self, jobs: Path, out: Path) -> list[str]:
        """Return the command line of a run."""
        start = [sys.executable]
        if self.engine == "torchrun":
            start += ["-m", "torch.distributed.run", f"--nproc_per_node={self.workers}"]
        return [
            *start, "scripts/batch.py", str(jobs), "--out", str(out), "--engine", self.engine,
            "--workers", str(self.workers), "--batch_size", str(self.batch),
            "--threads", str(self.threads), "--format", self.format, "--device", "cpu",
            "--kernels", self.kernels,
        ]  # fmt: skip


class Run:
    """One process of scripts/batch.py with all that it starts.

    Args:
        way: How it draws.
        jobs: The job file.
        out: Where its pictures go.
        log: What it writes, of all runs into that folder.
    """

    def __init__(self, way: Way, jobs: Path, out: Path, log: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.begun = time.monotonic()
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                way.command(jobs, out), cwd=ROOT, env=environment, stdout=file, stderr=file
            )

    def family(self) -> list[int]:
        """Return all processes that it has started, and itself."""
        return [self.process.pid, *descendants(self.process.pid)]

    def targets(self, what: str) -> list[int]:
        """Return the processes that can be killed as a worker, the driver or a Ray actor."""
        if what == "driver":
            return [self.process.pid]
        below = descendants(self.process.pid)
        actors = [pid for pid in below if title(pid).startswith(ACTOR)]
        if what == "actor":
            return [pid for pid in actors if draws(pid)]
        return [pid for pid in below if draws(pid) and pid not in actors]

    def kill(self, what: str, draw: random.Random) -> bool:
        """Kill one of the targets by SIGKILL; return whether there was one."""
        found = self.targets(what)
        if found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(draw.choice(found), signal.SIGKILL)
        return bool(found)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for its end, at most so long; return whether it has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
            return True
        return False

    def end(self) -> None:
        """Kill whatever is left of it."""
        family = self.family() if self.process.poll() is None else []
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


@dataclass(frozen=True)
class Timed:
    """How long a run took that nobody disturbed.

    Attributes:
        wall: Seconds of the whole process.
        drawing: Pictures per second between the first and the last file.
    """

    wall: float
    drawing: float


def timed(way: Way, jobs: Path, out: Path, log: Path) -> Timed:
    """Run to the end.

    Raises:
        SystemExit: The program failed.
    """
    run = Run(way, jobs, out, log)
    try:
        run.wait()
    finally:
        run.end()
    wall = time.monotonic() - run.begun
    if run.process.returncode:
        raise SystemExit(f"{way} failed:\n{log.read_text(errors='replace')[-3000:]}")
    return Timed(wall, rate(out))


def rate(out: Path) -> float:
    """Return pictures per second from the first file's time to the last one's; 0 if unknown."""
    times = sorted(path.stat().st_mtime for path in out.rglob("*.png"))
    if len(times) < 2 or times[0] == times[-1]:
        return 0.0
    return (len(times) - 1) / (times[-1] - times[0])


def pictures_in(out: Path) -> Iterator[tuple[int, str]]:
    """Find every finished picture with its number and SHA-256, without asking the manifest."""
    for path in sorted(out.rglob("*")):
        if match := PICTURE.fullmatch(path.name):
            yield int(match[1]), hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.suffix == ".tar":
            with tarfile.open(path) as shard:
                for member in shard:
                    if match := PICTURE.fullmatch(Path(member.name).name):
                        data = shard.extractfile(member)
                        assert data is not None
                        yield int(match[1]), hashlib.sha256(data.read()).hexdigest()


@dataclass(frozen=True)
class Verdict:
    """What a run left, beside what an undisturbed run left.

    Attributes:
        lost: Pictures that are missing.
        doubled: Pictures that are there more than once.
        different: Pictures with other bytes.
        strangers: Pictures that no line asked for.
    """

    lost: int
    doubled: int
    different: int
    strangers: int

    @property
    def good(self) -> bool:
        """Whether all is as the undisturbed run left it."""
        return not (self.lost or self.doubled or self.different or self.strangers)


def judge(found: Iterator[tuple[int, str]] | Sequence, expected: Mapping[int, str]) -> Verdict:
    """Compare pictures with those of an undisturbed run, by number and SHA-256."""
    found = list(found)
    counts = Counter(number for number, _ in found)
    return Verdict(
        lost=sum(number not in counts for number in expected),
        doubled=sum(count - 1 for count in counts.values()),
        different=sum(expected.get(number, digest) != digest for number, digest in found),
        strangers=sum(number not in expected for number in counts),
    )


@dataclass
class Chaos:
    """A run that is killed again and again until it has drawn everything.

    Attributes:
        killed: How often each was, by "worker", "driver" or "actor".
        starts: How often the program was started.
        left: Processes that draw and outlived their killed driver by a minute. (Two of Ray's agents
            do, while they try to tell its head that this is dead; then they end.)
        wall: Seconds of all runs together.
        code: What the last run ended with.
    """

    killed: dict[str, int] = field(default_factory=dict)
    starts: int = 0
    left: int = 0
    wall: float = 0.0
    code: int = 0

    @property
    def kills(self) -> int:
        """How many there were."""
        return sum(self.killed.values())


def disturbed(
    way: Way, jobs: Path, out: Path, log: Path, *,
    whats: Sequence[str], kills: int, pause: float, draw: random.Random,
) -> Chaos:  # fmt: skip
    """Run, kill at random moments, go on, until a run ends well, or badly although nobody killed.

    Args:
        way: How it draws.
        jobs, out, log: As for ``Run``.
        whats: Whom to kill, each chosen as often as the others.
        kills: How often.
        pause: Mean seconds between two kills.
        draw: Gives the moments.
    """
    chaos, begun = Chaos(), time.monotonic()
    while True:
        run, before = Run(way, jobs, out, log), chaos.kills
        chaos.starts += 1
        try:
            _haunt(run, chaos, whats, kills, pause, draw)
            run.wait()
        finally:
            run.end()
        if run.process.returncode == 0 or chaos.kills == before:
            break
    chaos.wall, chaos.code = time.monotonic() - begun, run.process.returncode
    return chaos


def _haunt(
    run: Run, chaos: Chaos, whats: Sequence[str], kills: int, pause: float, draw: random.Random
) -> None:
    """Kill until the run has ended, or often enough."""
    while chaos.kills < kills and not run.wait(draw.uniform(0.2, 1.8) * pause):
        what = whats[chaos.kills % len(whats)]
        drawing = [pid for pid in run.family()[1:] if draws(pid)]
        while not run.kill(what, draw):  # it has not come up yet
            if run.wait(PAUSE):
                return
        chaos.killed[what] = chaos.killed.get(what, 0) + 1
        if what == "driver":
            run.wait()
            chaos.left += len(alive(drawing, patience=60.0))
            return
