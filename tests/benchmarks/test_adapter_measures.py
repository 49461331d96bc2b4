"""What is measured of adapters: true of pictures that the font drew, false of plain ones."""

from __future__ import annotations

import math

import pytest
import torch
from emoji_font import needs_font

from benchmarks import adapter_measures as measures
from benchmarks.scene_oracle import OutlineOracle, SceneOracle
from ldm.data.demo.hinted import BoxedScenes
from ldm.data.demo.new_glyph import GlyphDataset
from ldm.data.demo.scenes import SceneDataset
from ldm.data.demo.styled import OutlinedScenes

pytestmark = needs_font


def pictures(data, indices):
    return torch.stack([data[k]["jpg"] for k in indices]).movedim(-1, 1)


@pytest.fixture(scope="module")
def oracle():
    return SceneOracle(bear="🐻")


def test_outlines_are_seen_where_they_are_and_not_elsewhere():
    styled = OutlinedScenes(seed=3, languages=("en",), pair_share=0.0)
    plain = SceneDataset(seed=3, languages=("en",), pair_share=0.0)
    scenes = [k for k in range(24) if measures.can_show_outlines(plain.scene(k).background)]
    things = [plain.scene(k).objects[0] for k in scenes]
    oracle = OutlineOracle()
    for data, wanted in ((styled, True), (plain, False)):
        sights = oracle.look(pictures(data, scenes), 1)
        seen = measures.share(measures.outlined(sights))
        assert seen == pytest.approx(float(wanted), abs=0.1)
        assert measures.nouns(sights) == things


def test_an_outline_cannot_be_seen_before_black():
    assert not measures.can_show_outlines("black") and measures.can_show_outlines("brown")


def test_a_thing_in_its_box_has_an_iou_near_one(oracle):
    data = BoxedScenes(seed=1, languages=("en",))
    boxes = [data.scene(k).boxes[0] for k in range(6)]
    sights = oracle.look(pictures(data, range(6)), 1)
    assert min(measures.ious(sights, boxes)) > 0.8
    assert max(measures.ious(sights, [(0.9, 0.9, 1.0, 1.0)] * 6)) < 0.3


def test_the_oracle_knows_a_new_glyph_if_it_is_told_of_it(oracle):
    drawn = pictures(GlyphDataset("🐻", length=6), range(6))
    assert measures.nouns(oracle.look(drawn, 1)) == ["bear"] * 6
    assert "bear" not in measures.nouns(SceneOracle().look(drawn, 1))


def test_a_share_of_nothing_is_no_number():
    assert math.isnan(measures.share([]))
