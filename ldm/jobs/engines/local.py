"""Workers on this machine: one in this process, or several in processes of their own.

Each process is given buckets through a pipe, one ahead, and says of each picture when it is
recorded. One that is killed is noticed by its pipe's end; another one takes its place, and what has
no record, or had one that never reached an object store, is drawn again. A job whose workers die
one after another is given up. Workers end with their driver.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, wait
from queue import SimpleQueue
from typing import Any

from ldm.errors import UserError
from ldm.jobs.buckets import buckets
from ldm.jobs.job import Job
from ldm.jobs.manifest import Manifest, ManifestWriter
from ldm.jobs.object_store import LINES
from ldm.jobs.records import Record
from ldm.jobs.run import RunPlan, remaining
from ldm.jobs.worker import Worker
from ldm.pipelines.progress import Notice, Observer, Progress
from ldm.processor import THREADS

AHEAD = 2
"""Buckets that a worker has been given: the one that it draws, and the next."""
MOST_DEATHS = 3
"""How many workers may die of one job."""
PATIENCE = 30.0
"""Seconds that a worker has to end after its last word."""
MOST_STARTS = 3
"""How many workers may die, one after another, before one has loaded its model."""

Bucket = tuple[Job, ...]


def run(
    plan: RunPlan, observer: Observer, make_worker: Callable[..., Worker] = Worker
) -> Iterator[Record]:
    """Draw what is left of a run; yield the record of each picture when it is written.

    Args:
        plan: The run.
        observer: Called with notices.
        make_worker: Makes each worker; one that can be pickled.

    Raises:
        StoreError: The place cannot be written.
        UserError: The model cannot be loaded, or workers die before they can draw.
    """
    left = buckets(remaining(plan), plan.settings.batch_size)
    if plan.settings.workers == 1:
        return _here(left, make_worker(plan, "worker-0", observer=observer))
    return _Pool(plan, left, observer, make_worker).run()


def _here(left: Iterator[Bucket], made: Worker) -> Iterator[Record]:
    with made as worker:
        for bucket in left:
            yield from worker.start(bucket)
        yield from worker.close()


@dataclass
class _Hand:
    """The driver's side of a worker process.

    Attributes:
        process: It.
        pipe: To it.
        given: Buckets that it has not drawn yet, the first of which it draws.
        unrecorded: Jobs that have no record yet, by number.
        told: The last jobs that it has told the records of; an object store may not have these yet.
        ready: Whether its model is loaded.
        ended: Whether it was told that there is no more to come.
    """

    process: Any
    pipe: Connection
    given: deque[Bucket] = field(default_factory=deque)
    unrecorded: dict[int, Job] = field(default_factory=dict)
    told: deque[tuple[Job, Record]] = field(default_factory=lambda: deque(maxlen=LINES))
    ready: bool = False
    ended: bool = False


class _Pool:
    """The driver: a queue of buckets, and as many processes as asked for while it lasts."""

    def __init__(
        self,
        plan: RunPlan,
        left: Iterator[Bucket],
        observer: Observer,
        make_worker: Callable[..., Worker],
    ) -> None:
        self.plan, self.left, self.observer = plan, left, observer
        self.make_worker = make_worker
        self.again: deque[Bucket] = deque()
        self.hands: dict[int, _Hand] = {}
        self.deaths: dict[int, int] = {}
        self.died_early = 0
        self.found: deque[Record] = deque()
        self._next: Bucket | None = None
        self._told, self._twice = set[str](), set[int]()

    def run(self) -> Iterator[Record]:
        try:
            while self._feed():
                by_pipe = {hand.pipe: hand for hand in self.hands.values()}
                for pipe in wait(list(by_pipe)):
                    self._hear(by_pipe[pipe])
                while self.found:
                    yield self.found.popleft()
        finally:
            for hand in self.hands.values():
                hand.process.kill()  # what has no record is drawn again, what has one is whole
            for hand in self.hands.values():
                hand.process.join()
                hand.pipe.close()

    def _feed(self) -> bool:
        """Give buckets to workers that have few, and start workers; return whether any is left."""
        for slot in range(self.plan.settings.workers):
            if slot not in self.hands and self._has_more():
                self.hands[slot] = self._start(slot)
                self._give(self.hands[slot])
        for hand in self.hands.values():
            while not hand.ended and len(hand.given) < AHEAD:
                if self._has_more():
                    self._give(hand)
                else:
                    hand.ended = True
                    _send(hand, None)
        return bool(self.hands)

    def _give(self, hand: _Hand) -> None:
        bucket = self._take()
        hand.given.append(bucket)
        hand.unrecorded |= {job.number: job for job in bucket}
        _send(hand, bucket)

    def _has_more(self) -> bool:
        if self.again or self._next is not None:
            return True
        self._next = next(self.left, None)
        return self._next is not None

    def _take(self) -> Bucket:
        if self.again:
            return self.again.popleft()
        bucket, self._next = self._next, None
        return bucket

    def _start(self, slot: int) -> _Hand:
        context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        ours, theirs = context.Pipe()
        name = f"worker-{slot}"
        given = (self.plan, name, slot, theirs, self.make_worker)
        process = context.Process(target=_work, args=given, name=name, daemon=True)
        with _without_interrupts():
            process.start()
        theirs.close()
        return _Hand(process, ours)

    def _hear(self, hand: _Hand) -> None:
        """Take one message of a worker, or its death."""
        try:
            kind, *said = hand.pipe.recv()
        except (EOFError, OSError):
            self._bury(hand)
            return
        if kind == "ready":
            hand.ready, self.died_early = True, 0
        elif kind == "drawn":
            hand.given.popleft()
        elif kind == "record":
            self._note(hand, said[0])
        elif kind == "notice":
            self._tell(*said)
        elif kind == "refused":
            raise UserError(said[0])
        else:
            raise RuntimeError(f"a worker failed:\n{said[0]}")

    def _note(self, hand: _Hand, record: Record) -> None:
        if (job := hand.unrecorded.pop(record.number, None)) is not None:
            hand.told.append((job, record))
        if record.number in self._twice and not record.error:
            self._twice.discard(record.number)  # was yielded before its record was lost
        else:
            self.found.append(record)

    def _tell(self, text: str, warning: bool) -> None:
        if text not in self._told:
            self._told.add(text)
            self.observer(Notice(text, warning=warning))

    def _bury(self, hand: _Hand) -> None:
        """Let go of a worker that has ended; what it leaves undone is done by others."""
        slot = next(slot for slot, each in self.hands.items() if each is hand)
        del self.hands[slot]
        hand.pipe.close()
        hand.process.join(PATIENCE)
        hand.process.kill()  # a driver of a device may hold it back for good
        hand.process.join()
        code = hand.process.exitcode
        if not (hand.ended and code == 0):
            self._take_back(hand)
        if hand.ended and not hand.unrecorded:
            return
        self._tell(f"{hand.process.name} died ({_cause(code)}); its jobs are drawn again", True)
        if not hand.ready:
            self.died_early += 1
            if self.died_early >= MOST_STARTS:
                raise UserError(
                    f"{self.died_early} workers died before their model was loaded "
                    f"({_cause(code)}); expected memory for {self.plan.settings.workers} of them; "
                    "give a smaller --workers"
                )
        self._inherit(hand)

    def _take_back(self, hand: _Hand) -> None:
        """Count those of a dead worker's last records as not written that nobody can read."""
        done = Manifest(self.plan.store).done() if hand.told else {}
        for job, record in hand.told:
            there = done.get(job.number)
            if there is None or (there.digest, there.error) != (record.digest, record.error):
                hand.unrecorded[job.number] = job
                self._twice.add(job.number)

    def _inherit(self, hand: _Hand) -> None:
        """Put a dead worker's jobs back, but for those that it has recorded without saying so."""
        done = Manifest(self.plan.store).done() if hand.unrecorded else {}
        left = {}
        for number, job in hand.unrecorded.items():
            record = done.get(number)
            if record is not None and record.digest == job.digest and not record.error:
                self.found.append(record)
            else:
                left[number] = job
        suspects = hand.given[0] if hand.ready and hand.given else ()
        self._suspect([left.pop(job.number) for job in suspects if job.number in left])
        size = self.plan.settings.batch_size
        self.again.extend(buckets(left.values(), size))

    def _suspect(self, jobs: list[Job]) -> None:
        """Draw jobs again that a worker died of, in smaller buckets; give up one that kills."""
        if len(jobs) == 1:
            number = jobs[0].number
            self.deaths[number] = self.deaths.get(number, 0) + 1
            if self.deaths[number] >= MOST_DEATHS:
                self._give_up(jobs[0])
                return
        half = (len(jobs) + 1) // 2
        self.again.extend(tuple(part) for part in (jobs[:half], jobs[half:]) if part)

    def _give_up(self, job: Job) -> None:
        error = f"{MOST_DEATHS} workers died while they drew it"
        record = Record(job.number, job.digest, error=error, worker="driver")
        with ManifestWriter(self.plan.store, "driver") as writer:
            writer.append(record)
        self.found.append(record)


