"""Windows of steps begin and end where the published code has them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from edited_walks import read

from ldm.errors import UserError
from ldm.modules.attention_control.windows import bounds, is_within, token_windows

PROMPT = read("a snowy house, a house")
SNOWY, HOUSES = (2,), (3, 6)


def held(windows, total=50):
    return token_windows(windows, PROMPT, total, "cross_steps")


@pytest.mark.parametrize("total", [1, 3, 20, 50])
@pytest.mark.parametrize("window", [0.0, 0.3, 0.8, 1.0, (0.0, 0.0), (0.2, 0.8), (0.5, 1.0)])
def test_a_bound_of_words_lies_at_row_int_of_x_times_steps_and_one(window, total):
    start, end = window if isinstance(window, tuple) else (0.0, window)
    table = held(window, total)
    assert table.shape == (total + 1, PROMPT.length)
    first, behind = int(start * (total + 1)), int(end * (total + 1))
    for number, row in enumerate(table):
        assert row.tolist() == [float(first <= number < behind)] * PROMPT.length


def test_the_papers_usual_windows_take_40_and_20_of_50_steps():
    assert held(0.8)[:, 0].tolist() == [1.0] * 40 + [0.0] * 11
    within = [is_within(0.4, number, 50, "self_steps") for number in range(50)]
    assert within == [True] * 20 + [False] * 30


@pytest.mark.parametrize("total", [1, 3, 20, 50])
@pytest.mark.parametrize("window", [0.0, 0.3, 1.0, (0.2, 0.8), (0.99, 1.0)])
def test_a_bound_of_places_lies_at_step_int_of_x_times_steps(window, total):
    start, end = window if isinstance(window, tuple) else (0.0, window)
    within = [n for n in range(total) if is_within(window, n, total, "self_steps")]
    assert within == [*range(int(start * total), int(end * total))]


def test_a_word_has_its_own_window_wherever_it_stands_and_the_others_the_default():
    table = held({"default_": 0.8, "house": (0.2, 0.4), "snowy": 0.0})
    expected = torch.zeros(51, PROMPT.length)
    expected[:40] = 1
    expected[:, [*SNOWY, *HOUSES]] = 0
    expected[10:20, list(HOUSES)] = 1  # int(.2 * 51), int(.4 * 51)
    assert torch.equal(table, expected)


def test_the_default_is_all_steps_where_none_is_given():
    table = held({"house": 0.0})
    assert table[:, list(HOUSES)].sum() == 0
    assert table.sum() == (PROMPT.length - 2) * 51 == table.clone().bool().sum()


@pytest.mark.parametrize("window", [0, 1, 0.5, (0, 1), [0.2, 0.4], np.float32(0.5)])
def test_shares_may_be_any_kind_of_number(window):
    start, end = bounds(window, "cross_steps")
    assert isinstance(start, float) and 0 <= start <= end <= 1


@pytest.mark.parametrize(
    "window",
    [1.1, -0.1, (0.6, 0.4), (0.2, 1.5), (0.1, 0.2, 0.3), (0.5,), "0.8", "ab", None,
     float("nan"), (0.0, float("nan")), ("0", "1")],
)  # fmt: skip
def test_what_is_no_window_is_refused_in_one_line(window):
    with pytest.raises(UserError, match="expected a share of the steps from 0 to 1") as refused:
        bounds(window, "self_steps")
    assert str(refused.value).startswith(f"self_steps {window!r}")
    assert "\n" not in str(refused.value)


def test_a_word_that_is_not_in_the_prompt_is_refused_with_the_nearest():
    with pytest.raises(UserError, match="'horse' is not in the prompt .*did you mean 'house'"):
        held({"horse": 0.2})
    with pytest.raises(UserError, match="cross_steps of 'house' 2 was given"):
        held({"house": 2})
