"""How much of the model's speed is left under many clients of the server, and who waits how long?

First pictures are drawn offline, in the best of several batch sizes, files included. Then the real
server (a process of its own, bundled model) draws the same jobs for clients on this machine that
ask all the time. Each answer must be its asker's own: its recipe says the job's prompt, seed and
scale, and the same job has the same bytes every time. The server's memory is looked at as it goes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import reports  # noqa: E402
from benchmarks.server_clients import Client, Seen, jobs  # noqa: E402

GOAL = 0.85  # of the best offline rate
LOOK = 1.0  # seconds between looks at the server's memory
KEYS = 5  # clients share so many


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the flags."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long they ask")
    parser.add_argument("--steps", type=int, default=8, help="of each picture")
    parser.add_argument("--batch_size", type=int, default=8, help="of the server")
    parser.add_argument(
        "--offline_sizes", type=int, nargs="+", default=[1, 2, 4, 8, 16], help="batch sizes tried"
    )
    parser.add_argument(
        "--offline_seconds", type=float, default=20.0, help="how long each of them is measured"
    )
    parser.add_argument("--ckpt", default=None, help="default: the model that txt2img takes")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="autocast")
    parser.add_argument("--kernels", default="plain")
    parser.add_argument("--seed", type=int, default=0, help="of the clients' choices")
    parser.add_argument("--save", metavar="DATE", help="write results/server-load-DATE.md")
    parser.add_argument("--offline", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def offline(args: argparse.Namespace) -> dict[int, float]:
    """Draw as a program would that has the whole list; return pictures a second by batch size."""
    from apps.server.asking import fixed_by
    from apps.server.drawing import load_drawer, model_for
    from apps.server.settings import ServerSettings

    chosen = {name: getattr(args, name) for name in ("ckpt", "device", "precision", "kernels")}
    settings = ServerSettings(**chosen)
    drawer = load_drawer(model_for(settings), settings, lambda _: None)
    fixed, draw = fixed_by(settings), random.Random(args.seed)
    pool = jobs(args.steps, draw)
    return {
        size: _rate(drawer, fixed, pool, size, args.offline_seconds) for size in args.offline_sizes
    }


def _rate(drawer, fixed, pool, size: int, seconds: float) -> float:
    from concurrent.futures import ThreadPoolExecutor

    from apps.server.asking import settings_of
    from apps.server.drawing import single
    from ldm.images.io import encode_picture

    def file_of(finish) -> None:
        picture = finish()
        encode_picture(picture.pixels, "png", picture.parameters)

    def batch(start: int) -> None:
        chosen = [pool[(start + n) % len(pool)] for n in range(size)]
        requests = [drawer.prepare(single(settings_of(job, fixed=fixed))[0]) for job in chosen]
        for _, finish in drawer.draw(requests, lambda _: None):
            encoders.submit(file_of, finish)

    drawn = 0
    with ThreadPoolExecutor(2) as encoders:
        batch(0)  # finds out about this size, and warms up
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            batch(drawn)
            drawn += size
    return drawn / (time.monotonic() - began)


def offline_in_its_own_process(argv: Sequence[str]) -> dict[int, float]:
    """Return what ``offline`` measures, leaving none of its memory here."""
    command = [sys.executable, str(Path(__file__)), *argv, "--offline"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8")
    words = done.stdout.split()
    return {int(size): float(rate) for size, rate in zip(words[::2], words[1::2], strict=True)}


@dataclass
class ServerProcess:
    """The real server in a process of its own.

    Attributes:
        process: It.
        port: Where it listens.
        memory: Seconds since the beginning, and bytes in memory then.
    """

    process: subprocess.Popen
    port: int
    memory: list[tuple[float, int]] = field(default_factory=list)

    def look(self, begun: float, stop: threading.Event) -> None:
        """Note its memory until ``stop``."""
        while not stop.wait(LOOK):
            self.memory.append((time.monotonic() - begun, resident(self.process.pid)))


def resident(pid: int) -> int:
    """Return the bytes that a process has in memory; 0 where the system does not tell."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def server(args: argparse.Namespace) -> Iterator[ServerProcess]:
    """Start the server and wait until it takes jobs; end it by SIGTERM."""
    digests = [f"key{n}:{hashlib.sha256(secret(n).encode()).hexdigest()}" for n in range(KEYS)]
    flags = ["--port", "0", "--batch_size", str(args.batch_size), "--device", args.device]
    flags += ["--precision", args.precision, "--kernels", args.kernels, "--grace", "10"]
    flags += ["--ckpt", args.ckpt] if args.ckpt else []
    process = subprocess.Popen(
        [sys.executable, "-m", "apps.server", *flags],
        cwd=ROOT,
        env={**os.environ, "LDM_SERVER_KEYS": " ".join(digests)},
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    try:
        port, loaded = 0, False
        while not (port and loaded):
            line = process.stdout.readline()
            if not line:
                raise RuntimeError("the server did not start")
            if line.startswith("http://"):
                port = int(line.split()[0].rpartition(":")[2])
            loaded = loaded or line.startswith("The model is loaded")
        yield ServerProcess(process, port)
    finally:
        process.terminate()
        process.wait(60)


def secret(number: int) -> str:
    """Return a client's key, which opens this run's server only."""
    return f"load test {number % KEYS}"


def measure(args: argparse.Namespace) -> tuple[Seen, ServerProcess]:
    """Let clients ask for the whole time; return what they and the server saw."""
    seen, stop = Seen(), threading.Event()
    with server(args) as served:
        pool = jobs(args.steps, random.Random(args.seed))
        begun = time.monotonic()
        until = begun + args.minutes * 60.0
        clients = [
            Client(served.port, secret(n), pool, seen, until, begun, random.Random(args.seed + n))
            for n in range(args.clients)
        ]
        watching = threading.Thread(target=served.look, args=(begun, stop))
        threads = [threading.Thread(target=client.run) for client in clients]
        for each in (watching, *threads):
            each.start()
        for each in threads:
            each.join()
        stop.set()
        watching.join()
    return seen, served


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which a share of others lies; NaN where there is none."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else float("nan")


def steady_rate(args: argparse.Namespace, seen: Seen) -> float:
    """Return pictures a second, without the first tenth of the time, in which queues fill."""
    first, last = args.minutes * 6.0, args.minutes * 60.0
    return sum(first <= moment < last for moment in seen.moments) / (last - first)


def memory_in_quarters(args: argparse.Namespace, served: ServerProcess) -> list[float]:
    """Return the server's mean memory in each quarter of the time, in MB."""
    quarter = args.minutes * 15.0
    parts: list[list[int]] = [[], [], [], []]
    for moment, size in served.memory:
        parts[min(3, int(moment / quarter))].append(size)
    return [statistics.fmean(part) / 2**20 if part else float("nan") for part in parts]


def report(
    args: argparse.Namespace, rates: dict[int, float], seen: Seen, served: ServerProcess
) -> list[str]:
    """Return what was found, in Markdown."""
    from ldm.processor import cores, cpu_name

    best, rate = max(rates.values()), steady_rate(args, seen)
    met = "met" if rate >= GOAL * best else "not met"
    sizes = ", ".join(f"{rate:.2f} at {size}" for size, rate in rates.items())
    memory = " | ".join(f"{each:.0f}" for each in memory_in_quarters(args, served))
    queue = " | ".join(f"{quantile(seen.waited, share):.2f}" for share in (0.5, 0.99, 1.0))
    answer = " | ".join(f"{quantile(seen.answered, share):.2f}" for share in (0.5, 0.99, 1.0))
    return [
        f"- hardware: {cpu_name()}, {cores()} cores; Python {sys.version.split()[0]}",
        f"- {args.clients} clients with {KEYS} keys for {args.minutes:g} minutes, pictures of "
        f"{args.steps} steps, batches of up to {args.batch_size}",
        f"- offline, pictures a second by batch size: {sizes}",
        "",
        "| pictures | a second | best offline | share | goal: 85 % |",
        "|---|---|---|---|---|",
        f"| {len(seen.moments)} | {rate:.2f} | {best:.2f} | {rate / best:.1%} | {met} |",
        "",
        "| seconds | p50 | p99 | max |",
        "|---|---|---|---|",
        f"| in the queue | {queue} |",
        f"| from asking to the picture | {answer} |",
        "",
        "| mixed up | faults | turned away | different jobs |",
        "|---|---|---|---|",
        f"| {seen.mixed_up} | {len(seen.faults)} | {seen.turned_away} | {len(seen.digests)} |",
        "",
        "| the server's memory, MB: first quarter | second | third | last |",
        "|---|---|---|---|",
        f"| {memory} |",
        *(f"\nFault: {fault}" for fault in seen.faults[:5]),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and show; 1 if an answer was somebody else's, or did not come."""
    typed = list(sys.argv[1:] if argv is None else argv)
    args = parse_args(typed)
    if args.offline:
        for size, rate in offline(args).items():
            sys.stdout.write(f"{size} {rate}\n")
        return 0
    rates = offline_in_its_own_process(typed)
    seen, served = measure(args)
    lines = report(args, rates, seen, served)
    command = f"- command: `python benchmarks/server_load.py {' '.join(typed)}`"
    save = f"server-load-{args.save}" if args.save else None
    reports.tell([command, *lines], "The server under load", save)
    return int(bool(seen.mixed_up or seen.faults or not seen.moments))


if __name__ == "__main__":
    sys.exit(main())
