"""The real bot in processes of its own, which can be killed at any moment and started again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import httpx

from benchmarks.processes import PAUSE, children, draws

PATIENCE = 120.0  # seconds for a bot to answer, or to end


@dataclass
class BotProcess:
    """A bot that stands beside the stand-in for LINE.

    Attributes:
        root: The checkout whose bot runs.
        flags: Of ``python -m apps.line_bot``.
        environment: The channel's secrets.
        port: Where it listens.
        log: What all its runs write.
        killed: What was killed so far, "bot" or "worker".
    """

    root: Path
    flags: Sequence[str]
    environment: Mapping[str, str]
    port: int
    log: IO[bytes]
    killed: list[str] = field(default_factory=list)
    _process: subprocess.Popen[bytes] | None = None

    def start(self, *, ready: bool = False) -> None:
        """Start it; wait until it answers, or until it can draw.

        Raises:
            RuntimeError: It ended, or took too long; its own words are in the log.
        """
        command = [sys.executable, "-m", "apps.line_bot", *self.flags, "--port", str(self.port)]
        paths = [str(self.root), *filter(None, [os.environ.get("PYTHONPATH")])]
        # The bot chooses its threads by itself, as it does for whoever sets nothing.
        inherited = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
        self._process = subprocess.Popen(
            command, cwd=self.root, stdout=self.log, stderr=self.log,
            env={**inherited, **self.environment, "PYTHONPATH": os.pathsep.join(paths)},
        )  # fmt: skip
        self._wait(ready)

    def _wait(self, ready: bool) -> None:
        late = time.monotonic() + PATIENCE
        while time.monotonic() < late:
            if self._process is None or self._process.poll() is not None:
                break
            health = self.health()
            if health.get("ready" if ready else "ok"):
                return
            time.sleep(PAUSE)
        raise RuntimeError("the bot did not start; see its log")

    def health(self) -> dict[str, object]:
        """Return what /healthz tells; nothing while nobody answers."""
        with contextlib.suppress(httpx.HTTPError, ValueError):
            url = f"http://127.0.0.1:{self.port}/healthz"
            return httpx.get(url, trust_env=False, timeout=2.0).json()
        return {}

    def workers(self) -> list[int]:
        """Return the processes that the bot draws in: those of its children that load torch."""
        if self._process is None:
            return []
        return [pid for pid in children(self._process.pid) if draws(pid)]

    def kill(self, what: str) -> None:
        """Kill the whole bot, or the process that draws if it has one of its own, by SIGKILL."""
        workers = self.workers()
        if what == "worker" and workers:
            os.kill(workers[0], signal.SIGKILL)
            self.killed.append("worker")
            return
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self.killed.append("bot")

    @property
    def runs(self) -> bool:
        """Whether the bot's own process is there."""
        return self._process is not None and self._process.poll() is None

    def end(self) -> int:
        """Stop it as a container is stopped; return its exit code."""
        if self._process is None:
            return 0
        self._process.terminate()
        try:
            return self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
