"""Work on a data set in parts, by processes or threads: the reference's ``parallel_data_prefetch``.

A part is a share of the items, and the function is called once for each part.
"""

from __future__ import annotations

import logging
import multiprocessing
import pickle
import queue
import threading
from collections.abc import Callable, Iterable, Mapping
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np

from ldm.errors import UserError

logger = logging.getLogger(__name__)

DONE = "Done"
"""What a worker puts into its queue after its result."""
PATIENCE = 1.0
"""Seconds between two looks at whether the workers still live."""


class _Failure(str):
    """What went wrong in a worker."""


def _do_parallel_data_prefetch(
    func: Callable,
    Q: Any,  # noqa: N803 - the reference's name
    data: Any,
    idx: int,
    idx_to_fn: bool = False,
) -> None:
    """Put ``[idx, func(data)]`` and then ``"Done"`` into ``Q``.

    Args:
        func: Takes a part; with ``idx_to_fn`` also ``worker_id``, the part's number.
        Q: A queue of threads or processes.
        data: The part.
        idx: Its number.
        idx_to_fn: See ``func``.
    """
    Q.put([idx, func(data, worker_id=idx) if idx_to_fn else func(data)])
    Q.put(DONE)


class _Pickles:
    """A queue between processes that raises for what cannot be pickled.

    ``multiprocessing``'s own pickles in a thread, which drops such an item.
    """

    def __init__(self) -> None:
        self._queue = multiprocessing.Queue()

    def put(self, item: Any) -> None:
        self._queue.put(bytes(ForkingPickler.dumps(item)))

    def get(self, timeout: float) -> Any:
        return pickle.loads(self._queue.get(timeout=timeout))  # of our own workers

    def empty(self) -> bool:
        return self._queue.empty()


def _work(func: Callable, results: Any, part: Any, idx: int, idx_to_fn: bool) -> None:
    try:
        _do_parallel_data_prefetch(func, results, part, idx, idx_to_fn)
    except BaseException as error:  # noqa: BLE001 - told by the caller, whatever it is
        results.put([idx, _Failure(f"{type(error).__name__}: {error}")])
        results.put(DONE)


def parallel_data_prefetch(
    func: Callable,
    data: Iterable,
    n_proc: int,
    target_data_type: str = "ndarray",
    cpu_intensive: bool = True,
    use_worker_id: bool = False,
) -> Any:
    """Cut ``data`` into ``n_proc`` parts, call ``func`` on each in a worker, and join the results.

    Args:
        func: Takes a part: an array, or a list unless ``target_data_type`` is ``ndarray``. Returns
            as many rows as it joins to the result.
        data: The items; of a mapping, its values.
        n_proc: Workers, 1 or more; no more are started than there are items.
        target_data_type: ``ndarray`` joins along the first axis, ``list`` into one list; any other
            word returns the list of the parts' results.
        cpu_intensive: Processes; otherwise threads.
        use_worker_id: Call ``func(part, worker_id=number)``.

    Returns:
        The results in the order of the parts.

    Raises:
        UserError: ``n_proc`` is below 1.
        ValueError: ``data`` is an array where a list is expected.
        TypeError: ``data`` cannot be iterated.
        RuntimeError: A worker failed; the message says how.
    """
    if n_proc < 1:
        raise UserError(f"n_proc {n_proc} given; expected 1 or more; raise it")
    parts = _parts(data, n_proc, target_data_type)
    results, worker = queue.Queue(), threading.Thread
    if cpu_intensive:
        results, worker = _Pickles(), multiprocessing.Process
    workers = [
        worker(target=_work, args=(func, results, part, idx, use_worker_id))
        for idx, part in enumerate(parts)
    ]
    for each in workers:
        each.start()
    try:
        gathered = _gather(results, workers)
    except BaseException:
        # A process that still has something to hand over would wait for its reader for ever.
        for each in workers if cpu_intensive else ():
            each.terminate()
        raise
    finally:
        for each in workers:
            each.join()
    return _join(gathered, target_data_type)


def _parts(data: Any, count: int, kind: str) -> list[Any]:
    """Cut the items into at most ``count`` parts, none of them empty unless all are."""
    if isinstance(data, np.ndarray) and kind == "list":
        raise ValueError("list expected but function got ndarray.")
    if not isinstance(data, Iterable):
        raise TypeError(f"data is a {type(data).__name__}; expected an array or an iterable")
    if isinstance(data, Mapping):
        logger.warning("data is a mapping: its values are used, its keys are not")
        data = list(data.values())
    if kind == "ndarray":
        data = np.asarray(data)
        return np.array_split(data, max(1, min(count, len(data))))
    data = list(data)
    step = max(1, -(-len(data) // count))
    return [data[i : i + step] for i in range(0, len(data), step)] or [[]]


def _gather(results: Any, workers: list[Any]) -> list[Any]:
    """Wait for all parts' results; a worker that dies without a word is noticed too."""
    gathered: list[Any] = [None] * len(workers)
    ended = 0
    while ended < len(workers):
        try:
            found = results.get(timeout=PATIENCE)
        except queue.Empty:
            if not any(worker.is_alive() for worker in workers) and results.empty():
                raise RuntimeError("a worker of parallel_data_prefetch ended early") from None
            continue
        if isinstance(found, str) and found == DONE:
            ended += 1
        elif isinstance(found[1], _Failure):
            raise RuntimeError(f"part {found[0]} of parallel_data_prefetch failed: {found[1]}")
        else:
            gathered[found[0]] = found[1]
    return gathered


def _join(gathered: list[Any], kind: str) -> Any:
    if kind == "ndarray":
        return np.concatenate([np.asarray(part) for part in gathered], axis=0)
    if kind == "list":
        return [item for part in gathered for item in part]
    return gathered
