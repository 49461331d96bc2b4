"""Scenes with boxes: the box is where the thing is, and away from the middle."""

from __future__ import annotations

import torch
from emoji_font import needs_font

from ldm.data.demo.hinted import BoxedScenes, box_hint

pytestmark = needs_font


def test_the_thing_is_inside_its_box_and_nowhere_else():
    item = BoxedScenes(seed=2)[5]
    picture, hint = item["jpg"], item["hint"]
    assert set(hint.unique().tolist()) == {0.0, 1.0} and hint.shape == (64, 64, 3)
    # The background shades from top to bottom alone.
    rows = (picture - picture[:, :1]).abs().amax(-1) > 0.02
    cols = (picture - picture[:, -1:]).abs().amax(-1) > 0.02
    assert not ((rows & cols) & (hint[..., 0] == 0)).any()


def test_things_are_small_and_stand_in_all_four_quarters():
    scenes = [BoxedScenes(seed=2).scene(k) for k in range(60)]
    assert {scene.size for scene in scenes} == {"small"}
    centres = [
        ((s.boxes[0][0] + s.boxes[0][2]) / 2, (s.boxes[0][1] + s.boxes[0][3]) / 2) for s in scenes
    ]
    assert {(x > 0.5, y > 0.5) for x, y in centres} == {(a, b) for a in (0, 1) for b in (0, 1)}
    assert min(min(abs(x - 0.5), abs(y - 0.5)) for x, y in centres) > 0.1


def test_training_sees_no_combination_that_is_held_out():
    train = {(s.objects, s.background) for s in map(BoxedScenes(seed=2).scene, range(300))}
    held = BoxedScenes(seed=2, split="heldout")
    assert not train & {(s.objects, s.background) for s in map(held.scene, range(40))}


def test_a_box_is_drawn_to_the_pixel():
    hint = box_hint((0.25, 0.5, 0.75, 1.0), 8)
    assert hint.sum() == 4 * 4 * 3 and hint[4:, 2:6].all()
    assert torch.from_numpy(hint).dtype == torch.float32
