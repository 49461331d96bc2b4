"""Threads ahead of a reader: in order, no further ahead than said, with errors in their places."""

from __future__ import annotations

import pytest

from ldm.jobs.ahead import ahead


def test_results_come_in_the_order_of_the_items_and_items_are_not_all_taken_at_once():
    taken = []

    def items():
        for item in range(100):
            taken.append(item)
            yield item

    results = ahead(lambda item: item * 2, items(), threads=3)
    assert next(results) == 0
    assert len(taken) == 7  # the one that was yielded, and twice the threads
    assert list(results) == list(range(2, 200, 2))


def test_an_error_is_raised_in_its_items_place():
    def call(item):
        if item == 2:
            raise OSError("broken")
        return item

    results = ahead(call, range(5))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(OSError, match="broken"):
        next(results)
