"""Windows, chips and words of an edit become the settings that a command line would give."""

from __future__ import annotations

import pytest

from ldm.errors import UserError
from ldm.settings.edit_words import read_weights
from ldm.settings.swap import LowMemorySwapSettings
from optimizedSD.web.edit_fields import (
    LEAST_WEIGHT,
    MOST_WEIGHT,
    chips,
    edit_fields,
    edit_labels,
    edit_settings,
    weight_of,
    with_weight,
)
from optimizedSD.web.fields import with_labels


def held(**changes):
    """Return what the controls hold after some of them were changed."""
    return list(({field.name: field.value for field in edit_fields()} | changes).values())


def test_untouched_controls_are_the_programs_defaults():
    settings = edit_settings(held())
    assert settings == {name: getattr(LowMemorySwapSettings, name) for name in settings}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"cross_replace_steps_end": 1}, {"cross_replace_steps": "1"}),
        ({"cross_replace_steps_start": 0.25}, {"cross_replace_steps": "0.25:0.8"}),
        ({"self_replace_steps_end": 0.0}, {"self_replace_steps": "0"}),
        ({"self_replace_steps_start": 0.1}, {"self_replace_steps": "0.1:0.4"}),
        ({"reweight": " snowy=2 "}, {"reweight": "snowy=2"}),
        ({"blend_source": "cat", "blend_edit": "dog, bone"}, {"blend": "cat|dog, bone"}),
    ],
)
def test_a_control_changes_its_own_setting_alone(changes, expected):
    assert edit_settings(held(**changes)) == edit_settings(held()) | expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cross_replace_steps_end": 1.5}, "“Words” 1.5 was given; expected a number from 0"),
        ({"self_replace_steps_start": None}, "“Layout” is empty; expected a number from 0"),
        ({"self_replace_steps_end": "a"}, "“Layout” a was given"),
        ({"cross_replace_steps_start": True}, "“Words” True was given"),
        ({"reweight": "snowy"}, "“Weights” 'snowy' was given; expected words with numbers"),
        ({"reweight": "snowy=1e30"}, "“Weights” snowy=1e+30 was given; expected a weight from"),
        ({"reweight": None}, "“Weights” None was given; expected text"),
        ({"blend_source": "cat"}, "“Change only” 'cat' was given for one prompt only"),
        ({"blend_edit": "dog", "blend_source": " "}, "“Change only” 'dog' was given for one"),
    ],
)
def test_a_mistake_is_one_line_in_the_pages_words(changes, message):
    with pytest.raises(UserError) as caught:
        edit_settings(held(**changes))
    text = with_labels(str(caught.value), edit_labels())
    assert message in text
    assert "--" not in text
    assert "\n" not in text


def test_a_window_that_ends_before_it_begins_is_refused_with_the_other_settings():
    wrong = edit_settings(held(cross_replace_steps_start=0.9))
    with pytest.raises(UserError, match=r"--cross_replace_steps 0.9:0.8 was given"):
        LowMemorySwapSettings(sprompt="a", prompt="b", is_swap=True, **wrong).validate()


def test_each_word_has_one_chip_that_shows_its_weight():
    words = ["A", "cat", "and", "a", "blue", "Cat"]
    shown = chips(words, "CAT=2.5, blue=-1")
    assert shown == [("A", "A"), ("cat ×2.5", "cat"), ("and", "and"), ("blue ×-1", "blue")]


@pytest.mark.parametrize("typed", ["cat", "cat=", "cat=2, dog", "=", ","])
def test_chips_stay_while_weights_are_being_typed(typed):
    assert chips(["cat"], typed) == [("cat", "cat")]


def test_a_word_that_cannot_be_written_as_a_weight_has_no_chip():
    assert chips(["1,000", "cats"], "") == [("cats", "cats")]


@pytest.mark.parametrize("word", ["snowy", "犬", "it's", "3.5"])
@pytest.mark.parametrize("weight", [LEAST_WEIGHT, 0, 0.1, 2.5, MOST_WEIGHT])
def test_a_weight_that_is_set_is_read_again(word, weight):
    typed = with_weight(word, weight, "house=-1")
    assert read_weights(typed) == {"house": -1.0, word: weight}
    assert weight_of(word, typed) == weight
    assert with_weight(word, 1, typed) == "house=-1"


def test_a_weight_beyond_the_slider_is_shown_at_its_end():
    assert weight_of("cat", "cat=50") == MOST_WEIGHT
    assert weight_of("cat", "cat=-50") == LEAST_WEIGHT
