"""Does scripts/batch.py draw the same pictures faster with more workers, and survive kill -9?

    speed   the same job file with 1 worker and with 2, in turns
    ray     the same with Ray Data's actors, beside the same number of local processes
    chaos   kill -9 of a worker, of the driver and of a Ray actor at random moments, then go on
    faults  a full disk, a read-only folder, a job file that changes between runs

Every kind compares each picture's SHA-256 with that of an undisturbed run. --folder keeps what was
measured, so that the kinds can be run one after the other; the report shows all there is.

    python benchmarks/scale.py --n 12 --kinds speed
    python benchmarks/scale.py --folder outputs/scale --save 2026-11-30
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import reports  # noqa: E402
from benchmarks.scale_faults import faults  # noqa: E402
from benchmarks.scale_report import report  # noqa: E402
from benchmarks.scale_runs import (  # noqa: E402
    Way,
    disturbed,
    judge,
    pictures_in,
    timed,
    write_jobs,
)
from ldm.processor import cores, cpu_name  # noqa: E402

KINDS = ("speed", "ray", "chaos", "faults")
ENGINES = ("local", "torchrun", "ray")
FORMATS = ("folder", "webdataset")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="what to measure")
    add("--n", type=int, default=2000, help="pictures (default: %(default)s)")
    add("--steps", type=int, default=8, help="sampling steps (default: %(default)s)")
    add("--batch_size", type=int, default=8, help="pictures at once (default: %(default)s)")
    add("--kernels", choices=("plain", "auto"), default="plain", help="(default: %(default)s)")
    add("--repeats", type=int, default=1, help="turns of speed and ray (default: %(default)s)")
    add("--kills", type=int, default=10, help="kill -9 so often, by engine (default: %(default)s)")
    add("--engines", nargs="+", choices=ENGINES, default=["local", "ray"], help="of the chaos")
    add("--format", choices=FORMATS, default="folder", help="of the chaos (default: folder)")
    add("--seed", type=int, default=18, help="of the random moments (default: %(default)s)")
    add("--folder", type=Path, help="keep pictures and results here (default: nowhere)")
    add("--save", metavar="NAME", help="also write results/scale-NAME.md")
    args = parser.parse_args(argv)
    if min(args.n, args.steps, args.batch_size, args.repeats) < 1 or args.kills < 0:
        parser.error("--n, --steps, --batch_size and --repeats go from 1, --kills from 0")
    return args


class Bench:
    """All kinds on one job file.

    Args:
        args: The command line.
        folder: Where the job file, the pictures and what was found lie.
    """

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args, self.folder = args, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.jobs, self.log, self.notes = (
            folder / name for name in ("jobs.csv", "log.txt", "found.json")
        )
        task = {name: getattr(args, name) for name in ("n", "steps", "kernels")}
        self.found = json.loads(self.notes.read_text()) if self.notes.is_file() else {"task": task}
        if self.found["task"] != task:
            raise SystemExit(
                f"--folder {folder} holds results of {self.found['task']}, not {task}; give another"
            )
        write_jobs(self.jobs, args.n, args.steps)

    def keep(self, kind: str, value: object) -> None:
        """Note what was found, so that a later call can report it."""
        self.found[kind] = value
        self.notes.write_text(json.dumps(self.found, indent=1))

    def empty(self) -> Path:
        """Return a new folder for pictures."""
        out = self.folder / "pictures"
        shutil.rmtree(out, ignore_errors=True)
        return out

    def way(self, engine: str = "local", workers: int = 2, **more: str) -> Way:
        """Return a way to draw with the command line's batches."""
        given = {"kernels": self.args.kernels, **more}
        return Way(engine, workers, batch=self.args.batch_size, **given)

    def expected(self) -> Mapping[int, str]:
        """Return the SHA-256 of each picture, by number: drawn once, one at a time, by one worker.

        Raises:
            SystemExit: The run failed, or did not draw them all.
        """
        if "expected" not in self.found:
            out = self.empty()
            timed(Way(batch=1, kernels=self.args.kernels), self.jobs, out, self.log)
            found = dict(pictures_in(out))
            if sorted(found) != list(range(self.args.n)):
                raise SystemExit(f"the undisturbed run left {len(found)} of {self.args.n} pictures")
            self.keep("expected", found)
        return {int(number): digest for number, digest in self.found["expected"].items()}

    def compare(self, kind: str, ways: Sequence[Way]) -> None:
        """Time runs in turns, and judge what they left."""
        rows: dict[str, list[dict]] = {str(way): [] for way in ways}
        expected = self.expected()
        for _ in range(self.args.repeats):
            for way in ways:
                out = self.empty()
                once = timed(way, self.jobs, out, self.log)
                verdict = judge(pictures_in(out), expected)
                rows[str(way)].append({**asdict(once), **asdict(verdict)})
                self.keep(kind, rows)

    def speed(self) -> None:
        """One worker beside two, each of one thread."""
        self.compare("speed", [self.way(workers=1), self.way(workers=2)])

    def ray(self) -> None:
        """Two actors beside two processes."""
        self.compare("ray", [self.way("local"), self.way("ray")])

    def chaos(self) -> None:
        """Kill, engine by engine."""
        for engine in self.args.engines:
            if engine == "ray" and not _version("ray"):
                continue
            whats = ("actor" if engine == "ray" else "worker", "driver")
            way = self.way(engine, format=self.args.format)
            expected, wall = self.expected(), self.undisturbed(way)
            out, draw = self.empty(), random.Random(self.args.seed)
            chaos = disturbed(
                way, self.jobs, out, self.log, whats=whats,
                kills=self.args.kills, pause=wall / max(1, self.args.kills), draw=draw,
            )  # fmt: skip
            verdict = asdict(judge(pictures_in(out), expected))
            self.keep(f"chaos {way}", {**asdict(chaos), **verdict, "undisturbed": wall})

    def undisturbed(self, way: Way) -> float:
        """Return the seconds of a run that nobody kills, as it was timed or is timed now."""
        for kind in ("speed", "ray"):
            if runs := self.found.get(kind, {}).get(str(way)):
                return runs[0]["wall"]
        return timed(way, self.jobs, self.empty(), self.log).wall

    def faults(self) -> None:
        """A full disk, a read-only folder, another job file."""
        self.keep("faults", faults(self.way(), self.jobs, self.folder, self.expected()))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def setting(args: argparse.Namespace, argv: Sequence[str]) -> list[str]:
    """Return what the figures depend on besides the code, as lines of Markdown."""
    packages = ", ".join(
        f"{name} {_version(name) or '(not installed)'}" for name in ("torch", "ray")
    )
    return [
        f"- command: `python benchmarks/scale.py {' '.join(argv)}`",
        f"- hardware: {cpu_name()}, {cores()} cores; load average {os.getloadavg()[0]:.1f}",
        f"- versions: Python {platform.python_version()}, {packages}",
        f"- {args.n} pictures of the bundled model, {args.steps} steps, --kernels "
        f"{args.kernels}, in batches of {args.batch_size}; bytes: beside one worker, one at a time",
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and report; 1 if a picture was lost, doubled or other than undisturbed."""
    argv = sys.argv[1:] if argv is None else argv
    args = parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="scale-") as temporary:
        bench = Bench(args, args.folder or Path(temporary))
        kinds = [kind for kind in args.kinds if kind != "ray" or _version("ray")]
        for kind in kinds:
            getattr(bench, kind)()
        lines, good = report(bench.found)
    lines = [*setting(args, argv), "", *lines]
    if "ray" in args.kinds and "ray" not in kinds:
        lines.append("ray is not installed (extra [ray]): nothing of it was measured.")
    reports.tell(lines, "One job file, many workers", f"scale-{args.save}" if args.save else None)
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
