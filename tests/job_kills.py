"""Kill a run's writer at each of its steps on the disk, and let another one go on.

    python tests/job_kills.py FOLDER webdataset     # writes how many kills there were

A process of its own: it forks a child for every kill, which would be no good in a test's process.
A step is an open, a rename, a flush, ...; at a write half of the bytes are written first.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

for folder in (Path(__file__).parent, Path(__file__).parents[1]):
    sys.path.insert(0, str(folder))

from drawn_jobs import draw, job, picture  # noqa: E402

from ldm.jobs.manifest import Manifest  # noqa: E402
from ldm.jobs.samples import samples  # noqa: E402
from ldm.jobs.shard_output import Limits  # noqa: E402
from ldm.jobs.store import open_store  # noqa: E402
from ldm.jobs.verify import verify  # noqa: E402

PICTURES = 3
NEVER = 10**9
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Countdown:
    """Kills this process at its n-th step."""

    def __init__(self, steps: int) -> None:
        self.left = steps
        self._write, self._sync = os.write, os.fsync
        os.write, os.fsync = self.write, self.sync
        sys.addaudithook(self.watch)

    def step(self) -> bool:
        self.left -= 1
        return self.left == 0

    def watch(self, event: str, args: tuple) -> None:
        writes = event == "open" and isinstance(args[2], int) and args[2] & WRITES
        if (writes or event in CHANGES) and self.step():
            die()

    def write(self, file: int, data: bytes) -> int:
        if self.step():
            self._write(file, bytes(data)[: len(data) // 2])
            die()
        return self._write(file, data)

    def sync(self, file: int) -> None:
        if self.step():
            die()
        self._sync(file)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def work(folder: Path, format: str) -> None:
    limits = {} if format == "folder" else {"limits": Limits(pictures=2)}
    draw(open_store(folder), range(PICTURES), format, **limits)


def killed(folder: Path, format: str, steps: int) -> bool:
    """Work in a child; return whether it was killed before it was done."""
    if pid := os.fork():
        status = os.waitpid(pid, 0)[1]
        assert status in (0, signal.SIGKILL), f"the writer ended with {status}"
        return status == signal.SIGKILL
    code = 1
    try:
        Countdown(steps)
        work(folder, format)
        code = 0
    finally:
        os._exit(code)


def check(folder: Path, *, all_of_them: bool) -> None:
    """Assert that what counts as done is there to the byte, and in one place only."""
    store = open_store(folder)
    done = Manifest(store).done()
    for sample in samples(store, done.by_place()):
        number = sample.record.number
        assert not sample.fault, (number, sample.fault)
        assert sample.data == picture(number)
        assert sample.record.digest == job(number).digest
    if not all_of_them:
        return
    assert list(done) == list(range(PICTURES))
    assert verify(store) == []
    shards = {record.name for record in done.by_place() if record.in_shard}
    assert {name for name in store.names() if name.startswith("shards/")} == shards
    files = [name for name in store.names() if name.endswith(".png")]
    assert shards or len(files) == PICTURES
    assert not [path for path in folder.rglob(".*")], "a killed run's file is still there"


def main(folder: Path, format: str) -> int:
    kills = 0
    while killed(folder, format, kills + 1):
        kills += 1
        check(folder, all_of_them=False)
        assert not killed(folder, format, NEVER)  # the next run
        check(folder, all_of_them=True)
        shutil.rmtree(folder)
    check(folder, all_of_them=True)
    return kills


if __name__ == "__main__":
    print(main(Path(sys.argv[1], sys.argv[2]), sys.argv[2]))  # noqa: T201
