"""Workers that torchrun has started, on one machine or many: each rank draws its own share.

    torchrun --nproc_per_node 8 scripts/batch.py JOBS --out FOLDER --engine torchrun

Every rank reads the same jobs, leaves out what the manifest says is done, and takes each WORLD_SIZE-th
bucket of the rest. They wait for each other twice: nobody draws before all have read the manifest, as
they would cut the rest in different ways; and all are there until the last one is done, as torchrun
ends the others when one is gone. In between there is no traffic. If a rank dies, torchrun ends all;
begun again, they cut what is left anew.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from itertools import islice
from typing import NamedTuple

from ldm.errors import UserError
from ldm.jobs.buckets import buckets
from ldm.jobs.manifest import Manifest
from ldm.jobs.records import Record
from ldm.jobs.run import RunPlan, remaining
from ldm.jobs.worker import Worker
from ldm.pipelines.progress import Observer

_PATIENCE = timedelta(days=365)  # the first rank to be done waits for the last one


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
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    found = {name: environment.get(name, "") for name in names}
    missing = [name for name in (*names, "MASTER_ADDR", "MASTER_PORT") if not environment.get(name)]
    numbers = all(text.isdecimal() for text in found.values())
    if missing or not numbers or int(found["RANK"]) >= int(found["WORLD_SIZE"]):
        given = (
            f"no {', '.join(missing)}"
            if missing
            else " ".join(f"{k}={v}" for k, v in found.items())
        )
        raise UserError(
            f"--engine torchrun was given and the environment has {given}; expected what torchrun "
            "sets; start with: torchrun --nproc_per_node N scripts/batch.py ..."
        )
    return Seat(*(int(found[name]) for name in names))


def run(plan: RunPlan, observer: Observer) -> Iterator[Record]:
    """Draw this rank's share of what is left of a run; yield the record of each picture.

    Args:
        plan: The run.
        observer: Called with notices.

    Raises:
        StoreError: The place cannot be written.
        UserError: torchrun has not started this process, another rank is gone, or the model cannot
            be loaded.
    """
    mine = seat()
    with _company() as meet:
        done = Manifest(plan.store).done()
        meet()
        left = buckets(remaining(plan, done), plan.settings.batch_size)
        name, device = f"rank-{mine.rank}", _device(plan.settings.device, mine)
        with Worker(plan, name, device=device, observer=observer) as worker:
            for bucket in islice(left, mine.rank, None, mine.world):
                yield from worker.start(bucket)
            yield from worker.close()
        meet()


@contextmanager
def _company() -> Iterator[object]:
    """Join the other ranks; yield what waits until all of them have come to the same point."""
    import torch.distributed as dist

    try:
        dist.init_process_group("gloo", timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"the other ranks cannot be reached ({error}); expected all of them to start at the "
            "same time, with the same MASTER_ADDR and MASTER_PORT; check the launcher"
        ) from error
    try:
        yield _meet
    finally:
        dist.destroy_process_group()


def _meet() -> None:
    import torch.distributed as dist

    try:
        dist.barrier()
    except RuntimeError as error:
        raise UserError(
            f"another rank has ended before all was drawn ({error}); expected all to go on to the "
            "end; run again: what is drawn is kept"
        ) from error


def _device(device: str, mine: Seat) -> str:
    """Return where this rank computes: its own one of the machine's GPUs, unless one is named."""
    import torch

    count = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    return f"cuda:{mine.local % count}" if count else device
