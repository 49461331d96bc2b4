"""Do twenty visitors of the studio each get their own pictures, and does its memory stay?

The real studio (a process of its own, bundled model) draws for visitors on this machine, each with
a session of gradio's own client. Each recipe that comes back must say the visitor's prompt and
seed. The studio's memory is looked at after each picture; that of the first ones, in which caches
fill, does not count.

    python benchmarks/studio_load.py
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from apps.line_bot.simulate.serving import free_port  # noqa: E402
from benchmarks import reports  # noqa: E402
from benchmarks.server_load import resident  # noqa: E402

GROWTH = 0.05  # of the memory after the first pictures
FIRST = 50  # pictures whose memory does not count
COLOURS = ("red", "green", "blue", "yellow", "white")


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the flags."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--visitors", type=int, default=20)
    parser.add_argument("--pictures", type=int, default=500, help="of all visitors together")
    parser.add_argument("--steps", type=int, default=4, help="of each picture")
    parser.add_argument("--save", metavar="DATE", help="write results/studio-load-DATE.md")
    return parser.parse_args(argv)


@dataclass
class Seen:
    """What visitors saw.

    Attributes:
        memory: Bytes of the studio after each picture.
        mixed_up: Pictures that were somebody else's.
        lost: What became of runs that brought no picture.
    """

    memory: list[int] = field(default_factory=list)
    mixed_up: int = 0
    lost: list[str] = field(default_factory=list)


@contextmanager
def studio() -> Iterator[tuple[int, str]]:
    """Serve the studio; yield its process and its address."""
    with tempfile.TemporaryDirectory(prefix="studio-load-") as folder:
        port = free_port()
        process = subprocess.Popen(
            [sys.executable, "-m", "apps.studio", "--port", str(port), "--outdir", "out"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        address = f"http://127.0.0.1:{port}/"
        try:
            if not any(address in line for line in iter(process.stdout.readline, "")):
                raise RuntimeError("the studio did not start")
            yield process.pid, address
        finally:
            process.terminate()
            process.wait(60)


def first_values(client: Any, name: str) -> dict[str, Any]:
    """Return what a tab's inputs first hold, by the names of their elements.

    Args:
        client: gradio's, of the page.
        name: The tab's.
    """
    config = client.config
    inputs = next(each["inputs"] for each in config["dependencies"] if each["api_name"] == name)
    held = {each["id"]: each["props"] for each in config["components"]}
    return {str(held[n].get("elem_id") or n): held[n].get("value") for n in inputs}


def visitor(number: int, address: str, pid: int, args: argparse.Namespace, seen: Seen) -> None:
    """Draw one picture after the other, and look whether each is one's own."""
    from gradio_client import Client

    client = Client(address, verbose=False, download_files=False)
    kept, *values = first_values(client, "text").items()
    for round_ in range(args.pictures // args.visitors):
        prompt = f"a photo of a cat on a {COLOURS[number % len(COLOURS)]} background"
        seed = str(number * 10_000 + round_)
        mine = {"prompt": prompt, "seed": seed, "ddim_steps": args.steps, "n_samples": 1}
        given = dict(values) | {f"text-{name}": value for name, value in mine.items()}
        given["text-styles"] = []
        try:
            status, _, _, recipe, *_ = client.predict("", *given.values(), api_name="/text")
        except Exception as error:
            seen.lost.append(f"visitor {number}: {error}")
            continue
        if not isinstance(recipe, str) or not recipe:
            seen.lost.append(f"visitor {number}: {status}")
        elif not (recipe.startswith(prompt) and f"Seed: {seed}," in recipe):
            seen.mixed_up += 1
        seen.memory.append(resident(pid))


def measure(args: argparse.Namespace) -> Seen:
    """Let all visitors draw; return what they saw."""
    seen = Seen()
    with studio() as (pid, address):
        threads = [
            threading.Thread(target=visitor, args=(number, address, pid, args, seen))
            for number in range(args.visitors)
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    return seen


def growth(memory: Sequence[int]) -> float:
    """Return by what share memory has grown since the first pictures; 0 if there are no others.

    Example:
        >>> growth([9] * FIRST + [100] * 20 + [104] * 20)
        0.04
    """
    later = memory[FIRST:]
    part = max(1, len(later) // 10)
    if len(later) < 2:
        return 0.0
    return statistics.fmean(later[-part:]) / statistics.fmean(later[:part]) - 1.0


def report(args: argparse.Namespace, seen: Seen) -> list[str]:
    """Return what was found, in Markdown."""
    from ldm.processor import cores, cpu_name

    grown = growth(seen.memory)
    met = "met" if grown <= GROWTH and not seen.lost and not seen.mixed_up else "not met"
    most = max(seen.memory, default=0) / 2**20
    return [
        f"- hardware: {cpu_name()}, {cores()} cores; Python {sys.version.split()[0]}",
        f"- {args.visitors} visitors at once, pictures of {args.steps} steps",
        "",
        "| pictures | lost | mixed up | memory, most | growth after the first 50 | goal: 5 % |",
        "|---|---|---|---|---|---|",
        f"| {len(seen.memory)} | {len(seen.lost)} | {seen.mixed_up} | {most:.0f} MB | {grown:.1%} "
        f"| {met} |",
        *(f"\nLost: {each}" for each in seen.lost[:5]),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and show; 1 if a picture was lost or somebody else's."""
    typed = list(sys.argv[1:] if argv is None else argv)
    args = parse_args(typed)
    seen = measure(args)
    command = f"- command: `python benchmarks/studio_load.py {' '.join(typed)}`"
    save = f"studio-load-{args.save}" if args.save else None
    reports.tell([command, *report(args, seen)], "The studio under load", save)
    return int(bool(seen.mixed_up or seen.lost or not seen.memory))


if __name__ == "__main__":
    sys.exit(main())
