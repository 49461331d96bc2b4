"""Workers on a Ray cluster: Ray Data gives portions of the jobs to a pool of actors.

    reader (a task that streams portions) -> actors (each a worker) -> records

Queues, retries, autoscaling and spilling are Ray's. What is ours is the manifest: an actor that Ray
starts again after it died reads what it had recorded, so that the portion that Ray gives it once
more is not drawn twice. Nodes need this project, the weights and the pictures that jobs name at the
same paths, and reach ``--out``.
"""

from __future__ import annotations

import logging
import os
import pickle
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import ldm
from ldm.errors import UserError, in_words
from ldm.jobs.engines.ray_actor import Answer, Drawer, Size, read
from ldm.jobs.manifest import Manifest, ManifestWriter
from ldm.jobs.records import Record
from ldm.jobs.run import RunPlan, remaining
from ldm.jobs.worker import Worker
from ldm.pipelines.progress import Notice, Observer

if TYPE_CHECKING:
    import ray

BUCKETS = 4
"""Buckets in a portion of a run into single files; one into shards has a shard in a portion."""
AHEAD = 2
"""Portions that an actor has been given: the one that it draws, and the next."""
RETRIES = 2
"""How often Ray gives a portion again to an actor that died of it."""


class _Pool(NamedTuple):
    """What the cluster gives each of a run's actors.

    Attributes:
        actors: The most of them.
        threads: Cores of each.
        gpus: GPUs of each.
        make_worker: Makes the worker of each.
    """

    actors: int
    threads: int
    gpus: int
    make_worker: Callable[..., Worker]


def run(
    plan: RunPlan, observer: Observer, make_worker: Callable[..., Worker] = Worker
) -> Iterator[Record]:
    """Draw what is left of a run; yield the record of each picture when it is durable.

    A portion whose actor dies of it again and again is dropped by Ray. What that leaves undone is
    tried in smaller portions, and in the end job by job: one that kills its actors even so is given
    up, with a record that says so.

    Args:
        plan: The run.
        observer: Called with notices.
        make_worker: Makes each actor's worker; one that can be pickled.

    Raises:
        StoreError: The place cannot be written.
        UserError: The cluster cannot be reached, the model cannot be loaded, or actors die before
            they have drawn anything.
    """
    with _cluster(plan, make_worker) as pool:
        for size in _sizes(plan):
            if size.left_undone:
                text = "some pictures were not drawn, as actors died; they are tried again"
                observer(Notice(text, warning=True))
            complete, came = yield from _pass(plan, pool, size, observer)
            if complete:
                return
            if not came and not size.left_undone:
                raise UserError(
                    "Ray's actors died before one had drawn a picture; expected memory for "
                    f"{pool.actors} of them; give a smaller --workers or --batch_size, and see "
                    "Ray's logs"
                )
        yield from _given_up(plan)


