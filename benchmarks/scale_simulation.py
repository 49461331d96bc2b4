"""How much work do failures cost on many GPUs, and how often should pictures be made sure of?

A simulation of events, no measurement: gangs of GPUs take intervals of pictures from one queue; an
interval is sure when it is drawn and recorded. A gang fails at random and begins its open interval
again after a recovery; when the head node fails, all of them do. A gang of 1 GPU is a worker of
scripts/batch.py; one of all GPUs is a training run, whose steps take the place of pictures and
whose intervals end with a checkpoint.

    python benchmarks/scale_simulation.py
    python benchmarks/scale_simulation.py --mtbf 24 --intervals 100 1000 10000
    python benchmarks/scale_simulation.py --gang 512 --pictures 500000 --seconds 1 --flush 30
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass

HOUR = 3600.0
FOREVER = 1e15  # seconds
MOST_TRIES = 5  # intervals as long as so many means of failing end once in 150 times
LEAPS = 4  # while the queue is long a gang takes a share of it at once: fewer events, same numbers


@dataclass(frozen=True)
class Plant:
    """What is simulated; all times in seconds.

    Attributes:
        pictures: How many are wanted.
        gangs: Groups of GPUs that work, and fail, together.
        seconds: Of one gang for one picture.
        interval: Pictures between two moments at which all before is sure.
        flush: What making an interval sure takes.
        mtbf: Mean time between failures of a gang.
        recovery: From a gang's failure until it draws again.
        head_mtbf: Mean time between failures of the head node, which stop all gangs.
        head_recovery: From the head's failure until all gangs draw again.
    """

    pictures: int
    gangs: int
    seconds: float
    interval: int
    flush: float
    mtbf: float
    recovery: float
    head_mtbf: float
    head_recovery: float

    @property
    def turn(self) -> float:
        """Seconds of an interval with all that makes it sure."""
        return self.interval * self.seconds + self.flush

    @property
    def mean(self) -> float:
        """Seconds until a gang is stopped, by its own failure or the head's."""
        return 1 / (1 / self.mtbf + 1 / self.head_mtbf)

    @property
    def turns(self) -> int:
        """How many intervals there are."""
        return math.ceil(self.pictures / self.interval)


@dataclass
class Outcome:
    """What came of a run.

    Attributes:
        seconds: From its begin to the last picture.
        failures: Of gangs.
        head_failures: Of the head node.
        repeated: Pictures that were drawn, not yet sure, and drawn again.
        lost: Gang-seconds spent on intervals that did not end.
        recovering: Gang-seconds from failures until the gangs drew again.
        flushing: Gang-seconds of making sure, of intervals that ended.
        idle: Gang-seconds at the end, when the queue was empty.
    """

    seconds: float = 0.0
    failures: int = 0
    head_failures: int = 0
    repeated: int = 0
    lost: float = 0.0
    recovering: float = 0.0
    flushing: float = 0.0
    idle: float = 0.0