def _send(hand: _Hand, message: Bucket | None) -> None:
    with suppress(OSError):  # it is dead, which its pipe's other direction tells too
        hand.pipe.send(message)


def _cause(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
    return f"exit code {code}"


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach: the driver ends them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(
    plan: RunPlan,
    name: str,
    slot: int,
    pipe: Connection,
    make_worker: Callable[..., Worker],
) -> None:
    """A worker process: draw buckets from a pipe until it says that there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ[THREADS] = str(plan.settings.threads)  # before torch makes more of them
    threading.Thread(target=_end_with_driver, daemon=True).start()
    given_out = _taken_from(pipe)
    sending = threading.Lock()

    def say(*message: object) -> None:
        with sending:
            pipe.send(message)

    def observe(event: Notice | Progress) -> None:
        if isinstance(event, Notice):
            say("notice", event.text, event.warning)

    warnings.simplefilter("ignore")  # libraries' advice to programmers
    given = {"device": _device(plan, slot), "observer": observe}
    try:
        with make_worker(plan, name, **given, report=partial(say, "record")) as worker:
            logging.getLogger("ldm").addHandler(_Forward(worker.observe))
            worker.load()
            say("ready")
            for _ in _drawn_from(given_out, worker, say):
                pass  # each is reported as it comes
    except UserError as error:
        say("refused", str(error))
    except Exception:
        say("failed", traceback.format_exc())


class _Forward(logging.Handler):
    """Passes the library's logged warnings to the driver."""

    def __init__(self, observer: Observer) -> None:
        super().__init__(logging.WARNING)
        self._observer = observer

    def emit(self, record: logging.LogRecord) -> None:
        """Pass one record on."""
        self._observer(Notice(record.getMessage(), warning=True))


def _taken_from(pipe: Connection) -> SimpleQueue[Bucket | None]:
    """Take what the driver sends as it comes, by a thread.

    The driver does not listen while it sends. If this process, drawing, did not either, each would
    wait for the other as soon as a bucket is larger than what the system holds in between.
    """
    taken: SimpleQueue[Bucket | None] = SimpleQueue()

    def take() -> None:
        try:
            while (bucket := pipe.recv()) is not None:
                taken.put(bucket)
        except (EOFError, OSError):
            os._exit(1)  # the driver is gone; everything on disk is whole at any moment
        taken.put(None)

    threading.Thread(target=take, name="take", daemon=True).start()
    return taken


def _drawn_from(
    given: SimpleQueue[Bucket | None], worker: Worker, say: Callable[..., None]
) -> Iterator[Record]:
    while (bucket := given.get()) is not None:
        yield from worker.start(bucket)
        say("drawn")
    yield from worker.close()


def _device(plan: RunPlan, slot: int) -> str:
    """Return where a worker computes: its own one of several GPUs, unless the run names one."""
    device = plan.settings.device
    if device not in ("auto", "cuda"):
        return device
    import torch

    count = torch.cuda.device_count()
    return f"cuda:{slot % count}" if count > 1 else device


def _end_with_driver() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)  # everything on disk is whole at any moment
