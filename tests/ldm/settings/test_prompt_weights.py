"""Prompts that are mixtures: what is a weight, what it does, and what is none."""

from __future__ import annotations

import pytest

from ldm.errors import UserError
from ldm.settings.prompt_weights import doubtful, mixture_of, weighted_texts


def test_the_forks_example_splits_as_it_does_there():
    split = weighted_texts("tabby cat:0.25 white duck:0.75 hybrid")
    assert split == [("tabby cat", 0.25), ("white duck", 0.75), ("hybrid", 1.0)]
    shares = mixture_of("tabby cat:0.25 white duck:0.75 hybrid")
    assert [share for _, share in shares] == [0.125, 0.375, 0.5]


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        ("cat:0.25, dog:0.75", [("cat", 0.25), ("dog", 0.75)]),
        ("cat:.5 dog:1. bird:+2", [("cat", 0.5), ("dog", 1.0), ("bird", 2.0)]),
        ("a 16:9 photo of a cat:2 dog", [("a 16:9 photo of a cat", 2.0), ("dog", 1.0)]),
        ("route 66:2.0 desert:1", [("route 66", 2.0), ("desert", 1.0)]),
        ("猫：0.25 犬：0.75", [("猫", 0.25), ("犬", 0.75)]),
        ("Bär:1\u3000Fuchs:2", [("Bär", 1.0), ("Fuchs", 2.0)]),
    ],
)
def test_a_number_after_a_word_and_a_colon_is_a_weight(prompt, texts):
    assert weighted_texts(prompt) == texts
    assert not [text for text in doubtful(prompt) if text != "16:9"]


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        ("a sign: hello", []),
        ("a sign:", []),
        (": ", []),
        ("", []),
        ("12:30 clock", ["12:30"]),
        ("a photo in 16:9", ["16:9"]),
        ("at 12:30:45", ["12:30:45"]),
        (":3 cat", [":3"]),
        ("cat: 0.5 dog", ["cat: 0.5"]),
        ("cat:0,5 dog", ["cat:0,5"]),
        ("cat:1e3 dog", ["cat:1e3"]),
        ("cat:0.5x", ["cat:0.5x"]),
        ("see http://x.org/a:80/b", ["http://x.org/a:80/b"]),
    ],
)
def test_other_colons_are_text_and_those_that_look_like_weights_are_named(prompt, named):
    assert mixture_of(prompt) == [(prompt, 1.0)]
    assert doubtful(prompt) == named


def test_what_is_no_weight_beside_one_that_is_is_named_too():
    assert doubtful("猫:0.25犬:0.75") == ["猫:0.25犬:0.75"]
    assert doubtful("cat:0.5 :0.5") == [":0.5"]


def test_shares_sum_to_1_and_depend_on_the_proportion_alone():
    for factor in (0.01, 1, 1000):
        shares = mixture_of(f"cat:{factor * 1} dog:{factor * 2} bird:{factor * 5}")
        assert sum(share for _, share in shares) == pytest.approx(1.0)
        assert [share for _, share in shares] == pytest.approx([0.125, 0.25, 0.625])


def test_a_weight_of_0_leaves_its_text_out_and_one_text_has_all_the_weight():
    assert mixture_of("cat:0 dog:0.5") == [("dog", 1.0)]
    assert mixture_of("cat:0.3") == [("cat", 1.0)]


@pytest.mark.parametrize(
    ("prompt", "hint"),
    [
        ("cat:-0.5 dog:1", "-0.5 of 'cat'.*--negative_prompt"),
        ("cat:0 dog:0", "sum to 0"),
        ("cat:0", "sum to 0"),
        (f"cat:{'9' * 400}", "sum to inf"),
        ("cat:1 dog:-1", "-1 of 'dog'"),
    ],
)
def test_weights_that_cannot_be_are_an_error(prompt, hint):
    with pytest.raises(UserError, match=hint) as caught:
        mixture_of(prompt)
    assert "\n" not in str(caught.value)
