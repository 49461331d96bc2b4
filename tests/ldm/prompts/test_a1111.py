"""Prompts composed with AND, and their tags."""

from __future__ import annotations

import pytest

from ldm.errors import UserError
from ldm.prompts import parse_a1111, split_tags
from ldm.settings.tags import Tag


def weights(prompt: str) -> list[tuple[str, float]]:
    return [(part.schedule[0][1].strip(), part.weight) for part in parse_a1111(prompt, 9).parts]


def test_and_joins_prompts_with_weights():
    assert weights("a cat :1.2 AND a dog AND a bird : -0.5") == [
        ("a cat", 1.2),
        ("a dog", 1.0),
        ("a bird", -0.5),
    ]
    assert weights("HANDS AND\nFEET:.5") == [("HANDS", 1.0), ("FEET", 0.5)]
    assert weights("a BAND ANDROID") == [("a BAND ANDROID", 1.0)]


def test_a_weight_is_a_number_at_the_end_alone():
    assert weights("a cat:1:2") == [("a cat:1", 2.0)]
    assert weights("(a cat:1.2)") == [("(a cat:1.2)", 1.0)]
    assert weights("a cat:1e3") == [("a cat:1e3", 1.0)]
    # In the web UI a text of several lines has no weight, but for line breaks at its ends.
    assert weights("a\ncat :2") == [("a\ncat :2", 1.0)]
    assert weights("\na cat\n:2") == [("a cat", 2.0)]


def test_parts_have_schedules_of_their_own():
    first, second = parse_a1111("a [cat:dog:2] AND b", 5).parts
    assert first.schedule == [(2, "a cat"), (5, "a dog")] and second.schedule == [(5, " b")]
    prompt = parse_a1111("a cat", 5)
    assert prompt.is_plain and prompt.is_constant
    assert not parse_a1111("a AND b", 5).is_plain
    assert not parse_a1111("[a|b]", 5).is_constant


def test_in_a_negative_prompt_and_is_a_word():
    (part,) = parse_a1111("a cat AND a dog :2", 5, composes=False).parts
    assert (part.weight, part.schedule) == (1.0, [(5, "a cat AND a dog :2")])


def test_tags_are_taken_out_of_the_text_with_their_scales():
    text, tags = split_tags("a <lora:ink_v2:0.8>cat <LoRA:b c:0.5:1> <lora:d> <hypernet:e:1>")
    assert text == "a cat   "
    assert [(t.kind, t.name, t.text_scale, t.unet_scale) for t in tags] == [
        ("lora", "ink_v2", 0.8, 0.8),
        ("lora", "b c", 0.5, 1.0),
        ("lora", "d", 1.0, 1.0),
        ("hypernet", "e", 1.0, 1.0),
    ]
    assert split_tags("<lora:x:te=0.2:unet=0.7>")[1] == [
        Tag("lora", "x", 0.2, 0.7, "<lora:x:te=0.2:unet=0.7>")
    ]
    assert split_tags("a < b and <3 : 4>") == ("a < b and <3 : 4>", [])


@pytest.mark.parametrize(
    "tag", ["<lora: :1>", "<lora:x:much>", "<lora:x:nan>", "<lora:x:1:2:3>", "<lora:x:dyn=4>"]
)
def test_a_tag_that_cannot_be_read_is_refused_in_one_line(tag):
    with pytest.raises(UserError, match="in a prompt") as refused:
        parse_a1111(f"a cat {tag}", 9)
    assert "\n" not in str(refused.value) and "lora" in str(refused.value)


def test_a_prompt_of_a_megabyte_is_refused_in_one_line():
    with pytest.raises(UserError, match="a prompt of 1000000 letters was given; expected at most"):
        parse_a1111("(a" * 500_000, 9)


def test_more_parts_than_are_drawn_at_a_time_are_refused_in_one_line():
    assert len(parse_a1111(" AND ".join(["a"] * 32), 9).parts) == 32
    with pytest.raises(UserError, match="a prompt of 33 parts was given; expected at most 32"):
        parse_a1111(" AND ".join(["a"] * 33), 9)