def _sizes(plan: RunPlan) -> tuple[Size, ...]:
    settings = plan.settings
    jobs = settings.batch_size
    if settings.format == "folder":
        first = Size(BUCKETS, jobs, tail=settings.workers * BUCKETS)
    else:
        first = Size(-(-settings.shard_size // jobs), jobs)
    return first, Size(1, jobs, left_undone=True), Size(1, 1, left_undone=True)


def _pass(plan: RunPlan, pool: _Pool, size: Size, observer: Observer) -> Iterator[Record]:
    """Draw what is left once; return whether all of it came to an end, and how much did."""
    total, came, told = None, 0, set()
    for answer in _answers(plan, pool, size):
        for text, warning in answer.notices:
            if text not in told:
                told.add(text)
                observer(Notice(text, warning=warning))
        yield from answer.records
        came += len(answer.records)
        if answer.failed:
            raise RuntimeError(f"a worker failed:\n{answer.failed}")
        if answer.refused:
            raise UserError(answer.refused)
        total = total if answer.total is None else answer.total
    return total is not None and came >= total, came


def _answers(plan: RunPlan, pool: _Pool, size: Size) -> Iterator[Answer]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # see pyproject.toml on the version of Ray
        drawn = _drawn(plan, pool, size)
    for batch in drawn.iter_batches(batch_size=None, prefetch_batches=0):
        yield from map(pickle.loads, batch["said"])


def _drawn(plan: RunPlan, pool: _Pool, size: Size) -> ray.data.Dataset:
    """Return what the actors answer, as rows that come while it is read."""
    import ray.data

    jobs = ray.data.from_items([{"begin": True}]).map_batches(
        read, fn_kwargs={"plan": plan, "size": size}, batch_size=None,
        # Begun again, it would find less left to do, and Ray would skip as much of that once more.
        num_cpus=0, max_retries=0,
    )  # fmt: skip
    return jobs.map_batches(
        Drawer, fn_constructor_args=(plan, pool.make_worker), batch_size=None,
        compute=ray.data.ActorPoolStrategy(
            min_size=1, max_size=pool.actors, initial_size=pool.actors,
            # A portion that waits at an actor while that dies has died with it, as Ray counts.
            max_tasks_in_flight_per_actor=1 if size.left_undone else AHEAD,
        ),
        num_cpus=pool.threads, num_gpus=pool.gpus or None, max_task_retries=RETRIES,
    )  # fmt: skip


def _given_up(plan: RunPlan) -> Iterator[Record]:
    """Record what is still undone as impossible."""
    done = Manifest(plan.store).done()
    with ManifestWriter(plan.store, "driver") as writer:
        for job in remaining(plan, done):
            if done.digest(job.number) != job.digest:
                error = "its Ray actors died while they drew it"
                record = Record(job.number, job.digest, error=error, worker="driver")
                writer.append(record)
                yield record


@contextmanager
def _cluster(plan: RunPlan, make_worker: Callable[..., Worker]) -> Iterator[_Pool]:
    """Join or start a cluster, unless the process has one; leave it, or end it, afterwards."""
    try:
        import ray.data
    except ImportError as error:
        raise UserError(
            f"--engine ray was given and Ray cannot be imported ({error}); expected the extra "
            '[ray]; run: pip install -e ".[ray]", or take --engine local'
        ) from error
    ours = not ray.is_initialized()
    try:
        if ours:
            _join(plan)
        with _as_we_need_it():
            yield _pool(plan, make_worker)
    finally:
        if ours:
            ray.shutdown()


def _join(plan: RunPlan) -> None:
    import ray

    address = plan.settings.ray_address or os.environ.get("RAY_ADDRESS")
    paths = [str(Path(folder).parent) for folder in ldm.__path__]
    path = os.pathsep.join([*paths, *filter(None, [os.environ.get("PYTHONPATH")])])
    given: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would use the network
        # It tells at every start that it cannot restart actors if an object is lost: it does.
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        os.environ["PYTHONPATH"] = path
        cpus = plan.settings.workers * plan.settings.threads
        given |= {"address": "local", "include_dashboard": False, "num_cpus": cpus}
    else:
        given |= {"address": address, "runtime_env": {"env_vars": {"PYTHONPATH": path}}}
    try:
        ray.init(**given)
    except (OSError, RuntimeError, ValueError) as error:
        where = "a Ray cluster on this machine" if address is None else f"--ray_address {address}"
        raise UserError(
            f"{where} cannot be reached ({in_words(error)}); expected one of Ray "
            f"{ray.__version__}; check `ray status`, or leave --ray_address out"
        ) from error


def _pool(plan: RunPlan, make_worker: Callable[..., Worker]) -> _Pool:
    """Return what each actor gets; a GPU where the run wants one, or there are any."""
    import ray

    there, settings = ray.cluster_resources(), plan.settings
    if ":" in settings.device:
        raise UserError(
            f"--device {settings.device} was given with --engine ray, which gives each actor a GPU "
            "of its own; expected a kind of device; leave the number out"
        )
    gpu = "GPU" in there if settings.device == "auto" else settings.device not in ("cpu", "mps")
    return _Pool(settings.workers, settings.threads, int(gpu), make_worker)


@contextmanager
def _as_we_need_it() -> Iterator[None]:
    """Have Ray Data stream small rows, go on without portions that it drops, and say little."""
    import ray.data

    context, log = ray.data.DataContext.get_current(), logging.getLogger("ray.data")
    wanted = {
        "target_max_block_size": 1,  # bytes: every row is handed on alone, and at once
        "max_errored_blocks": -1,
        "enable_progress_bars": False,
        "print_on_execution_start": False,
    }
    before, level = {name: getattr(context, name) for name in wanted}, log.level
    try:
        for name, value in wanted.items():
            setattr(context, name, value)
        log.setLevel(logging.CRITICAL)
        yield
    finally:
        log.setLevel(level)
        for name, value in before.items():
            setattr(context, name, value)