class Simulation:
    """One run of a plant; its random moments follow from the seed.

    Example:
        >>> calm = Plant(100, 2, 1.0, 10, 0.0, FOREVER, 0.0, FOREVER, 0.0)
        >>> Simulation(calm, seed=0).run().seconds
        50.0
    """

    def __init__(self, plant: Plant, seed: int) -> None:
        self.plant, self.outcome = plant, Outcome()
        self.random = random.Random(seed)
        self.queue = plant.turns  # intervals that nobody has taken
        self.now = self.last = 0.0
        self.fails = [self._moment(plant.mtbf) for _ in range(plant.gangs)]
        self.head_fails = self._moment(plant.head_mtbf)
        self.begun = [0.0] * plant.gangs
        self.taken = [0] * plant.gangs
        self.waiting: set[int] = set()  # gangs that found the queue empty
        self.events: list[tuple[float, int]] = [(0.0, gang) for gang in range(plant.gangs)]

    def run(self) -> Outcome:
        """Go on until every interval is sure."""
        while self.events:
            moment, gang = self.events[0]
            if self.head_fails <= moment:
                self._lose_head()
                continue
            heapq.heappop(self.events)
            self.now = moment
            if self.taken[gang] and moment < self._ends(gang):
                self._lose(gang)
            else:
                self._finish(gang)
                self._take(gang)
        outcome, plant = self.outcome, self.plant
        outcome.seconds = self.last
        busy = plant.turns * plant.turn + outcome.lost + outcome.recovering
        outcome.idle = max(0.0, plant.gangs * self.last - busy)
        return outcome

    def _moment(self, mean: float) -> float:
        return self.now + self.random.expovariate(1 / mean)

    def _ends(self, gang: int) -> float:
        return self.begun[gang] + self.taken[gang] * self.plant.turn

    def _finish(self, gang: int) -> None:
        """Count what a gang has made sure of."""
        if self.taken[gang]:
            self.outcome.flushing += self.taken[gang] * self.plant.flush
            self.last = max(self.last, self.now)
            self.taken[gang] = 0

    def _take(self, gang: int) -> None:
        """Give a gang its next intervals; while others still have some it waits for theirs."""
        if not self.queue:
            self.waiting.add(gang)
            return
        if self.fails[gang] <= self.now:  # it failed while it had nothing to do
            self.fails[gang] = self._moment(self.plant.mtbf)
        share = max(1, self.queue // (LEAPS * self.plant.gangs))
        self.queue -= share
        self.begun[gang], self.taken[gang] = self.now, share
        heapq.heappush(self.events, (min(self._ends(gang), self.fails[gang]), gang))

    def _lose(self, gang: int) -> None:
        """A gang fails in the middle of an interval."""
        self.outcome.failures += 1
        self._interrupt(gang)
        self._resume(gang, self.plant.recovery)
        self.fails[gang] = self.plant.recovery + self._moment(self.plant.mtbf)

    def _lose_head(self) -> None:
        """The head node fails: every gang stops and starts again with it."""
        self.now = self.head_fails
        self.outcome.head_failures += 1
        stopped = [*self.events, *((self.now, gang) for gang in sorted(self.waiting))]
        self.waiting.clear()
        self.events.clear()
        for moment, gang in stopped:
            if self.taken[gang]:
                self._interrupt(gang)
            else:  # its own recovery is cut short by the common one
                self.outcome.recovering -= moment - self.now
            self._resume(gang, self.plant.head_recovery)
        self.head_fails = self._moment(self.plant.head_mtbf)

    def _interrupt(self, gang: int) -> None:
        """Keep what is sure of a gang's intervals, give the others back."""
        plant, spent = self.plant, self.now - self.begun[gang]
        sure = min(self.taken[gang], int((spent + 1e-9) / plant.turn))
        open_for = spent - sure * plant.turn
        self.outcome.lost += open_for
        self.outcome.repeated += min(plant.interval, int(open_for / plant.seconds))
        self.queue += self.taken[gang] - sure
        self.taken[gang] = sure
        self._finish(gang)
        for other in self.waiting:
            heapq.heappush(self.events, (self.now, other))
        self.waiting.clear()

    def _resume(self, gang: int, after: float) -> None:
        self.outcome.recovering += after
        heapq.heappush(self.events, (self.now + after, gang))


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--pictures", type=int, default=100_000_000, help="(default: %(default)s)")
    add("--gpus", type=int, default=512, help="(default: %(default)s)")
    add("--gang", type=int, default=1, help="GPUs that fail together (default: %(default)s)")
    add("--seconds", type=float, default=1.0, help="of one gang for a picture (default: 1)")
    add("--intervals", type=int, nargs="+", default=[10, 100, 1000, 10_000, 100_000],
        help="pictures between two moments at which all before is sure")  # fmt: skip
    add("--flush", type=float, default=0.1, help="seconds to make an interval sure (default: 0.1)")
    # Llama 3's training, arXiv:2407.21783: 419 unexpected stops in 54 days of 16,384 GPUs.
    add("--mtbf", type=float, default=50_000.0, help="hours of one GPU (default: 50000)")
    add("--recovery", type=float, default=300.0, help="seconds after a gang's (default: 300)")
    add("--head_mtbf", type=float, default=2000.0, help="hours of the head node (default: 2000)")
    add(
        "--head_recovery", type=float, default=900.0, help="seconds after the head's (default: 900)"
    )
    add("--repeats", type=int, default=20, help="runs of an interval (default: 20)")
    add("--seed", type=int, default=18, help="of all random moments (default: 18)")
    args = parser.parse_args(argv)
    counts = (args.pictures, args.gpus, args.gang, args.repeats, *args.intervals)
    times = (args.seconds, args.mtbf, args.head_mtbf)
    if min(counts) < 1 or min(times) <= 0 or min(args.flush, args.recovery, args.head_recovery) < 0:
        parser.error("counts go from 1, --seconds and the means are above 0, other times from 0")
    if args.gpus % args.gang:
        parser.error(f"--gpus {args.gpus} is no multiple of --gang {args.gang}")
    for interval in args.intervals:
        plant = plant_of(args, interval)
        if plant.turn > MOST_TRIES * plant.mean:
            parser.error(
                f"an interval of {interval} pictures takes {plant.turn:.0f} s, a gang or the head "
                f"fails every {plant.mean:.0f} s: it would hardly ever end; give shorter ones"
            )
    return args


def plant_of(args: argparse.Namespace, interval: int) -> Plant:
    """Return what the command line describes, with intervals of so many pictures."""
    return Plant(
        args.pictures, args.gpus // args.gang, args.seconds, interval, args.flush,
        args.mtbf * HOUR / args.gang, args.recovery, args.head_mtbf * HOUR, args.head_recovery,
    )  # fmt: skip


def row(args: argparse.Namespace, plant: Plant) -> str:
    """Simulate and return the line of the table: means, and the longest run."""
    found = [Simulation(plant, args.seed + turn).run() for turn in range(args.repeats)]

    def mean(name: str) -> float:
        return statistics.fmean(getattr(one, name) for one in found)

    total = mean("seconds") * plant.gangs
    useful = plant.pictures * plant.seconds / total
    shares = [mean(name) / total for name in ("lost", "recovering", "flushing", "idle")]
    longest = max(one.seconds for one in found) / HOUR
    cells = [
        f"{plant.interval:,}", f"{plant.turn:,.0f}", f"{mean('seconds') / HOUR:,.2f}",
        f"{longest:,.2f}", f"{mean('failures'):,.1f}", f"{mean('head_failures'):,.1f}",
        f"{mean('repeated'):,.0f}", *(f"{share:.3%}" for share in shares), f"{useful:.2%}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def report(args: argparse.Namespace) -> list[str]:
    """Return the table as lines of Markdown."""
    plants = [plant_of(args, interval) for interval in args.intervals]
    best = math.sqrt(2 * plants[0].flush * plants[0].mean) / plants[0].seconds
    names = (
        "interval, pictures", "interval, s", "hours", "longest run", "failures", "of the head",
        "pictures repeated", "lost", "recovering", "making sure", "idle at the end", "useful",
    )  # fmt: skip
    return [
        f"{args.pictures:,} pictures of {args.seconds:g} s on {plants[0].gangs:,} gangs of "
        f"{args.gang} GPU(s); a GPU fails every {args.mtbf:,g} h, the head every "
        f"{args.head_mtbf:,g} h; recovery {args.recovery:g} s and {args.head_recovery:g} s; making "
        f"sure {args.flush:g} s; means of {args.repeats} runs, --seed {args.seed}",
        "",
        f"| {' | '.join(names)} |",
        f"|{'---|' * len(names)}",
        *(row(args, plant) for plant in plants),
        "",
        f"Shares are of all GPU time. The first-order best interval, sqrt(2 x making sure x mean "
        f"time to failure), is {best:,.0f} pictures.",
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Simulate and print the table; return the exit code."""
    sys.stdout.write("\n".join(report(parse_args(argv))) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
