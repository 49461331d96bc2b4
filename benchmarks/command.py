"""From the command to pictures: whole processes, each beside the floor of importing torch.

Every measurement is a process of its own; the kinds take turns. A wall clock counts what other
programs do, CPU seconds do not.

    import torch    python -c "import torch": below this nothing can be
    help            scripts/txt2img.py --help
    step            the bundled model, one picture, one step
    six             the bundled model, six pictures by the reference's settings: DDIM, 50 steps
    six-own         the bundled model, six pictures by the settings that its YAML gives it
    first-step      a 4.27 GB checkpoint (random weights, or --ckpt): from the start of the process
                    to the end of the first step at 256x256, less the time of one step
    first-seen      the same with nothing remembered of the checkpoint: its hash is computed too
    first-packed    the same as first-step with --kernels auto: the weights are packed as well
    first-bfloat16  the same with --precision bfloat16 besides

Examples:
    python benchmarks/command.py
    python benchmarks/command.py --kinds step six --root ../another-checkout
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import reports
from benchmarks.startup import CONFIG, make_random, warm
from ldm.processor import THREADS, cores, cpu_name

ROOT = Path(__file__).resolve().parents[1]
OWN = ("scripts/txt2img.py", "--prompt", "a red car on a blue background")
DRAW = (*OWN, "--sampler", "ddim", "--ddim_steps", "50", "--scale", "3")
ONE = ("--n_samples", "1", "--n_iter", "1")
KINDS = ("import torch", "help", "step", "six", "six-own")
FIRST: dict[str, tuple[str, ...]] = {
    "first-step": (),
    "first-seen": (),
    "first-packed": ("--kernels", "auto"),
    "first-bfloat16": ("--kernels", "auto", "--precision", "bfloat16"),
}
"""Flags by kind."""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    kinds = (*KINDS, *FIRST)
    add("--kinds", nargs="+", choices=kinds, default=list(kinds), help="what to measure")
    add("--repeats", type=int, default=3, help="turns (default: 3)")
    add("--root", type=Path, default=ROOT, help="the checkout to measure (default: this one)")
    add("--ckpt", help="a v1 checkpoint (default: one of random weights is made, 4.27 GB)")
    add("--save", metavar="NAME", help="also write results/command-NAME.md")
    add("--worker", nargs=3, metavar=("BEGAN", "CKPT", "KIND"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.repeats < 1:
        parser.error("--repeats goes from 1")
    return args


def until_first_step(began: float, ckpt: str, flags: Sequence[str] = ()) -> dict[str, float]:
    """Draw two steps in this process; return the seconds until the first, less one step's.

    With them comes the most memory that the process has held, in bytes, the pages of the file that
    are mapped among it.

    Args:
        began: When the process was started, by ``time.time``.
        ckpt: The checkpoint.
        flags: More of the command line.
    """
    from ldm.pipelines.progress import Progress
    from ldm.programs.drawing import DrawingProgram
    from ldm.settings.generation import Txt2ImgSettings

    seen: list[tuple[float, float]] = []
    program = DrawingProgram(Txt2ImgSettings, "Measure.")

    def observe(event: object) -> None:
        if isinstance(event, Progress) and event.done > len(seen):
            seen.append((time.time(), time.process_time()))

    program.console.observe = observe
    with tempfile.TemporaryDirectory() as outdir:
        on = ("--device", "cpu")
        more = ("--H", "256", "--W", "256", "--ddim_steps", "2", "--outdir", outdir)
        program.main(["--ckpt", ckpt, "--config", str(CONFIG), *ONE, *more, *flags, *on])
    (wall, cpu), (next_wall, next_cpu) = seen[:2]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"wall": wall - began - (next_wall - wall), "cpu": cpu - (next_cpu - cpu), "peak": peak}


def command_of(kind: str, outdir: str, ckpt: str) -> list[str]:
    """Return the arguments of Python for a measurement."""
    if kind == "import torch":
        return ["-c", "import torch"]
    if kind == "help":
        return [DRAW[0], "--help"]
    if kind in FIRST:
        return ["benchmarks/command.py", "--worker", repr(time.time()), ckpt, kind]
    draw = OWN if kind == "six-own" else DRAW
    return [*draw, "--outdir", outdir, *((*ONE, "--ddim_steps", "1") if kind == "step" else ())]


def measure(kind: str, root: Path, ckpt: str) -> dict[str, float]:
    """Run a process; return its wall and CPU seconds.

    Raises:
        SystemExit: It failed.
    """
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with tempfile.TemporaryDirectory() as outdir:
        command = [sys.executable, *command_of(kind, outdir, ckpt)]
        env = {**os.environ, "PYTHONPATH": str(root)}
        if kind == "first-seen":
            env["XDG_CACHE_HOME"] = outdir  # an empty one
        done = subprocess.run(
            command, cwd=root, env=env, capture_output=True, text=True, check=False
        )
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{kind} failed:\n{done.stderr}")
    if kind in FIRST:
        return json.loads(done.stdout.splitlines()[-1])
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": wall, "cpu": cpu}


def take_turns(args: argparse.Namespace, ckpt: str) -> dict[str, list[dict[str, float]]]:
    """Measure every kind in each turn, after one turn that fills caches and is not counted."""
    runs: dict[str, list[dict[str, float]]] = {kind: [] for kind in args.kinds}
    for turn in range(1 + args.repeats):
        for kind, found in runs.items():
            if kind in FIRST:
                warm(Path(ckpt))
            once = measure(kind, args.root.resolve(), ckpt)
            if turn:
                found.append(once)
    return runs


def report(args: argparse.Namespace, runs: dict[str, list[dict[str, float]]]) -> list[str]:
    """Return the lines of the report, with medians."""
    import torch

    lines = [
        f"- hardware: {cpu_name()}, {cores()} cores, {THREADS}={os.environ.get(THREADS, '-')}; "
        f"load average {os.getloadavg()[0]:.1f} (above the cores, compare CPU seconds)",
        f"- versions: Python {platform.python_version()}, torch {torch.__version__}",
        f"- medians of {args.repeats} turns",
        "",
        "| process | wall, s | CPU, s | peak memory, GiB |",
        "|---|---|---|---|",
    ]
    for kind, found in runs.items():
        wall, cpu = (statistics.median(run[key] for run in found) for key in ("wall", "cpu"))
        peaks = [run["peak"] / 2**30 for run in found if "peak" in run]
        peak = f"{statistics.median(peaks):.2f}" if peaks else ""
        lines.append(f"| {kind} | {wall:.2f} | {cpu:.2f} | {peak} |")
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for and print it; return the exit code."""
    args = parse_args(argv)
    if args.worker:
        began, ckpt, kind = args.worker
        print(json.dumps(until_first_step(float(began), ckpt, FIRST[kind])))
        return 0
    with tempfile.TemporaryDirectory(prefix="command-") as folder:
        ckpt = args.ckpt or f"{folder}/random.ckpt"
        if set(FIRST) & set(args.kinds) and args.ckpt is None:
            make_random(str(CONFIG), folder)
            Path(folder, "random.safetensors").unlink()
        lines = report(args, take_turns(args, ckpt))
    save = f"command-{args.save}" if args.save else None
    reports.tell(lines, "From the command to pictures", save)
    return 0


if __name__ == "__main__":
    sys.exit(main())
