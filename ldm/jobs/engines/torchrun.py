"""Workers that torchrun has started, on one machine or many: each rank draws its own share.

    torchrun --nproc_per_node 8 scripts/batch.py JOBS --out FOLDER --engine torchrun

Rank 0 checks all lines, as any run does, and sends the plan to the others. Every rank then leaves
out what the manifest says is done, and takes each WORLD_SIZE-th bucket of the rest. They wait for
each other twice: nobody draws before all have read the manifest, as they would cut the rest in
different ways; and all stay until the last one is done. In between there is no traffic. If a rank
dies, torchrun ends all; if torchrun does, they end by themselves; begun again, they cut what is
left anew.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

from ldm.errors import UserError
from ldm.jobs.buckets import buckets
from ldm.jobs.manifest import Manifest
from ldm.jobs.records import Record
from ldm.jobs.run import RunPlan, remaining
from ldm.jobs.worker import Worker
from ldm.pipelines.progress import Notice, Observer, Progress

_LOOK_EVERY = 0.5  # seconds
_JOINING = timedelta(minutes=10)  # between the first rank's start and the last one's
_PATIENCE = timedelta(days=365)  # the first rank to be done waits for the last one
_groups: list[Any] = []  # of the ranks that this process has joined


class Seat(NamedTuple):
    """Which process of how many this one is.

    Attributes:
        rank: Among all.
        world: How many there are.
        local: Among those of its machine.
    """

    rank: int
    world: int
    local: int


def seat(environment: Mapping[str, str] = os.environ) -> Seat:
    """Return what torchrun, or a launcher that sets the same variables, says of this process.

    Raises:
        UserError: It says nothing, or what cannot be.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    missing = [name for name in names if not environment.get(name)]
    texts = [environment.get(name, "") for name in names[:3]]
    found = Seat(*map(int, texts)) if all(text.isdecimal() for text in texts) else None
    if missing or found is None or found.rank >= found.world:
        said = (f"{name}={environment.get(name, '')}" for name in names[:3])
        given = f"no {', '.join(missing)}" if missing else " ".join(said)
        raise UserError(
            f"--engine torchrun was given, and the environment has {given}; expected what torchrun "
            "sets; start with: torchrun --nproc_per_node N scripts/batch.py ..."
        )
    return found


@contextmanager
def company() -> Iterator[Seat]:
    """Join the other ranks while the block lasts; within another such block, do nothing more.

    Raises:
        UserError: torchrun has not started this process, or the others cannot be reached.
    """
    import torch.distributed as dist

    mine = seat()
    if dist.is_initialized():
        yield mine
        return
    if "TORCHELASTIC_RUN_ID" in os.environ:
        end_with_parent()
    try:
        dist.init_process_group("gloo", timeout=_JOINING)
        _groups.append(dist.new_group(timeout=_PATIENCE))
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"the other ranks cannot be reached ({error}); expected all of them to start at the "
            "same time, with the same MASTER_ADDR and MASTER_PORT; check the launcher"
        ) from error
    try:
        yield mine
    finally:
        _groups.clear()
        dist.destroy_process_group()


def end_with_parent() -> None:
    """End this process soon after the one that has started it; for those that torchrun starts.

    Killed itself, torchrun cannot end them: they would wait for each other for ever, or draw beside
    the run that takes their place.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_EVERY)
        os._exit(1)  # everything on disk is whole at any moment

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


def run(
    plan: RunPlan, observer: Observer, make_worker: Callable[..., Worker] = Worker
) -> Iterator[Record]:
    """Draw what is left of a run together with the ranks that ``follow``; for rank 0.

    Args:
        plan: The run.
        observer: Called with this rank's notices.
        make_worker: Makes this rank's worker.

    Yields:
        The record of each picture that this rank draws when it is written; in the end those of all
        other ranks.

    Raises:
        StoreError: The place cannot be written.
        UserError: Another rank is gone or saw other files, or the model cannot be loaded.
    """
    with company() as mine:
        _send(plan)
        others: array[int] = array("q")
        yield from _share(plan, mine, make_worker, observer, others)
        done = Manifest(plan.store).done() if others else {}
        yield from (done[number] for number in others if number in done)


def follow(observer: Observer, make_worker: Callable[..., Worker] = Worker) -> None:
    """Draw this rank's share of the run that rank 0 has planned, or nothing where it says so.

    Args:
        observer: Called with this rank's warnings.
        make_worker: Makes this rank's worker.

    Raises:
        StoreError: The place cannot be written.
        UserError: Another rank is gone, or the model cannot be loaded.
    """

    def warn(event: Notice | Progress) -> None:
        if isinstance(event, Notice) and event.warning:
            observer(event)

    with company() as mine:
        plan = _send(None)
        if plan is not None:
            for _ in _share(plan, mine, make_worker, warn, array("q")):
                pass


def dismiss() -> None:
    """Tell the ranks that follow that there is nothing to draw; for rank 0."""
    _send(None)


def _share(
    plan: RunPlan,
    mine: Seat,
    make_worker: Callable[..., Worker],
    observer: Observer,
    others: array[int],
) -> Iterator[Record]:
    """Draw one rank's share; note the numbers of the pictures of all others."""
    done = Manifest(plan.store).done()
    _meet()
    seen = hashlib.sha256()
    name, device = f"rank-{mine.rank}", _device(plan.settings.device, mine)
    with make_worker(plan, name, device=device, observer=observer) as worker:
        left = buckets(remaining(plan, done), plan.settings.batch_size)
        for turn, bucket in enumerate(left):
            for job in bucket:
                seen.update(f"{job.number} {job.digest}\n".encode())
            if turn % mine.world == mine.rank:
                yield from worker.start(bucket)
            else:
                others.extend(job.number for job in bucket)
        yield from worker.close()
    _agree(seen.hexdigest(), mine)


def _send(plan: RunPlan | None) -> RunPlan | None:
    """Send rank 0's plan to all; return it."""
    import torch.distributed as dist

    parcel = [plan]
    with _told():
        dist.broadcast_object_list(parcel, src=0, group=_groups[-1])
    return parcel[0]


def _meet() -> None:
    """Wait until all ranks have come to the same point."""
    import torch.distributed as dist

    with _told():
        dist.barrier(group=_groups[-1])


def _agree(seen: str, mine: Seat) -> None:
    """Wait for all ranks, and check that all of them have cut the same jobs.

    Raises:
        UserError: They have not; the first rank says so for all.
    """
    import torch.distributed as dist

    found: list[str] = [""] * mine.world
    with _told():
        dist.all_gather_object(found, seen, group=_groups[-1])
    others = [rank for rank, each in enumerate(found) if each != seen]
    if others and mine.rank == 0:
        raise UserError(
            f"rank {others[0]} found other jobs to draw than rank 0 did, so some are drawn by "
            "nobody; expected every node to see the same files; check that it can read all that "
            "JOBS names, and run again: what is drawn is kept"
        )


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise UserError(
            f"another rank has ended before all was drawn ({error}); expected all to go on to the "
            "end; run again: what is drawn is kept"
        ) from error


def _device(device: str, mine: Seat) -> str:
    """Return where this rank computes: its own one of the machine's GPUs, unless one is named."""
    if device not in ("auto", "cuda"):
        return device
    import torch

    count = torch.cuda.device_count()
    return f"cuda:{mine.local % count}" if count else device
