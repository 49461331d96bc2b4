"""Bad items give way to others, are counted over all workers, and end nothing but hopeless runs."""

from __future__ import annotations

import logging
import pickle

import pytest
import torch
from torch.utils.data import DataLoader

from ldm.data.skipping import BadItem, SkippingDataset, substitutes
from ldm.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


class Numbers(SkippingDataset):
    """Items are their numbers and a random one; those in ``bad`` fail."""

    def __init__(self, length: int, bad: set[int]):
        self.bad = bad
        super().__init__(length, source="numbers")

    def item(self, index, rng):
        if index in self.bad:
            raise BadItem(f"number {index} is bad")
        return {"number": index, "random": rng.random()}


def test_another_item_stands_in_for_a_bad_one_always_the_same():
    first, second = Numbers(10, {3, 4}), Numbers(10, {3, 4})
    stand_in = first[3]["number"]
    assert stand_in not in (3, 4)
    assert [first[3]["number"], second[3]["number"]] == [stand_in] * 2
    assert [first[k]["number"] for k in (0, 5, 9)] == [0, 5, 9]


@pytest.mark.parametrize("length", [1, 2, 7, 10, 999])
def test_every_other_item_is_tried_before_giving_up(length):
    for index in {0, length // 2, length - 1}:
        order = list(substitutes(index, length))
        assert order[0] == index
        assert sorted(order) == list(range(length))


def test_stand_ins_leave_a_block_of_bad_files_within_a_few_tries():
    tried = list(substitutes(500_000, 1_000_000))
    assert sum(400_000 <= k < 600_000 for k in tried[:10]) <= 4


def test_without_bad_items_every_item_is_itself_and_nothing_is_counted():
    data = Numbers(4, set())
    assert [item["number"] for item in data] == [0, 1, 2, 3]
    assert data.bad_items.count == 0


def test_workers_count_bad_items_together_and_yield_full_batches():
    data = Numbers(12, {2, 3, 7})
    batches = list(DataLoader(data, batch_size=4, num_workers=2))
    assert [len(batch["number"]) for batch in batches] == [4, 4, 4]
    assert not {2, 3, 7} & set(torch.cat([batch["number"] for batch in batches]).tolist())
    assert data.bad_items.count == 3
    assert data.bad_items.summary() == ("numbers: 3 of 12 items were bad; others took their places")


def test_one_warning_is_given_however_many_items_are_bad(caplog):
    with caplog.at_level(logging.WARNING):
        data = Numbers(10, {0, 1, 2, 3})
        for _ in range(2):
            list(data)
    (record,) = caplog.records
    assert "number 0 is bad" in record.getMessage()


def test_a_set_of_bad_items_only_is_refused_when_it_is_made():
    with pytest.raises(UserError, match=r"3 items in a row cannot be read, the last as number"):
        Numbers(3, {0, 1, 2})


def test_an_empty_set_is_refused():
    with pytest.raises(UserError, match="numbers has no pictures"):
        Numbers(0, set())


def test_items_that_all_turn_bad_later_are_an_error_of_one_line():
    data = Numbers(5, set())
    data.bad = set(range(5))
    with pytest.raises(UserError, match="5 items in a row") as error:
        data[2]
    assert "\n" not in str(error.value)


def test_making_a_data_set_leaves_the_random_numbers_alone():
    torch.manual_seed(1)
    Numbers(5, {0})
    drawn = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(3))


def test_the_same_seed_gives_the_same_items_and_an_item_draws_apart_from_others():
    def items(bad):
        torch.manual_seed(5)
        return [item["random"] for item in Numbers(6, bad)]

    assert items(set()) == items(set())
    assert len(set(items(set()))) == 6
    assert items({2})[3:] == items(set())[3:]


def test_workers_draw_different_numbers_and_the_same_again_with_the_same_seed():
    def epoch():
        torch.manual_seed(7)
        loader = DataLoader(Numbers(8, set()), batch_size=None, num_workers=2)
        return [item["random"] for item in loader]

    first = epoch()
    assert len(set(first)) == 8
    assert first == epoch()


def test_a_data_set_can_be_sent_to_a_worker_that_is_not_forked():
    copy = pickle.loads(pickle.dumps(Numbers(5, {1})))
    assert copy[1]["number"] != 1
