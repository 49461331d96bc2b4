"""Values of an axis: lists, ranges and counts, exact to what their labels show."""

from __future__ import annotations

import pytest

from ldm.errors import UserError
from ldm.sweeps.ranges import MOST_VALUES, read_numbers, read_texts


@pytest.mark.parametrize(
    ("typed", "whole", "values"),
    [
        ("1, 2, 5", True, ["1", "2", "5"]),
        ("1-5", True, ["1", "2", "3", "4", "5"]),
        ("1-10 (+3)", True, ["1", "4", "7", "10"]),
        ("1-9 (+3)", True, ["1", "4", "7"]),
        ("10-1 (-3)", True, ["10", "7", "4", "1"]),
        ("3-1", True, ["3", "2", "1"]),
        ("2-21 [7]", True, ["2", "5", "8", "11", "14", "17", "21"]),
        ("2-21 [7]", False, ["2", "5.16667", "8.33333", "11.5", "14.6667", "17.8333", "21"]),
        ("0.1-0.5 (+0.1)", False, ["0.1", "0.2", "0.3", "0.4", "0.5"]),
        ("-1 - 1 [3]", False, ["-1", "0", "1"]),
        ("1-2 [9]", True, ["1", "2"]),
        ("7, 1-3, .5", False, ["7", "1", "2", "3", "0.5"]),
    ],
)
def test_ranges_are_read_as_they_are_written_there(typed, whole, values):
    read = read_numbers(typed, whole=whole)
    assert (read if "[7]" not in typed or not whole else [read[0], read[-1], len(read)]) == (
        values if "[7]" not in typed or not whole else ["2", "21", 7]
    )


def test_tenths_add_up_exactly():
    assert read_numbers("0-1 (+0.1)", whole=False)[3] == "0.3"


@pytest.mark.parametrize(
    "typed",
    ["", "1,,2", "one", "1-", "1-5 (+0)", "1-5 (-1)", "1-5 [1]", "1-5 [0]", "1-5 [x]", "1--", '"1'],
)
def test_what_is_no_range_is_refused_in_one_line(typed):
    with pytest.raises(UserError, match="expected") as refused:
        read_numbers(typed, whole=True)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "typed", ["1-99999999999999999999", "0-1 [99999999999]", "1-2 (+.000001)", "1-600, 1-600"]
)
def test_a_typing_error_does_not_fill_the_memory(typed):
    with pytest.raises(UserError, match=f"at most {MOST_VALUES}"):
        read_numbers(typed, whole=False)


def test_quotation_marks_keep_a_comma():
    assert read_texts('a cat, "two dogs, running", 猫') == ["a cat", "two dogs, running", "猫"]
