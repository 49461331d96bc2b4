"""Kill a bot at its steps, start it again, and go on until all is delivered.

    python tests/bot_kills.py FOLDER LINE_URL every fresh 1   # one message, killed at each step
    python tests/bot_kills.py FOLDER LINE_URL every stale 4   # ... at every fourth
    python tests/bot_kills.py FOLDER LINE_URL random SEED     # 20 messages, killed many times

A process of its own: it forks a child for every run. Writes the number of kills.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
from pathlib import Path

for folder in (Path(__file__).parent, Path(__file__).parents[1]):
    sys.path.insert(0, str(folder))

from bot_parts import Stage  # noqa: E402
from fake_line import message  # noqa: E402

USERS = ("Ua", "Ub", "Uc", "Ud")
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir"}


class Countdown:
    """Kills this process at its n-th step: an SQL statement, a change of the disk, a call."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __call__(self, *_: object) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, stage: Stage) -> None:
        stage.bot.base._connection.set_trace_callback(self)
        sys.addaudithook(lambda event, args: self() if _changes(event, args) else None)
        for name in ("reply", "push"):
            call = getattr(stage.bot.line, name)
            setattr(stage.bot.line, name, lambda *given, call=call: self._around(call, given))

    def _around(self, call, given):
        self()
        answer = call(*given)
        self()
        return answer


def _changes(event: str, args: tuple) -> bool:
    writes = event == "open" and isinstance(args[1], str) and bool(set(args[1]) & set("wax+"))
    return writes or event in CHANGES


def live(folder: Path, line: str, events: list[dict], steps: int) -> bool:
    """Run a bot in a child until all is done or it is killed; return whether it was killed."""
    if pid := os.fork():
        return os.waitpid(pid, 0)[1] == signal.SIGKILL
    code = 1
    try:
        stage = Stage(folder, line, waiting_jobs=50, daily_pictures=100)
        Countdown(steps).watch(stage)
        stage.bot.queue.recover()
        for each in events:  # LINE sends again what was not answered
            assert stage.hear(each) == 200
        stage.work()
        stage.pass_time(20)
        code = 0 if {job["state"] for job in stage.jobs()} == {"delivered"} else 2
    finally:
        os._exit(code)


def every_step(folder: Path, line: str, age: float, stride: int) -> int:
    steps, kills, killed = 1 - stride, 0, True
    Stage(folder / "new", line).close()
    while killed:
        steps += stride
        shutil.copytree(folder / "new", folder / str(steps))
        events = [message(f"{age:.0f}x{steps}", "cat", sent=1e9 - age)]
        killed = live(folder / str(steps), line, events, steps)
        if killed:
            assert not live(folder / str(steps), line, events, 0), "killed twice"
            kills += 1
    return kills


def at_random(folder: Path, line: str, seed: int) -> int:
    draw, kills = random.Random(seed), 0
    events = [message(f"n{n}", f"cat {n}", USERS[n % 4], sent=1e9 - 100) for n in range(20)]
    while live(folder, line, events, draw.randrange(100, 400)):
        kills += 1
        assert kills < 200
    return kills


if __name__ == "__main__":
    where, url, way, *rest = sys.argv[1:]
    if way == "every":
        age = {"fresh": 1.0, "stale": 100.0}[rest[0]]
        kills = every_step(Path(where), url, age, int(rest[1]))
    else:
        kills = at_random(Path(where), url, int(rest[0]))
    sys.stdout.write(f"{kills}\n")
