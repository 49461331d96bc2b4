"""Work on parts of a data set in processes and threads."""

from __future__ import annotations

import queue
import time

import numpy as np
import pytest

from ldm.errors import UserError
from ldm.prefetch import _do_parallel_data_prefetch, parallel_data_prefetch

BOTH = pytest.mark.parametrize("cpu_intensive", [False, True])


@BOTH
@pytest.mark.parametrize("n_proc", [1, 3, 4, 20])
@pytest.mark.parametrize("count", [1, 4, 11])
def test_parts_are_joined_in_order_however_many_there_are(n_proc, count, cpu_intensive):
    rows = np.arange(count * 2).reshape(count, 2)
    found = parallel_data_prefetch(lambda part: part * 3, rows, n_proc, "ndarray", cpu_intensive)
    assert np.array_equal(found, rows * 3)
    texts = [str(n) for n in range(count)]
    found = parallel_data_prefetch(
        lambda part: [text + "!" for text in part], texts, n_proc, "list", cpu_intensive
    )
    assert found == [text + "!" for text in texts]


def test_the_function_is_called_once_for_each_part():
    sizes = parallel_data_prefetch(len, list(range(10)), 3, "other", cpu_intensive=False)
    assert sizes == [4, 4, 2]


def test_a_slow_part_does_not_change_the_order():
    def work(part):
        time.sleep(0.05 if 0 in part else 0.0)
        return part

    found = parallel_data_prefetch(work, list(range(6)), 3, "list", cpu_intensive=False)
    assert found == list(range(6))


def test_workers_may_ask_for_their_number():
    found = parallel_data_prefetch(
        lambda part, worker_id: [worker_id] * len(part),
        range(4),
        2,
        "list",
        cpu_intensive=False,
        use_worker_id=True,
    )
    assert found == [0, 0, 1, 1]


def test_of_a_mapping_the_values_are_used():
    found = parallel_data_prefetch(lambda part: part, {"a": 1, "b": 2}, 2, "list", False)
    assert found == [1, 2]


@BOTH
def test_a_failing_part_is_told_and_does_not_hang(cpu_intensive):
    with pytest.raises(RuntimeError, match="part 1 .*ZeroDivisionError"):
        parallel_data_prefetch(
            lambda part: [1 // x for x in part], [1, 0], 2, "list", cpu_intensive
        )


def test_a_failing_part_does_not_wait_for_the_others():
    def work(part):
        if part == [0]:
            raise ValueError("too short")
        time.sleep(0.3)  # until nobody reads any more
        return ["x" * 10**6]  # more than a pipe holds

    with pytest.raises(RuntimeError, match="part 0 .*too short"):
        parallel_data_prefetch(work, [0, 1], 2, "list")


def test_what_cannot_be_cut_is_refused():
    with pytest.raises(ValueError, match="list expected"):
        parallel_data_prefetch(len, np.zeros(3), 1, "list")
    with pytest.raises(TypeError, match="int"):
        parallel_data_prefetch(len, 3, 1)
    with pytest.raises(UserError, match="n_proc 0"):
        parallel_data_prefetch(len, [1], 0)


def test_a_worker_puts_its_result_and_then_says_that_it_is_done():
    results = queue.Queue()
    _do_parallel_data_prefetch(sum, results, [1, 2], 5)
    assert [results.get(), results.get()] == [[5, 3], "Done"]


def test_what_cannot_go_between_processes_is_told_and_nothing_is_left_out():
    with pytest.raises(RuntimeError, match="part 1 .*failed: .*pickle"):
        parallel_data_prefetch(
            lambda part: [(lambda: 0) if x else x for x in part], [0, 1], 2, "list"
        )


@BOTH
def test_a_part_may_be_none(cpu_intensive):
    assert parallel_data_prefetch(lambda _: None, [0, 1], 2, "other", cpu_intensive) == [None, None]
