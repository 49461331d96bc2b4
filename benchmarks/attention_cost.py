"""Seconds and memory of a step under attention control, beside none, and beside none before it was.

Two pictures, a source and its edit, are drawn in the ways named below, in turns. A checkout of the
state before attention control takes part, in a process of its own: whoever controls nothing must
not pay. Weights are the bundled model's, or random ones of v1's size.

    before       no controller, in the checkout of before
    none         no controller
    store        AttentionStore, every layer of a half of the latents' sides or less
    edit         prompt-to-prompt, in steps where both of its windows hold
    eager        every layer spells its softmax out: set_attention_processor(model, eager)
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.sampling import describe_machine  # noqa: E402
from ldm.errors import UserError  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
WORKER = ROOT / "benchmarks" / "attention_cost_worker.py"
BEFORE = "75d378a"
WAYS = ("none", "store", "edit", "eager")
MOST_STEPS = 19  # with the untimed one, the shorter window of an edit: 0.4 of 50
DEMO_SIZE, FACTORS = 64, {"bundled": 4, "v1": 8}


@dataclass
class Result:
    """What was measured with one UNet, by way.

    Attributes:
        title: Which UNet, at which size.
        seconds: Of each step.
        peak: Most bytes that lived at once in the first steps, beyond the weights.
    """

    title: str
    seconds: dict[str, list[float]] = field(default_factory=dict)
    peak: dict[str, int] = field(default_factory=dict)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", nargs="+", choices=FACTORS, default=["bundled"], help="(default: bundled)")
    add("--size", type=int, help=f"pixels a side (default: bundled {DEMO_SIZE}, v1 512)")
    add("--steps", type=int, default=4, help="steps per turn (default: %(default)s)")
    add("--rounds", type=int, default=10, help="turns of each way (default: %(default)s)")
    add("--before", default=BEFORE, help="commit to compare with (default: %(default)s)")
    add("--cpu_time", action="store_true", help="count processor time alone")
    add("--save", metavar="NAME", help="also write results/attention-cost-NAME.md")
    args = parser.parse_args(argv)
    if not 1 <= args.steps <= MOST_STEPS or args.rounds < 1:
        parser.error(f"--steps goes from 1 to {MOST_STEPS}, --rounds from 1")
    if args.size is not None and (args.size < 64 or args.size % 64):
        parser.error(f"--size {args.size} given; expected a multiple of 64")
    return args


@contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """Lay out a commit's packages in a temporary folder.

    Raises:
        UserError: The commit is not there.
    """
    command = ["git", "-C", str(ROOT), "archive", commit, "ldm", "benchmarks", "configs"]
    made = subprocess.run(command, capture_output=True)
    if made.returncode:
        raise UserError(
            f"--before {commit} was given, and git has no such commit here "
            f"({made.stderr.decode().strip().splitlines()[-1]}); expected one of this repository's "
            "history; fetch it whole"
        )
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(made.stdout)) as archive:
            archive.extractall(folder, filter="data")
        (Path(folder) / "models").symlink_to(ROOT / "models")
        yield Path(folder)


class Side:
    """A process that takes steps in one checkout.

    Args:
        root: The checkout.
        name: Which UNet.
        latent: Side of the latents.
        clock: Name of a function of ``time``.
    """

    def __init__(self, root: Path, name: str, latent: int, clock: str) -> None:
        self.root = root
        # The folder of a program stands first on its path, so that the worker goes by its text.
        command = [sys.executable, "-c", WORKER.read_text(encoding="utf-8")]
        self._process = subprocess.Popen(
            [*command, name, str(latent), clock],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
        )

    def turn(self, way: str, steps: int, *, weigh: bool = False) -> Mapping:
        """Let it take a turn; return its seconds, or its peak.

        Raises:
            UserError: It ended; what it said stands on standard error.
        """
        order = json.dumps({"way": way, "steps": steps, "weigh": weigh})
        try:
            print(order, file=self._process.stdin, flush=True)
            return json.loads(self._process.stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError) as error:
            raise UserError(
                f"a side of the comparison ended during {way!r}; its error stands above; is there "
                "enough memory?"
            ) from error

    def close(self) -> None:
        """End it."""
        self._process.stdin.close()
        self._process.wait()


def measure(name: str, args: argparse.Namespace, before: Path) -> Result:
    """Let all ways take turns, after one of each that counts bytes and is not timed."""
    size = args.size or (DEMO_SIZE if name == "bundled" else 512)
    result = Result(f"{name} at {size}x{size}")
    latent, clock = size // FACTORS[name], "process_time" if args.cpu_time else "perf_counter"
    with ExitStack() as stack:
        sides = [Side(root, name, latent, clock) for root in (before, ROOT)]
        for side in sides:
            stack.callback(side.close)
        ways = [("before", sides[0], "none"), *((way, sides[1], way) for way in WAYS)]
        for title, side, way in ways:
            result.peak[title] = side.turn(way, args.steps, weigh=True)["peak"]
            result.seconds[title] = []
        for _ in range(args.rounds):
            for title, side, way in ways:
                result.seconds[title] += side.turn(way, args.steps)["seconds"]
    return result


HEADER = [
    "| way | s/step | beside none | quartiles | fastest | beside none | peak, MB | beside none |",
    "|---|---|---|---|---|---|---|---|",
]


def table(result: Result) -> list[str]:
    """Show a UNet's measurements as Markdown."""
    medians = {way: statistics.median(values) for way, values in result.seconds.items()}
    fastest = {way: min(values) for way, values in result.seconds.items()}
    lines = [f"## {result.title}", "", *HEADER]
    for way, median in medians.items():
        low, high = quartiles(result.seconds[way])
        peak, ratio = result.peak[way], median / medians["none"]
        lines.append(
            f"| {way} | {median:.4f} | **{ratio:.3f}** | {low:.4f} to {high:.4f} "
            f"| {fastest[way]:.4f} | {fastest[way] / fastest['none']:.3f} "
            f"| {peak / 1e6:.1f} | {peak / result.peak['none']:.2f} |"
        )
    return lines


def quartiles(values: list[float]) -> tuple[float, float]:
    """Return the first and the third quartile."""
    if len(values) == 1:
        return values[0], values[0]
    first, _, third = statistics.quantiles(values, method="inclusive")
    return first, third


def main(argv: list[str] | None = None) -> int:
    """Measure what the command line asks for and print it; return the exit code."""
    args = parse_args(argv)
    command = f"python benchmarks/attention_cost.py {' '.join(argv or sys.argv[1:])}".strip()
    lines = ["# Attention control: time and memory of a step", "", f"- command: `{command}`"]
    lines += [
        *describe_machine("cpu"),
        f"- before: commit {args.before}; two pictures, a source and its edit, under their prompts "
        f"alone; medians of {args.rounds} alternating turns of {args.steps} DDIM steps after an "
        "untimed one, the first of 50, in float32"
        + (", processor time: the machine had other work" if args.cpu_time else ""),
        "- other work disturbs the fastest step least; the peak is of bytes beyond the weights, by "
        "benchmarks/memory_tracker.py",
        "",
    ]
    print("\n".join(lines), flush=True)
    try:
        with checkout(args.before) as before:
            for name in args.model:
                shown = [*table(measure(name, args, before)), ""]
                print("\n".join(shown), flush=True)
                lines += shown
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    if args.save:
        RESULTS.mkdir(exist_ok=True)
        text = "\n".join(lines)
        (RESULTS / f"attention-cost-{args.save}.md").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
