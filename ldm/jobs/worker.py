"""A worker: one loaded model that draws jobs, whoever gives them to it.

    jobs -> prepare -> batches (``ldm.pipelines.together``) -> PNG, file and record by threads

The engines of ``ldm.jobs.engines`` differ in where workers run and in who gives them jobs, and in
nothing else. Torch is imported when the model is loaded.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from ldm.errors import UserError, in_words
from ldm.jobs.base import StoreError
from ldm.jobs.job import Job
from ldm.jobs.manifest import ManifestWriter
from ldm.jobs.output import Output, open_output
from ldm.jobs.records import Record
from ldm.jobs.run import RunPlan
from ldm.pipelines.progress import Notice, Observer, Picture, Progress, log_events
from ldm.processor import cores

if TYPE_CHECKING:  # these import torch
    from ldm.pipelines.pipeline import Pipeline
    from ldm.pipelines.request import Request
    from ldm.pipelines.text_cache import TextCache

    Pair = tuple[Job, Request]

WRITERS = 2
"""Threads that encode and write pictures."""
MOST_PENDING = 64
"""Pictures that wait to be written; drawing waits beyond that."""
MOST_IN_A_ROW = 32
"""Pictures that may fail one after another by what is no fault of theirs."""
MOST_TOLD = 100
"""Notices that a worker passes on: a long file may have one for each line."""
_LONGEST_ERROR = 2000  # characters


class _Left(NamedTuple):
    """What an attempt has not drawn, and why: the error in words, and what kind it is."""

    pairs: list[Pair]
    why: str = ""
    memory: bool = False
    known: bool = True


class Worker:
    """Draws jobs of a run. A job that cannot be drawn gets a record that says why.

    Args:
        plan: The run.
        name: Who it is, in the manifest.
        device: Where it computes; None is what the run says.
        observer: Called with notices.
        report: Called with each record as soon as the manifest's writer has it, in one of several
            threads; see ``ManifestWriter`` on when it is durable.

    Attributes:
        rows: How many pictures it draws at a time; halved where memory does not suffice.

    Example:
        >>> with Worker(plan, "one") as worker:                       # doctest: +SKIP
        ...     for record in worker.draw(remaining(plan)): ...
    """

    def __init__(
        self,
        plan: RunPlan,
        name: str,
        *,
        device: str | None = None,
        observer: Observer = log_events,
        report: Callable[[Record], object] | None = None,
    ) -> None:
        self.plan, self.name, self._observer, self._report = plan, name, observer, report
        self.device = device or plan.settings.device
        self.rows = plan.settings.batch_size
        self.writer = ManifestWriter(plan.store, name)
        self._pool = ThreadPoolExecutor(WRITERS, thread_name_prefix=f"write-{name}")
        self._pending: deque[Future[tuple[Record, ...]]] = deque()
        self._told: set[str] = set()
        self._in_a_row = self._threads_before = 0
        self._closed = False

    @cached_property
    def pipeline(self) -> Pipeline:
        """The model, loaded when it is first needed.

        Raises:
            UserError: It cannot be loaded.
        """
        from ldm.images.opening import allow_pixels
        from ldm.pipelines.pipeline import Pipeline, resolve_device  # imports torch: a second

        settings = self.plan.settings
        _check_precision(settings.precision, resolve_device(self.device).type)
        allow_pixels(settings.max_pixels)
        self._set_threads(settings.threads)
        pipeline = Pipeline.load(
            self._found.choice,
            device=self.device,
            use_ema=settings.use_ema,
            observer=self.observe,
        )
        used, there = settings.workers * settings.threads, cores()
        if pipeline.device.type == "cpu" and settings.engine == "local" and used < there:
            self.observe(Notice(f"{used} of {there} cores are used; more --workers use the others"))
        return pipeline

    @cached_property
    def _found(self) -> RunPlan:
        """The plan, with nothing remembered of what its files held when the run began."""
        return replace(self.plan)

    @cached_property
    def _model(self) -> str:
        """What the model is known by, hashed after it was loaded: so no change is missed."""
        self.load()
        return self._found.reader.model

    def _set_threads(self, count: int) -> None:
        """Compute with so many threads until the worker ends: pictures' last bits depend on it."""
        import torch

        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(count)

    def load(self) -> None:
        """Load the model now rather than with the first job.

        Raises:
            UserError: It cannot be loaded.
        """
        self.pipeline  # noqa: B018 - loads it

    @cached_property
    def output(self) -> Output:
        """Where its pictures go."""
        settings = self.plan.settings
        output = open_output(settings.format, self.plan.store, self.writer)
        if settings.format == "folder":
            output.replaces = settings.redraw
        else:
            output.limits = replace(output.limits, pictures=settings.shard_size)
        return output

    @cached_property
    def _texts(self) -> TextCache:
        from ldm.pipelines.text_cache import TextCache

        return TextCache()

    def draw(self, jobs: Iterable[Job]) -> Iterator[Record]:
        """Draw jobs; yield the record of each picture when it is written.

        Pictures for shards are written when their shard is whole, at the latest after ``close``.

        Raises:
            StoreError: The place cannot be written.
            UserError: The model cannot be loaded, or fails for whatever it is given.
        """
        yield from self.start(jobs)
        yield from self.settle()

    def start(self, jobs: Iterable[Job]) -> Iterator[Record]:
        """Draw jobs as ``draw`` does, without waiting for the last ones to be written."""
        jobs = iter(jobs)
        while chunk := list(islice(jobs, self.rows)):
            self._draw(chunk)
            yield from self._written()

    def settle(self) -> Iterator[Record]:
        """Wait until all that was drawn is written; yield the records."""
        while self._pending:
            yield from self._pending.popleft().result()

    def close(self) -> Iterator[Record]:
        """Write what is held back, and end; yield the last records."""
        yield from self.settle()
        if "output" in self.__dict__:
            yield from self._reported(self.output.close())
        self._end()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of what was not closed: what has no record is drawn again by whoever resumes."""
        if not self._closed:
            for each in self._pending:
                each.cancel()
            self._end(abandon=True)

    def _end(self, *, abandon: bool = False) -> None:
        self._closed = True
        self._pool.shutdown(wait=True)
        if self._threads_before:
            import torch

            torch.set_num_threads(self._threads_before)
        if abandon and "output" in self.__dict__:
            self.output.abandon()
        self.writer.close()

    def _written(self) -> Iterator[Record]:
        while self._pending and (self._pending[0].done() or len(self._pending) > MOST_PENDING):
            yield from self._pending.popleft().result()

    def _draw(self, jobs: list[Job]) -> None:
        """Draw jobs together; those that spoil a batch are found by halving it."""
        parts = [self._prepared(jobs)]
        while parts:
            left = self._attempt(parts.pop())
            if not left.pairs:
                continue
            if left.memory:
                self._shrink(len(left.pairs))
            if len(left.pairs) == 1:
                self._fail(left.pairs[0][0], left.why, known=left.known)
            else:
                half = (len(left.pairs) + 1) // 2
                parts += [left.pairs[half:], left.pairs[:half]]

    def _prepared(self, jobs: list[Job]) -> list[Pair]:
        self._check_model(jobs)
        found = []
        for job in jobs:
            try:
                pair = job, self.pipeline.prepare(job.settings)
                _check_precision(job.settings.precision, self.pipeline.device.type)
                self._check_files(job)
                found.append(pair)
            except Exception as error:  # a file that was there when the run began, for one
                self._fail(job, _said(error), known=isinstance(error, UserError))
        return found

    def _check_model(self, jobs: list[Job]) -> None:
        """Check that what is loaded is what jobs were planned for: it was read later than that.

        Raises:
            UserError: The checkpoint or its configuration has been replaced meanwhile.
        """
        if any(job.model != self._model for job in jobs):
            raise UserError(
                f"the model {self._found.choice.ckpt_path} has changed since the run began; "
                "expected one and the same for all pictures; run again when it is finished: what "
                "is drawn is kept"
            )

    def _check_files(self, job: Job) -> None:
        """Check that the files of a job hold what its digest says; their hashes are remembered.

        Raises:
            UserError: One does not.
        """
        if self._found.reader.files_of(job.settings) != job.files:
            raise UserError(
                "a file that it is drawn from has changed since the run began; expected what its "
                "digest is of; run again"
            )

    def _attempt(self, pairs: list[Pair]) -> _Left:
        """Draw pairs as one batch; return those that it did not come to.

        No exception leaves: its traceback would keep the batch's tensors.
        """
        from ldm.pipelines.phases import lacked_memory
        from ldm.pipelines.together import decode_together

        undrawn, began = dict(enumerate(pairs)), time.perf_counter()
        try:
            requests = [request for _, request in pairs]
            for drawn in decode_together(
                self.pipeline, requests, observer=self.observe, cache=self._texts
            ):
                job, _ = undrawn.pop(drawn.index)
                self._write(job, drawn.finish, (time.perf_counter() - began) / len(pairs))
        except StoreError:
            raise
        except Exception as error:
            memory = lacked_memory(error)
            known = memory or isinstance(error, UserError)
            return _Left(list(undrawn.values()), _said(error), memory, known)
        return _Left([])

    def _write(self, job: Job, finish: Callable[[], Picture], seconds: float) -> None:
        self._in_a_row = 0
        self._pending.append(self._pool.submit(self._finish, job, finish, seconds))

    def _finish(
        self, job: Job, finish: Callable[[], Picture], seconds: float
    ) -> tuple[Record, ...]:
        """Make a picture, and write it with its record; in a thread."""
        from ldm.images.io import encode_picture

        try:
            picture = finish()
            text = picture.parameters or None
            data = encode_picture(picture.whole, "png", text, synthetic=picture.drawn)
        except Exception as error:
            return self._failed(job, _said(error))
        return self._reported(self.output.add(job, data, picture.parameters, seconds=seconds))

    def _fail(self, job: Job, why: str, *, known: bool) -> None:
        """Record that a job cannot be drawn.

        Raises:
            UserError: So many in a row cannot be their own fault.
        """
        self._in_a_row = 0 if known else self._in_a_row + 1
        self._pending.append(self._pool.submit(self._failed, job, why))
        if self._in_a_row >= MOST_IN_A_ROW:
            raise UserError(
                f"{self._in_a_row} pictures in a row failed, the last with {why}; expected that to "
                "be one picture's own fault; nothing more is drawn: mend it, and run again"
            )

    def _failed(self, job: Job, why: str) -> tuple[Record, ...]:
        record = Record(job.number, job.digest, error=why[:_LONGEST_ERROR], worker=self.name)
        self.writer.append(record)
        return self._reported((record,))

    def _reported(self, records: tuple[Record, ...]) -> tuple[Record, ...]:
        if self._report is not None:
            for record in records:
                self._report(record)
        return records

    def _shrink(self, rows: int) -> None:
        """Draw fewer pictures at a time from now on."""
        fewer = max(1, rows // 2)
        if fewer < self.rows:
            self.rows = fewer
            text = (
                f"memory does not suffice for {rows} pictures at a time: {self.name} draws {fewer}"
            )
            self._observer(Notice(text, warning=True))
        _release_memory()

    def observe(self, event: Notice | Progress) -> None:
        """Pass each notice on once, and no endless number of them."""
        if isinstance(event, Progress) or event.text in self._told:
            return
        if len(self._told) < MOST_TOLD:
            self._told.add(event.text)
            self._observer(event)
            if len(self._told) == MOST_TOLD:
                self._observer(Notice(f"{self.name} has much to say: no more of it is shown"))


def _check_precision(precision: str, device: str) -> None:
    """Refuse what each worker would measure for itself: pictures would depend on who draws them."""
    if precision == "auto" and device == "cpu":
        raise UserError(
            "--precision auto was given for a processor, which each worker would measure by "
            "itself; expected one arithmetic for all pictures; give full, bfloat16 or float16 "
            "(txt2img.py --precision auto says which is fast here)"
        )


def _said(error: Exception) -> str:
    text = str(error) if isinstance(error, UserError) else in_words(error)
    return " ".join(text.split()) or type(error).__name__


def _release_memory() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
