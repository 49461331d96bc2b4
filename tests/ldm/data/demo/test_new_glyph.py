"""Pictures of one new emoji: repeatable, worded with the placeholder, none of the demo's own."""

from __future__ import annotations

import pytest
import torch
from emoji_font import needs_font

from ldm.data.demo.new_glyph import GlyphDataset
from ldm.errors import UserError


@needs_font
def test_items_are_repeatable_and_worded_with_the_placeholder():
    data = GlyphDataset("🐻", placeholder="<bear>", length=8)
    first, again = data[3], GlyphDataset("🐻", placeholder="<bear>", length=8)[3]
    assert torch.equal(first["jpg"], again["jpg"]) and first["txt"] == again["txt"]
    assert all("<bear>" in data[k]["txt"] for k in range(8))
    assert len({data[k]["txt"] for k in range(8)}) > 4


@needs_font
def test_the_glyph_is_drawn_in_its_box():
    data = GlyphDataset("🐻", length=8)
    left, top, right, bottom = (round(edge * 64) for edge in data.scene(0).boxes[0])
    picture = data[0]["jpg"]
    outside = picture.clone()
    outside[top : bottom + 1, left : right + 1] = picture[0, 0]
    assert outside.std(dim=(0, 1)).max() < 0.01 < picture.std(dim=(0, 1)).max()


@pytest.mark.parametrize("k", [-1, 8])
@needs_font
def test_items_beyond_the_end_are_an_error(k):
    with pytest.raises(IndexError, match="8"):
        GlyphDataset("🐻", length=8)[k]


def test_a_glyph_that_the_model_knows_is_refused():
    with pytest.raises(UserError, match="knows as 'cat'"):
        GlyphDataset("🐈")
