"""What runs on a Ray cluster: a task that reads the jobs, and actors that are a worker each.

Both answer with rows of one column, ``said``: something pickled. Imports no Ray but in an actor.
"""

from __future__ import annotations

import os
import pickle
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ldm.errors import UserError
from ldm.jobs.buckets import buckets
from ldm.jobs.job import Job
from ldm.jobs.manifest import Manifest
from ldm.jobs.records import Record
from ldm.jobs.run import RunPlan, remaining
from ldm.jobs.worker import Worker
from ldm.pipelines.progress import Notice, Progress
from ldm.processor import THREADS

if TYPE_CHECKING:
    from collections.abc import Mapping

Portion = tuple[tuple[Job, ...], ...]
Rows = dict[str, np.ndarray]


class Size(NamedTuple):
    """How much Ray hands to an actor at a time.

    Attributes:
        buckets: In a portion.
        jobs: The most in a bucket.
        tail: The last buckets of all, which are handed out one by one, so that in the end no actor
            has long to draw while others have nothing.
        left_undone: Whether it is about what an earlier pass has left undone.
    """

    buckets: int
    jobs: int
    tail: int = 0
    left_undone: bool = False


class Answer(NamedTuple):
    """What became of a portion, or what the reader has to say.

    Attributes:
        records: Of its pictures.
        notices: For the user: texts, and whether each is a warning.
        refused: Why nothing more can be drawn, for the user.
        failed: The traceback of a fault of the program.
        total: How many jobs the reader gave out, in its last row.
    """

    records: tuple[Record, ...] = ()
    notices: tuple[tuple[str, bool], ...] = ()
    refused: str = ""
    failed: str = ""
    total: int | None = None


def row(said: Portion | Answer) -> Rows:
    """Return a batch of one row."""
    return {"said": np.array([pickle.dumps(said)], dtype=object)}


def portions(plan: RunPlan, size: Size) -> Iterator[Portion]:
    """Cut what is left of a run; little of it is in memory.

    What could not be drawn has a record that says so: it is given out in a first pass, as in any
    run, and not once more in this one.
    """
    done = Manifest(plan.store).done()
    left = remaining(plan, done)
    if size.left_undone:
        left = (job for job in left if done.digest(job.number) != job.digest)
    cut = buckets(left, size.jobs)
    ahead = deque(islice(cut, size.tail))
    while fresh := list(islice(cut, size.buckets)):
        ahead.extend(fresh)
        yield tuple(ahead.popleft() for _ in fresh)
    while ahead:
        yield (ahead.popleft(),)


def read(_: Rows, plan: RunPlan, size: Size) -> Iterator[Rows]:
    """Yield a row for each portion, and in the end how many jobs there were."""
    total = 0
    try:
        for portion in portions(plan, size):
            total += sum(map(len, portion))
            yield row(portion)
    except UserError as error:
        yield row(Answer(refused=str(error)))
    except Exception:
        yield row(Answer(failed=traceback.format_exc()))
    yield row(Answer(total=total))


class Drawer:
    """An actor: one worker, whose model is loaded with the first portion.

    Args:
        plan: The run.
        make_worker: Makes the worker.
    """

    def __init__(self, plan: RunPlan, make_worker: Callable[..., Worker]) -> None:
        import ray

        os.environ[THREADS] = str(plan.settings.threads)  # before torch makes more of them
        context = ray.get_runtime_context()
        name = f"ray-{context.get_actor_id()[:16]}"
        self._notices: list[tuple[str, bool]] = []
        self._recorded: Mapping[int, Record] = {}
        if context.was_current_actor_reconstructed:
            self._recorded = Manifest(plan.store, name).done()
            self._notices.append((f"the actor {name} died, and Ray has started it again", True))
        self._worker = make_worker(plan, name, observer=self._observe)

    def __call__(self, batch: Rows) -> Rows:
        """Draw a portion; return the records of its pictures, all of them durable."""
        (said,) = batch["said"]
        given = pickle.loads(said)
        if isinstance(given, Answer):  # the reader's own
            return row(given)
        records: list[Record] = []
        refused = failed = ""
        try:
            for bucket in given:
                records += self._draw(bucket)
            # Ray takes the portion for done now: nothing of it may wait for its shard to fill.
            records += [*self._worker.settle(), *self._worker.output.close()]
        except UserError as error:
            refused = str(error)
        except Exception:
            failed = traceback.format_exc()
        notices, self._notices = tuple(self._notices), []
        return row(Answer(tuple(records), notices, refused, failed))

    def _draw(self, bucket: tuple[Job, ...]) -> Iterator[Record]:
        """Draw a bucket, but for what this actor has recorded before it died."""
        left = []
        for job in bucket:
            record = self._recorded.get(job.number)
            if record is not None and record.digest == job.digest:
                yield record
            else:
                left.append(job)
        yield from self._worker.start(left)

    def _observe(self, event: Notice | Progress) -> None:
        if isinstance(event, Notice):
            self._notices.append((event.text, event.warning))
