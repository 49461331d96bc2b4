"""Tags in prompts: what they name, how strongly, and what is malformed."""

from __future__ import annotations

import pytest

from ldm.errors import UserError
from ldm.settings.tags import LORAS, split_tags, without_loras, written_loras


@pytest.mark.parametrize(
    ("written", "scales"),
    [
        ("<lora:ink>", (1.0, 1.0)),
        ("<lora:ink:0.8>", (0.8, 0.8)),
        ("<lora:ink:0.5:1>", (0.5, 1.0)),
        ("<lora:ink:te=0.25:unet=2>", (0.25, 2.0)),
        ("<lora:ink:unet=0>", (1.0, 0.0)),
    ],
)
def test_the_text_encoders_scale_comes_first(written, scales):
    text, (tag,) = split_tags(f"a {written}cat")
    assert (text, tag.name, tag.written) == ("a cat", "ink", written)
    assert (tag.text_scale, tag.unet_scale) == scales


@pytest.mark.parametrize("tag", ["<lora: :1>", "<lora:a:b>", "<lora:a:1:2:3>", "<lora:a:1:lbw=x>"])
def test_a_malformed_tag_is_told_in_one_line(tag):
    with pytest.raises(UserError, match="<lora:") as caught:
        split_tags(f"a cat {tag}")
    assert "\n" not in str(caught.value)


def test_tags_of_some_kinds_are_taken_and_others_stay():
    text, tags = split_tags("<lora:a:1><Lyco:b:1><hypernet:c:1> <3:4>", LORAS)
    assert (text, [tag.name for tag in tags]) == ("<hypernet:c:1> <3:4>", ["a", "b"])
    assert without_loras("<lora:a:b> x <hypernet:c:1>") == " x <hypernet:c:1>"
    assert written_loras("<lora:a:b> <lora:a:b><b:c>") == ["<lora:a:b>"]
