"""Does the server answer each malformed request with 4xx and one clear line?

A thousand requests, each wrong in one way, go to a server with the bundled model, over a socket:
values of wrong kinds, broken JSON and forms, addresses and paths for pictures, decompression bombs,
fields that name files. A listener counts who asks the addresses, and files of this machine hold
what no answer may. In the end the server has to draw as before.

Examples:
    python benchmarks/server_fuzz.py
    python benchmarks/server_fuzz.py --requests 10000 --seed 7
    python benchmarks/server_fuzz.py --save 2026-11-30
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.client
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import reports  # noqa: E402
from benchmarks.server_fuzz_requests import (  # noqa: E402
    GENERATIONS,
    RIGHT,
    TXT2IMG,
    Case,
    Forge,
    picture,
)

KEY, SECRET = "sk-of-the-fuzzer", "what no answer may hold"
TIMEOUT = 60.0  # seconds for an answer
LONGEST_LINE = 2_100  # characters
FORBIDDEN = (SECRET, "Traceback", "site-packages", str(ROOT), tempfile.gettempdir(), "root:x:0")


@dataclass
class Found:
    """What came of the requests.

    Attributes:
        statuses: How many answers there were of each.
        faults: What was wrong, a line each.
        visits: How often the listener was asked.
        slowest: Seconds of the slowest answer.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    visits: int = 0
    slowest: float = 0.0


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--requests", type=int, default=1000, help="(default: %(default)s)")
    add("--seed", type=int, default=18, help="of all choices (default: %(default)s)")
    add("--save", metavar="NAME", help="also write results/server-fuzz-NAME.md")
    args = parser.parse_args(argv)
    if args.requests < 1:
        parser.error("--requests goes from 1")
    return args


def fuzz(port: int, count: int, seed: int) -> Found:
    """Send wrong requests to a server on this machine, and judge its answers."""
    found = Found()
    with tempfile.TemporaryDirectory() as folder, listener() as (address, visits):
        text, image = Path(folder, "secret.txt"), Path(folder, "secret.png")
        text.write_text(SECRET)
        image.write_bytes(picture())
        for case in Forge(seed, address, [str(text), str(image)]).cases(count):
            began = time.monotonic()
            try:
                status, body = ask(port, case)
            except (OSError, http.client.HTTPException) as error:
                found.faults.append(f"{case.kind}: {case.method} {case.path}: {error!r}")
                continue
            found.slowest = max(found.slowest, time.monotonic() - began)
            found.statuses[status] += 1
            if fault := fault_of(case, status, body):
                found.faults.append(f"{case.kind}: {case.method} {case.path}: {fault}")
        found.visits = len(visits)
    return found


def ask(port: int, case: Case) -> tuple[int, bytes]:
    """Send a request as it is, and return the answer's status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    with contextlib.closing(connection):
        own = {"Host": f"127.0.0.1:{port}", "Authorization": f"Bearer {KEY}"}
        own["Content-Length"] = str(len(case.body))
        connection.putrequest(case.method, case.path, skip_host=True, skip_accept_encoding=True)
        for name, value in {**own, **case.headers}.items():
            connection.putheader(name, value)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # an answer comes early
            connection.endheaders(case.body)
        answer = connection.getresponse()
        return answer.status, answer.read()


def fault_of(case: Case, status: int, body: bytes) -> str:
    """Say what is wrong with an answer to a wrong request; empty if nothing is."""
    text = body.decode("utf-8", "replace")
    if not 400 <= status < 500:
        return f"status {status}: {text[:200]}"
    # A message may quote what was sent.
    sent = (case.body + case.path.encode()).decode("utf-8", "replace")
    if leaked := [each for each in FORBIDDEN if each in text and each not in sent]:
        return f"the answer holds {leaked[0]!r}"
    try:
        told = json.loads(text)["error"]
        line = told["message"] if isinstance(told, dict) else told
    except (ValueError, KeyError, TypeError):
        # What is no HTTP never reaches the application.
        return "" if text == "Invalid HTTP request received." else f"no line: {text[:200]!r}"
    if not isinstance(line, str) or not line or "\n" in line or len(line) > LONGEST_LINE:
        return f"no clear line: {line!r}"[:300]
    return ""


@contextlib.contextmanager
def listener() -> Iterator[tuple[str, list[str]]]:
    """Listen on this machine; yield the address, and a list of those who connected."""
    visits: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def count() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, who = server.accept()
                    connection.close()
                    visits.append(str(who))

        threading.Thread(target=count, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}", visits
        server.shutdown(socket.SHUT_RDWR)


def draws(port: int) -> bool:
    """Return whether a server does what is asked rightly."""
    for path in (TXT2IMG, GENERATIONS):
        body = json.dumps(dict(RIGHT[path])).encode()
        status, _ = ask(
            port, Case("right", "POST", path, body, {"Content-Type": "application/json"})
        )
        if status != 200:
            return False
    return True


@contextlib.contextmanager
def server() -> Iterator[tuple[int, subprocess.Popen]]:
    """Run the real server with the bundled model; yield its port and process.

    Raises:
        RuntimeError: It does not start.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder, "keys")
        keys.write_text(f"fuzzer:{hashlib.sha256(KEY.encode()).hexdigest()}\n")
        flags = ["--port", str(port), "--keys", str(keys), "--device", "cpu"]
        flags += ["--grace", "0"]  # nobody fetches what malformed requests drew after all
        command = [sys.executable, "-m", "apps.server", *flags]
        log = Path(folder, "log")  # which tells of each request that is no HTTP
        with (
            log.open("wb") as out,
            subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out) as process,
        ):
            try:
                _wait_for(port, process, log)
                yield port, process
            finally:
                process.terminate()


def _wait_for(port: int, process: subprocess.Popen, log: Path) -> None:
    until = time.monotonic() + TIMEOUT
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError):
            if ask(port, Case("ready", "GET", "/readyz"))[0] == 200:
                return
        time.sleep(0.1)
    raise RuntimeError(f"the server did not start: {log.read_text()[-500:]}")


def memory_of(process: subprocess.Popen) -> float:
    """Return the memory that a process takes, in MB; NaN where that is not told."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return float("nan")


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzz the server; return 1 if an answer was wrong."""
    args = parse_args(argv)
    with server() as (port, process):
        alive, before = draws(port), memory_of(process)
        began = time.monotonic()
        found = fuzz(port, args.requests, args.seed)
        took = time.monotonic() - began
        alive, after = alive and draws(port), memory_of(process)
    counts = ", ".join(f"{status}: {count}" for status, count in sorted(found.statuses.items()))
    lines = [
        f"- {args.requests} requests of seed {args.seed} in {took:.1f} s; answers {counts}",
        f"- slowest {found.slowest:.2f} s; memory {before:.0f} -> {after:.0f} MB",
        f"- addresses asked: {found.visits}; draws afterwards: {'yes' if alive else 'no'}",
        *(f"- wrong: {line}" for line in found.faults),
    ]
    save = f"server-fuzz-{args.save}" if args.save else None
    reports.tell(lines, "Malformed requests to the server", save)
    return int(bool(found.faults) or found.visits > 0 or not alive)


if __name__ == "__main__":
    sys.exit(main())
