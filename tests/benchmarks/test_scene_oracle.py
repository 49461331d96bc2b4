"""The oracle of the demo's benchmark: right on real scenes, through noise too, never obliging."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from emoji_font import needs_font
from torch.nn.functional import avg_pool2d

from benchmarks import demo_measures as measures
from benchmarks.scene_oracle import (
    MATCH_SIDE,
    Finding,
    SceneOracle,
    Sight,
    nearest_colours,
    shows_layout,
    shows_objects,
)
from ldm.data.demo.scene_vocabulary import COLOURS


@pytest.fixture(scope="module")
def oracle():
    return SceneOracle()


@pytest.fixture(scope="module")
def scenes():
    return measures.held_out_prompts(16, "en", seed=1)


@pytest.fixture(scope="module")
def sights(oracle, scenes):
    return measures.look_at(oracle, measures.ground_truth(scenes, MATCH_SIDE), scenes)


def _sight(*found: tuple[str, tuple[float, float, float, float]]) -> Sight:
    return Sight("red", tuple(Finding(noun, box) for noun, box in found), 1.0)


LEFT, RIGHT = (0.1, 0.3, 0.45, 0.7), (0.55, 0.3, 0.9, 0.7)
UPPER, LOWER = (0.3, 0.05, 0.7, 0.45), (0.3, 0.52, 0.7, 0.95)
RIDER = (0.3, 0.17, 0.7, 0.6)


# --- verdicts: no font needed ---


def test_objects_count_wherever_they_stand_but_must_all_be_there():
    sight = _sight(("cat", LEFT), ("dog", RIGHT))
    assert shows_objects(sight, ("dog", "cat"))
    assert not shows_objects(sight, ("dog", "car"))
    assert not shows_objects(_sight(("cat", LEFT), ("cat", RIGHT)), ("cat", "dog"))


@pytest.mark.parametrize(
    ("first", "second", "layout"),
    [(LEFT, RIGHT, "beside"), (UPPER, LOWER, "stacked"), (RIDER, LOWER, "riding")],
)
def test_each_layout_is_told_from_the_others_and_from_its_reverse(first, second, layout):
    sight = _sight(("cat", first), ("dog", second))
    for other in ("beside", "stacked", "riding"):
        assert shows_layout(sight, ("cat", "dog"), other) == (other == layout)
        assert not shows_layout(sight, ("dog", "cat"), other)


def test_plain_pictures_have_the_named_colour_nearest_to_them():
    for name, colour in COLOURS.items():
        plain = (torch.tensor(colour.rgb) / 127.5 - 1)[None, :, None, None].expand(1, 3, 64, 64)
        assert nearest_colours(plain + 0.05) == [name]


def test_an_object_does_not_change_the_background_that_is_seen():
    picture = torch.full((1, 3, 64, 64), -1.0)
    picture[:, :, 0:40, 10:50] = 1.0
    assert nearest_colours(picture) == ["black"]


def test_a_score_without_prompts_of_a_kind_is_not_a_number():
    assert math.isnan(measures.judge([], []).both)


# --- on rendered scenes ---


@needs_font
def test_the_oracle_sees_what_the_font_drew(sights, scenes):
    score = measures.judge(sights, scenes)
    assert (score.background, score.one, score.both, score.related) == (1, 1, 1, 1)
    assert score.explained > 0.999


@needs_font
def test_the_oracle_sees_larger_pictures_as_well(oracle, scenes):
    # Shrunk to the matching side, glyphs stand between its pixels: a little is left unexplained.
    sights = measures.look_at(oracle, measures.ground_truth(scenes, 128), scenes)
    score = measures.judge(sights, scenes)
    assert (score.background, score.one, score.both, score.related) == (1, 1, 1, 1)
    assert score.explained > 0.85


@needs_font
def test_the_oracle_finds_the_places_too(sights, scenes):
    for scene, sight in zip(scenes, sights, strict=True):
        drawn = dict(zip(scene.objects, scene.boxes, strict=True))
        for finding in sight.found:
            # Boxes are drawn on whole pixels: their edges are rounded by up to one.
            assert finding.box == pytest.approx(drawn[finding.noun], abs=1.01 / MATCH_SIDE)


@needs_font
def test_the_oracle_believes_no_wrong_prompt(sights, scenes):
    wrong_sights, wrong_scenes = measures.mismatched(sights, scenes)
    assert len(wrong_sights) >= len(scenes) - 4
    score = measures.judge(wrong_sights, wrong_scenes)
    assert (score.background, score.one, score.both, score.related) == (0, 0, 0, 0)


@needs_font
def test_the_oracle_sees_through_blur_and_noise_and_says_how_faithful_a_picture_is(oracle, scenes):
    clean = measures.ground_truth(scenes, MATCH_SIDE)
    blurred = avg_pool2d(clean, 3, stride=1, padding=1, count_include_pad=False)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    sights = measures.look_at(oracle, blurred + 0.1 * noise, scenes)
    score = measures.judge(sights, scenes)
    assert score.background == 1
    assert score.one >= 0.9 and score.both >= 0.8
    assert 0.5 < score.explained < 0.95


@needs_font
def test_looking_does_not_change_the_pictures(oracle, scenes):
    pictures = measures.ground_truth(scenes[:2], MATCH_SIDE)
    before = pictures.clone()
    oracle.look(pictures, 1)
    assert torch.equal(pictures, before)


@needs_font
def test_a_rider_on_the_wrong_mount_is_refused(oracle, scenes):
    riding = next(scene for scene in scenes if scene.layout == "riding")
    swapped = replace(riding, objects=riding.objects[::-1])
    picture = measures.ground_truth([swapped], MATCH_SIDE)
    (sight,) = oracle.look(picture, 2)
    assert shows_objects(sight, riding.objects)
    assert not shows_layout(sight, riding.objects, "riding")


# --- the list of prompts ---


@needs_font
@pytest.mark.parametrize("language", ["en", "ja"])
def test_prompts_are_held_out_distinct_and_name_their_background(language):
    prompts = measures.held_out_prompts(40, language, seed=2)
    assert prompts == measures.held_out_prompts(40, language, seed=2)
    assert [len(scene.objects) for scene in prompts] == [1] * 20 + [2] * 20
    seen = {(s.objects, s.layout, s.size, s.background) for s in prompts}
    assert len(seen) == len(prompts)
    assert {scene.language for scene in prompts} == {language}
    assert all(measures.names_background(scene) for scene in prompts)
