"""A run may ask for so much, and is told in one line which of it is too much."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ldm.budgets import PROMPT_PARTS
from ldm.errors import UserError
from ldm.settings.low_memory import LowMemoryImg2ImgSettings, LowMemoryTxt2ImgSettings
from ldm.settings.swap import LowMemorySwapSettings
from optimizedSD.web.limits import LARGEST_AT_ONCE, Limits
from optimizedSD.web.page import TXT2IMG, Txt2ImgServer

LIMITS = Limits(side=512, pictures=10, steps=50, prompt=100)
SETTINGS = LowMemoryTxt2ImgSettings(prompt="a cat", H=512, W=512, n_samples=4, ddim_steps=50)


def test_the_most_that_is_allowed_is_allowed():
    most = replace(SETTINGS, prompt="a" * 100, negative_prompt="b" * 100, n_samples=5, n_iter=2)
    LIMITS.check(most)
    LIMITS.check_size(SETTINGS, 512, 512)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"H": 513}, "--H 513 was given; expected at most 512 on this page"),
        ({"W": 65536}, "--W 65536 was given"),
        ({"ddim_steps": 51}, "--ddim_steps 51 was given; expected at most 50 on this"),
        ({"n_samples": 11}, "--n_samples 11 was given; expected at most 10 on this"),
        ({"n_iter": 1000}, "--n_iter 1000 was given"),
        ({"n_samples": 4, "n_iter": 3}, "--n_samples 4 times --n_iter 3 was given"),
        ({"prompt": "a" * 101}, "--prompt of 101 characters was given; expected at most 100"),
        ({"negative_prompt": "a" * 101}, "--negative_prompt of 101 characters"),
    ],
)
def test_too_much_is_one_line_that_names_the_limit(changes, told):
    with pytest.raises(UserError) as caught:
        LIMITS.check(replace(SETTINGS, **changes))
    assert told in str(caught.value)
    assert len(str(caught.value)) < 200


SWAP = LowMemorySwapSettings(sprompt="a cat", prompt="a dog", is_swap=True, H=512, W=512)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sprompt": "a" * 101}, "--sprompt of 101 characters was given; expected at most 100"),
        ({"reweight": "a=1," * 26}, "--reweight of 104 characters"),
        ({"blend": "cat|" + "a" * 97}, "--blend of 101 characters"),
        ({"n_samples": 3, "n_iter": 2}, "--n_samples 3 times --n_iter 2 of 2 prompts was given"),
    ],
)
def test_an_edit_is_limited_in_every_text_and_counts_the_pictures_of_both_prompts(changes, told):
    LIMITS.check(replace(SWAP, n_samples=5, n_iter=1))
    with pytest.raises(UserError) as caught:
        LIMITS.check(replace(SWAP, **changes))
    assert told in str(caught.value)
    assert len(str(caught.value)) < 200


def test_the_source_takes_room_in_a_batch_too():
    most = replace(SWAP, n_samples=LARGEST_AT_ONCE // 2)
    LIMITS.check_size(most, 512, 512)
    with pytest.raises(UserError, match="--n_samples 3 of 2 prompts, 512x512 pixels was given"):
        LIMITS.check_size(replace(SWAP, n_samples=3), 512, 512)


def test_a_prompt_has_so_many_weights():
    many = replace(SETTINGS, prompt="a:1 " * (PROMPT_PARTS + 1))
    with pytest.raises(UserError, match=f"with {PROMPT_PARTS + 1} weights"):
        replace(LIMITS, prompt=10**4).check(many)
    replace(LIMITS, prompt=10**4).check(replace(many, plain_prompt=True))


def test_a_template_is_limited_as_what_is_drawn_from_it():
    drawn = replace(SETTINGS, prompt="{2::a|3::b} __c__", wildcards="lists")
    LIMITS.check(drawn)
    for changes in ({"n_samples": 11}, {"prompt": "a" * 101}, {"n_samples": 4, "n_iter": 3}):
        with pytest.raises(UserError):
            LIMITS.check(replace(drawn, **changes))
    many = replace(drawn, prompt="{a:1|b:2} " * (PROMPT_PARTS // 2 + 1))
    with pytest.raises(UserError, match=f"with {PROMPT_PARTS + 3} weights"):
        replace(LIMITS, prompt=10**4).check(many)


def test_the_size_that_follows_from_a_picture_is_checked_too():
    settings = LowMemoryImg2ImgSettings(init_img="a.png", W=512)
    LIMITS.check(settings)
    height, width = settings.target_size((640, 10), 64, 4)
    with pytest.raises(UserError, match="a picture of 512x32768 pixels"):
        LIMITS.check_size(settings, width, height)


def test_a_batch_has_so_many_pixels():
    most = replace(SETTINGS, n_samples=LARGEST_AT_ONCE)
    LIMITS.check_size(most, 512, 512)
    LIMITS.check_size(replace(most, n_samples=4 * LARGEST_AT_ONCE), 256, 256)
    with pytest.raises(UserError, match="expected at most 4 of 512x512 at once"):
        LIMITS.check_size(replace(most, n_samples=LARGEST_AT_ONCE + 1), 512, 512)


def test_the_largest_side_follows_from_the_model_unless_it_is_given():
    assert Limits.of(Txt2ImgServer(), 512).side == 1024
    assert Limits.of(Txt2ImgServer(), 64).side == 256
    assert Limits.of(Txt2ImgServer(max_side=96), 512).side == 96


def test_every_limit_is_an_option_of_the_program():
    given = {"max_pictures": 1, "max_steps": 2, "max_prompt": 3, "max_seconds": 4.0}
    limits = Limits.of(Txt2ImgServer(**given, max_waiting=5, max_upload=6), 512)
    assert (limits.pictures, limits.steps, limits.prompt, limits.seconds) == (1, 2, 3, 4.0)
    assert (limits.waiting, limits.upload) == (5, 6 * 2**20)


def test_the_page_says_its_limits():
    said = LIMITS.sentence
    assert all(
        each in said for each in ("512 pixels", "10 pictures", "50 steps", "waiting runs", "64 MB")
    )


def test_the_first_values_of_a_page_are_within_the_limits():
    first = replace(LowMemoryTxt2ImgSettings(), **TXT2IMG.initial)
    for own in (64, 256, 512, 1024):
        limits = Limits.of(Txt2ImgServer(), own)
        limits.check(replace(first, H=own, W=own))
        limits.check_size(first, own, own)
