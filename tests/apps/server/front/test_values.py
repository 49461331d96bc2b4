"""Values of a stranger's request: of their kind and in range, or refused by their name."""

from __future__ import annotations

import math

import pytest

from apps.server.front.values import Fields, Unfit, about
from ldm.errors import UserError
from ldm.settings.option import MAX_SEED

JUNK = ["x", "", [], {}, True, None, math.nan, math.inf, 10**400, -(10**400), 1e308, [[1]], "1"]


def refused(read) -> Unfit:
    with pytest.raises(Unfit) as caught:
        read()
    assert caught.value.status == 422
    assert len(str(caught.value).splitlines()) == 1 and len(str(caught.value)) < 1000
    return caught.value


@pytest.mark.parametrize("value", [each for each in JUNK if each is not None])
def test_junk_is_no_number_and_the_field_is_named(value):
    fields = Fields({"steps": value})
    assert refused(lambda: fields.whole("steps", 5, low=1, high=50)).field == "steps"
    assert refused(lambda: fields.number("steps", 5, low=1, high=50)).field == "steps"


@pytest.mark.parametrize("value", [each for each in JUNK if each not in (None, True)])
def test_junk_is_neither_true_nor_false(value):
    assert refused(lambda: Fields({"tiling": value}).truth("tiling", False)).field == "tiling"


@pytest.mark.parametrize("value", [1, [], {}, True, "\ud800", "a\0b", "x" * 11])
def test_a_text_is_unicode_of_bounded_length(value):
    assert refused(lambda: Fields({"prompt": value}).text("prompt", most=10)).field == "prompt"


def test_numbers_are_taken_from_their_lowest_to_their_highest():
    for value in (1, 50, 50.0):
        assert Fields({"n": value}).whole("n", 5, low=1, high=50) == value
    for value in (0, 51, 1.5):
        refused(lambda value=value: Fields({"n": value}).whole("n", 5, low=1, high=50))
    assert Fields({"n": 2.5}).number("n", 1, low=0, high=2.5) == 2.5


def test_null_counts_as_not_given():
    fields = Fields({"steps": None, "unheard": None})
    assert fields.whole("steps", 7, low=1, high=9) == 7
    assert not fields.given("steps")
    fields.close()


def test_texts_of_a_form_are_read_as_numbers_and_words():
    fields = Fields({"n": "3", "scale": "2.5", "flag": "TRUE", "stream": "False"}, typed=False)
    assert fields.whole("n", 1, low=1, high=9) == 3
    assert fields.number("scale", 1, low=1, high=9) == 2.5
    assert fields.truth("flag", False)
    fields.only("stream", (False,), "there is none")
    refused(lambda: Fields({"n": "nan"}, typed=False).number("n", 1, low=0, high=9))
    refused(lambda: Fields({"n": "9" * 400}, typed=False).whole("n", 1, low=0, high=9))


@pytest.mark.parametrize("text", ["5" + " " * 79 + "junk", "5" * 200, "5" + " " * 80])
def test_a_number_of_a_form_is_read_to_its_end(text):
    fields = Fields({"n": text}, typed=False)
    assert refused(lambda: fields.whole("n", 1, low=0, high=10**90)).field == "n"
    assert refused(lambda: fields.number("n", 1, low=0, high=1e90)).field == "n"


def test_fields_that_nobody_reads_are_refused_with_the_nearest_that_is_read():
    fields = Fields({"widht": 5, "q\x1b": 1})
    fields.whole("width", 5, low=1, high=9)
    told = str(refused(fields.close))
    assert "'widht' (the nearest is width)" in told and "\x1b" not in told


def test_thousands_of_unknown_fields_are_told_in_a_line():
    told = refused(Fields({f"f{k}" * 50: 1 for k in range(5000)}).close)
    assert "4992 more" in str(told) or "..." in str(told)


def test_what_is_not_done_is_taken_at_its_neutral_values_only():
    for value in (None, 0, 0.0):
        Fields({"s": value}).only("s", (0,), "why")
    for value in (1, False, "", [], math.nan, "0"):
        told = str(refused(lambda value=value: Fields({"s": value}).only("s", (0,), "why so")))
        assert "why so" in told and "expected 0" in told
    assert "expected nothing" in str(refused(lambda: Fields({"s": 1}).only("s", (), "why")))


def test_a_side_has_to_be_a_multiple_and_the_nearest_are_named():
    fields = Fields({"width": 70})
    told = str(refused(lambda: fields.side("width", 64, multiple=16, most=128)))
    assert "64 or 80" in told


def test_a_seed_is_random_where_it_is_minus_one_and_room_is_left_for_those_that_follow():
    seeds = {Fields({"seed": -1}).seed(4) for _ in range(20)}
    assert len(seeds) > 15 and all(0 <= seed < 2**32 for seed in seeds)
    assert Fields({"seed": MAX_SEED - 4}).seed(4) == MAX_SEED - 4
    for value in (MAX_SEED - 3, -2, 1.5):
        refused(lambda value=value: Fields({"seed": value}).seed(4))


def test_a_users_error_becomes_a_refusal_without_flags_and_paths():
    def fail() -> None:
        with about("mask", ["/srv/model.ckpt"]):
            raise UserError("--ddim_steps 5 was given; /srv/model.ckpt has 1; change it")

    error = refused(fail)
    assert error.field == "mask"
    assert "/srv" not in str(error) and "--" not in str(error) and "ddim_steps" in str(error)
