"""Jobs in buckets: those that a worker can draw together, as it would group them. No torch.

Jobs are looked at through a window, so that a file of any length needs little memory; what is left
of a group at the window's end waits for more of its kind.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from ldm.jobs.job import Job, schema_of
from ldm.pipelines.grouping import OF_A_ROW
from ldm.settings.tags import split_tags

WINDOW = 8192
"""Jobs that are sorted at a time."""


def buckets(
    jobs: Iterable[Job], batch_size: int, window: int = WINDOW
) -> Iterator[tuple[Job, ...]]:
    """Put jobs of one kind together; those of a kind keep their order.

    Args:
        jobs: In any order.
        batch_size: The most jobs in a bucket.
        window: How many jobs are sorted at a time.
    """
    jobs, left = iter(jobs), []
    while True:
        fresh = list(islice(jobs, max(1, window - len(left))))
        groups: dict[str, list[Job]] = {}
        for job in (*left, *fresh):
            groups.setdefault(kind_of(job), []).append(job)
        left = []
        # Groups without a full bucket wait, unless they alone fill the window.
        crowded = sum(len(g) for g in groups.values() if len(g) < batch_size) > window // 2
        for group in groups.values():
            whole = len(group) - len(group) % batch_size if fresh and not crowded else len(group)
            for first in range(0, whole, batch_size):
                yield tuple(group[first : min(first + batch_size, whole)])
            left += group[whole:]
        if not fresh:
            return


def kind_of(job: Job) -> str:
    """Return what the jobs of a bucket have in common, as text.

    It says at least what ``ldm.pipelines.together.group_of`` can tell without reading weights; a
    worker groups once more, so what is too coarse here costs time and nothing else.
    """
    values: dict[str, Any] = {k: v for k, v in job.values.items() if k not in OF_A_ROW}
    values["program"] = schema_of(job.values).program
    values["guided"] = job.values.get("scale") != 1.0
    values["tags"] = _tags(job.values.get("prompt", ""))
    path = job.values.get("init_img")
    own = job.values.get("W"), job.values.get("H")
    values["size"] = own if path is None else _size_of(path)
    return json.dumps(values, sort_keys=True)


def _tags(prompt: str) -> list[str]:
    """Return what a prompt names that acts on the whole model."""
    return [tag.written for tag in split_tags(prompt)[1]] if "<" in prompt else []


def _size_of(path: str) -> tuple[int, ...]:
    """Return a picture's width and height as its header has them; nothing where that is broken."""
    from ldm.images.opening import opened

    try:
        with opened(path) as image:
            return image.size
    except Exception:  # the worker says what is wrong with it: it costs that picture
        return ()
