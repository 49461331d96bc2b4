"""Edits as they are typed."""

from __future__ import annotations

import pytest

from ldm.errors import UserError
from ldm.settings.edit_words import (
    read_blend,
    read_weights,
    read_window,
    read_windows,
    weights_text,
    window_text,
)


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        (None, {}),
        ("snowy=2,house=-1", {"snowy": 2.0, "house": -1.0}),
        ("light blue = 0.5", {"light blue": 0.5}),
        ("赤い=3、猫=0", {"赤い": 3.0, "猫": 0.0}),
        ("a=b=2", {"a=b": 2.0}),
    ],
)
def test_weights_are_read_by_word(text, weights):
    assert read_weights(text) == weights
    assert read_weights(weights_text(weights) or None) == weights


def test_weights_are_written_to_the_last_digit():
    assert weights_text({"a": 2.0, "b": 0.1 + 0.2}) == "a=2,b=0.30000000000000004"
    assert read_weights(weights_text({"b": 1e-9 / 3, "c": 1e30})) == {"b": 1e-9 / 3, "c": 1e30}


@pytest.mark.parametrize("text", ["dog=0.2,dog=0.3", "dog=0,Dog=1", "a=1,dog=0,dog =0"])
def test_a_word_that_is_given_twice_is_told(text):
    for read in (read_weights, read_windows):
        with pytest.raises(UserError, match="expected each word once.*'[dD]og'"):
            read(text)


@pytest.mark.parametrize("text", ["", ",", "snowy", "snowy=", "=2", "a=two", "a=1,b=nan", "a=inf"])
def test_what_is_no_weight_is_named_in_one_line(text):
    with pytest.raises(UserError, match="--reweight .* was given; expected words with") as error:
        read_weights(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("0.8", 0.8),
        ("0.2:0.8", (0.2, 0.8)),
        ("0.2,0.8", (0.2, 0.8)),
        ("1", 1.0),
        ("house=0.4", {"house": 0.4}),
        ("0.8,house=0.4,snowy=0:0.2", {"default_": 0.8, "house": 0.4, "snowy": (0.0, 0.2)}),
        ("0.1,0.8,house=0.4", {"default_": (0.1, 0.8), "house": 0.4}),
    ],
)
def test_windows_are_read_and_written_alike(text, window):
    assert read_windows(text) == window
    assert read_windows(window_text(window)) == window


@pytest.mark.parametrize(
    "text", ["", "x", "1.5", "-0.1", "0.8:0.2", "0.1:0.2:0.3", "0.1,0.2,0.3", "a=2", "a=", "nan"]
)
def test_what_is_no_window_is_named_in_one_line(text):
    with pytest.raises(UserError, match="expected a share of the steps from 0 to 1") as error:
        read_windows(text)
    assert "\n" not in str(error.value)


def test_a_window_of_the_self_attention_names_its_own_flag():
    with pytest.raises(UserError, match="--self_replace_steps 2 was given"):
        read_window("2", "--self_replace_steps")


def test_blended_words_of_one_target_hold_for_all():
    assert read_blend(None, 3) == []
    assert read_blend("cake|cake", 1) == [["cake"], ["cake"]]
    assert read_blend("cat,hat|dog", 2) == [["cat", "hat"], ["dog"], ["dog"]]
    assert read_blend("cat|dog|pig", 2) == [["cat"], ["dog"], ["pig"]]


@pytest.mark.parametrize("text", ["", "cat", "|dog", "cat|", "cat|dog|pig|cow"])
def test_blended_words_that_do_not_fit_the_prompts_are_refused(text):
    with pytest.raises(UserError, match="--blend .* expected words of the source, a bar"):
        read_blend(text, 2)
