"""What a user of swap can choose."""

from __future__ import annotations

import pytest

from ldm.errors import UserError
from ldm.settings.model_kind import TEXT
from ldm.settings.swap import SwapSettings


def test_the_defaults_are_the_forks():
    settings = SwapSettings()
    assert settings.outdir == "outputs/swap-samples"
    assert (settings.ddim_steps, settings.n_samples, settings.n_iter) == (50, 2, 1)
    assert (settings.scale, settings.strength, settings.seed) == (7.5, 0.75, 42)
    assert settings.sprompt is None and not settings.is_swap
    assert settings.save_attn_dir == "./save_attention_map_dir" and not settings.is_get_attn


def test_prompts_are_drawn_with_the_source_first():
    settings = SwapSettings(sprompt="a", prompt="b", also=("c",), is_swap=True)
    assert settings.drawn_prompts == ("a", "b", "c")
    assert SwapSettings(prompt="b").drawn_prompts == ("b",)


def test_weights_without_a_source_edit_the_prompts_own_picture():
    settings = SwapSettings(prompt="a snowy house", reweight="snowy=2")
    assert settings.edits and settings.source == "a snowy house"
    assert not SwapSettings(prompt="b", sprompt="a").edits


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"is_swap": True}, "--is-swap was given without a source"),
        ({"reweight": "snowy"}, "--reweight 'snowy' was given"),
        ({"cross_replace_steps": "9"}, "--cross_replace_steps 9 was given"),
        ({"self_replace_steps": "a"}, "--self_replace_steps a was given"),
        ({"blend": "cake"}, "--blend 'cake' was given"),
        ({"invert": "ddim"}, "--invert ddim was given without a picture"),
        ({"invert": "ddim", "init_img": "a.png"}, "--invert ddim was given without a source"),
        (
            {"invert": "ddim", "init_img": "a.png", "sprompt": "a", "sampler": "plms"},
            "only ddim's steps without noise",
        ),
        (
            {"invert": "ddim", "init_img": "a.png", "sprompt": "a", "ddim_eta": 0.5},
            "only ddim's steps without noise",
        ),
        ({"use_mask": True, "init_img": "a.png"}, "--use_mask was given; expected a picture and"),
        (
            {"use_mask": True, "init_img": "a", "mask": "b", "invert": "ddim", "sprompt": "a"},
            "--use_mask was given with --invert",
        ),
        ({"every": 0}, "--every 0 was given"),
    ],
)
def test_what_contradicts_itself_is_told_in_one_line(given, words):
    with pytest.raises(UserError) as error:
        SwapSettings(**given).validate()
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"save_attn_dir": "maps"}, "--save_attn_dir has no effect without --is_get_attn"),
        ({"every": 2}, "--every has no effect without --is_get_attn"),
        ({"half": True}, "--half has no effect without --is_get_attn"),
        ({"strength": 0.99}, "--strength 0.99 has no effect without --init-img"),
        ({"mode": "refine"}, "--mode refine has no effect without --is-swap"),
        ({"cross_replace_steps": "0.5"}, "--cross_replace_steps 0.5 has no effect"),
        ({"mask": "m.png"}, "--init-mask m.png has no effect without --use_mask"),
        (
            {"invert": "ddim", "init_img": "a.png", "sprompt": "a"},
            "--n_samples 2 draws the same picture 2 times",
        ),
    ],
)
def test_what_has_no_effect_is_said(given, words):
    assert any(words in text for text in SwapSettings(**given).notices())


def test_with_maps_their_flags_have_an_effect():
    given = {"is_get_attn": True, "save_attn_dir": "maps", "every": 2, "half": True}
    assert SwapSettings(**given).notices() == []


def test_an_edit_of_defaults_has_nothing_to_be_said_of():
    assert SwapSettings(sprompt="a", prompt="b", is_swap=True).notices() == []


def test_inversion_suits_the_settings_that_nobody_named():
    settings = SwapSettings(invert="ddim", init_img="a.png", sprompt="a")
    assert settings.suited(TEXT, ()).strength == 1.0
    assert settings.suited(TEXT, ()).n_samples == 1
    kept = settings.suited(TEXT, ("strength", "n_samples"))
    assert (kept.strength, kept.n_samples) == (0.75, 2)


def test_a_target_is_recorded_with_its_own_part_of_the_edit():
    run = SwapSettings(
        sprompt="a cat",
        prompt="a dog",
        also=("a red cat",),
        is_swap=True,
        reweight="red=2,dog=1.5",
        blend="cat|dog|red,cat",
        cross_replace_steps="0.8,dog=0.2:0.4",
    )
    own = run.of_target(1, {"red", "cat"}.__contains__)
    assert (own.prompt, own.sprompt, own.also) == ("a red cat", "a cat", ())
    assert (own.reweight, own.blend, own.cross_replace_steps) == ("red=2", "cat|red,cat", "0.8")
    first = run.of_target(0, {"dog"}.__contains__)
    assert (first.reweight, first.blend) == ("dog=1.5", "cat|dog")
    assert first.cross_replace_steps == "0.8,dog=0.2:0.4"
    own.validate()
    first.validate()


def test_a_target_without_any_word_that_has_a_window_is_recorded_with_the_whole_walk():
    run = SwapSettings(sprompt="a", prompt="b", is_swap=True, cross_replace_steps="dog=0.2")
    own = run.of_target(0, lambda _: False)
    assert own.cross_replace_steps == "1.0"
    own.validate()


def test_weights_are_recorded_to_the_last_digit():
    run = SwapSettings(sprompt="a", prompt="b", is_swap=True, reweight="b=0.123456789")
    assert run.of_target(0, lambda _: True).reweight == "b=0.123456789"


def test_a_picture_that_is_no_edit_is_recorded_as_a_plain_one():
    run = SwapSettings(
        sprompt="a cat", prompt="a dog", is_swap=True, reweight="dog=2", mode="refine"
    )
    assert run.alone() == SwapSettings(prompt="a dog")
