"""The figures of edits, on cases that can be worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from emoji_font import needs_font

from benchmarks import edit_measures as measures
from benchmarks.demo_measures import held_out_prompts
from benchmarks.edit_tables import (
    grid_table,
    map_table,
    reader_table,
    swap_table,
    weight_table,
)
from benchmarks.scene_oracle import Finding, Sight
from ldm.data.demo.scene_vocabulary import COLOURS, NOUNS
from ldm.data.demo.scenes import Scene

LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)


def _scene(noun: str, caption: str, size: str = "medium", background: str = "red") -> Scene:
    return Scene((noun,), (LEFT,), background, (1.0, 1.0), None, size, "en", caption)


@pytest.mark.parametrize(
    ("noun", "caption", "size", "other", "expected"),
    [
        ("cat", "a cat on a red background", "medium", "owl", "an owl on a red background"),
        ("owl", "an owl, red background", "medium", "cat", "a cat, red background"),
        ("owl", "a photo of a large owl", "large", "elephant", "a photo of a large elephant"),
        ("bus", "a picture of a bus", "medium", "palm tree", "a picture of a palm tree"),
        ("car", "a photo of a car with a red background", "medium", "carrot",
         "a photo of a carrot with a red background"),
    ],
)  # fmt: skip
def test_a_swapped_caption_has_the_article_of_its_noun(noun, caption, size, other, expected):
    assert measures.swapped_caption(_scene(noun, caption, size), other) == expected


@needs_font
def test_swaps_are_the_same_each_time_and_always_change_the_caption():
    scenes = held_out_prompts(40, "en", 20)[:20]
    swaps = measures.choose_swaps(scenes, 3)
    assert swaps == measures.choose_swaps(scenes, 3)
    assert swaps != measures.choose_swaps(scenes, 4)
    for swap in swaps:
        assert swap.noun in NOUNS and swap.noun != swap.scene.objects[0]
        assert swap.noun in swap.caption and swap.caption != swap.scene.caption


@pytest.mark.parametrize(
    ("other", "expected"),
    [(LEFT, 1.0), (RIGHT, 0.0), ((0.25, 0.0, 0.75, 1.0), 1 / 3), ((0.6, 0.6, 0.9, 0.9), 0.0)],
)
def test_iou_is_the_shared_part_of_the_union(other, expected):
    assert measures.iou(LEFT, other) == pytest.approx(expected)
    assert measures.iou(other, LEFT) == pytest.approx(expected)


@needs_font
def test_boxes_of_one_noun_agree_and_those_of_two_shapes_do_not():
    assert measures.concentric_iou("cat", "cat") == 1
    assert 0 < measures.concentric_iou("giraffe", "car") < 1


def test_the_cover_of_a_box_counts_cells_by_their_area():
    cover = measures.box_cover((0.25, 0.0, 0.625, 0.5), (2, 4))
    assert cover.tolist() == [[0, 1, 0.5, 0], [0, 0, 0, 0]]
    assert measures.box_cover((0.1, 0.2, 0.35, 0.9), (8, 8)).mean() == pytest.approx(0.25 * 0.7)


def test_a_uniform_map_has_the_boxs_area_inside_and_a_sharp_one_all_or_nothing():
    box = (0.3, 0.1, 0.8, 0.7)
    assert measures.mass_inside(torch.full((8, 8), 0.2), box) == pytest.approx(0.3)
    sharp = torch.zeros(8, 8)
    sharp[3, 4] = 0.1
    assert measures.mass_inside(sharp, box) == pytest.approx(1)
    assert measures.mass_inside(sharp, (0.0, 0.0, 0.25, 1.0)) == 0


def test_the_distance_to_a_colour_is_that_of_the_borders_median():
    picture = torch.full((2, 3, 64, 64), 1.0)
    red = torch.tensor(COLOURS["red"].rgb) / 127.5 - 1
    picture[0] = red[:, None, None]
    picture[0, :, 20:40, 20:40] = -1.0  # the thing does not count
    picture[1] = red[:, None, None] + torch.tensor([3.0, 4.0, 0.0])[:, None, None] / 127.5
    assert measures.colour_distances(picture, ["red", "red"]) == pytest.approx([0, 5], abs=1e-3)


@pytest.mark.parametrize(
    ("values", "expected"), [([3, 2, 1], True), ([3, 3, 1], False), ([3, 1, 2], False)]
)
def test_only_what_gets_smaller_each_time_falls(values, expected):
    assert measures.falls(values) is expected


def test_the_change_outside_leaves_both_boxes_out():
    before, after = torch.zeros(3, 8, 8), torch.zeros(3, 8, 8)
    after[:, :, :4] = 1.0
    quarter = (0.5, 0.0, 1.0, 0.5)
    assert measures.difference_outside(before, after, [LEFT]) == 0
    outside = measures.difference_outside(before, after, [quarter])
    assert outside == pytest.approx(127.5 * 32 / 48)
    assert math.isnan(measures.difference_outside(before, after, [LEFT, RIGHT]))


def test_swaps_are_scored_against_the_source_and_not_against_the_prompt():
    swap = measures.Swap(_scene("cat", "a cat on a red background"), "dog", "a dog ...")
    was = Sight("pink", (Finding("cat", LEFT),), 1.0)
    sights = [
        Sight("pink", (Finding("dog", LEFT),), 1.0),
        replace(was, background="red"),
        Sight("pink", (Finding("owl", RIGHT),), 1.0),
        Sight("pink", (Finding("dog", LEFT),), 1.0),
    ]
    pictures = torch.zeros(4, 3, 8, 8)
    score = measures.score_swaps([swap] * 4, (pictures, [was] * 4), (pictures, sights))
    assert (score.drawn, score.old, score.background) == (0.5, 0.25, 0.75)
    assert score.iou == 0.75
    assert score.outside == 0


def test_tables_show_shares_beside_their_goals():
    score = measures.SwapScore(0.905, 0.01, 1.0, 0.7151, 3.21)
    assert "| ours | 90.5 % | 1.0 % | 100.0 % | 0.715 | 3.2 |" in swap_table({"ours": score})
    grid = {(cross, own): score for cross in (0.4, 1.0) for own in (0.0, 0.8)}
    assert [line.split("|")[1].strip() for line in grid_table(grid)[2:]] == ["0.4", "1"]
    weights = weight_table({0.0: [9.0, 9.0], 1.0: [5.0, 5.0], 3.0: [4.0, 6.0]})
    assert "| 0 to 1 | 100.0 % |" in weights
    assert "| 0 to 1 to 3 | 50.0 % (goal 90 %) |" in weights
    maps = map_table({"plain": [0.8, 0.6]}, [0.5, 0.3])
    assert maps[-2:] == ["| plain | 70.0 % | 50.0 % |", "| uniform | 40.0 % | 0.0 % |"]
    assert reader_table({"start": 0.25, "padding": 0.75})[-1] == "| 25.0 % | 75.0 % |"
