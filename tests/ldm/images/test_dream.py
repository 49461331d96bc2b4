"""InvokeAI's command lines are split as a shell splits them."""

from __future__ import annotations

import random
import shlex

import pytest

from ldm.images.dream import values_of_command, words_in


def test_words_are_those_of_a_shell():
    rng = random.Random(5)
    parts = ["a", '"', "'", "\\", " ", "-s", "50", "\n", '\\"', "b c", "猫"]
    for _ in range(3000):
        text = "".join(rng.choices(parts, k=rng.randrange(1, 12)))
        try:
            expected = shlex.split(text)
        except ValueError:
            with pytest.raises(ValueError, match="without an end"):
                words_in(text)
        else:
            assert words_in(text) == expected


def test_flags_take_values_that_stand_apart_or_are_glued_to_them():
    values = values_of_command('"a cat" -s 50 -S3 -A k_lms --upscale -I in.png')
    assert values == {
        "prompt": "a cat",
        "steps": "50",
        "seed": "3",
        "sampler": "k_lms",
        "--upscale": True,
        "init_image": "in.png",
        "type": "img2img",
    }
