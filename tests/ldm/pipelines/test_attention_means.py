"""Running means of attention maps, in memory that the number of steps does not change."""

from __future__ import annotations

import pytest
import torch

from ldm.modules.attention_control.moments import Moment
from ldm.modules.attention_control.sites import Site
from ldm.pipelines.attention_means import MeanMaps, shown_steps

DOWN = Site("input_blocks.7.1.transformer_blocks.0.attn2", "down", "cross", 0, 4, (2, 2))
MID = Site("middle_block.1.transformer_blocks.0.attn2", "mid", "cross", 1, 4, (2, 2))
UP = Site("output_blocks.9.1.transformer_blocks.0.attn2", "up", "cross", 2, 1, (8, 8))


def filled(value: float, side: int = 2) -> torch.Tensor:
    return torch.full((1, side, side, 3), value)


def recorded(sites, steps: int = 3) -> MeanMaps:
    means = MeanMaps(sites)
    for number in range(steps):
        for k, site in enumerate(sites):
            means.add(site, Moment(number, steps, 0.0), filled(10.0 * k + number, site.side[0]))
    return means


def test_down_and_up_share_a_mean_and_the_middle_has_its_own():
    means = recorded([DOWN, MID, UP]).means()
    assert {name: float(maps.mean()) for name, maps in means.items()} == {
        "res002": 1.0,
        "middle_res002": 11.0,
        "res008": 21.0,
    }


def test_words_are_shown_at_a_quarter_of_the_latents_side_or_the_nearest():
    assert float(recorded([DOWN, MID, UP]).word_level().mean()) == 1.0
    assert float(recorded([MID, UP]).word_level().mean()) == 11.0
    assert float(recorded([MID]).word_level().mean()) == 1.0  # only the middle attends


def test_single_steps_are_kept_at_that_resolution():
    assert {n: float(m.mean()) for n, m in recorded([DOWN, MID]).at_steps().items()} == {
        0: 0.0,
        1: 1.0,
        2: 2.0,
    }


def test_memory_does_not_grow_with_the_steps():
    means = recorded([DOWN, UP], steps=200)
    assert len(means.at_steps()) == 10 and len(means.means()) == 2
    assert means.steps_done == 200


def test_what_is_given_is_not_changed():
    maps = filled(1.0)
    means = MeanMaps([DOWN])
    for number in range(3):
        means.add(DOWN, Moment(number, 3, 0.0), maps)
    assert bool((maps == 1.0).all())


@pytest.mark.parametrize("total", [1, 2, 9, 10, 11, 50, 1000])
def test_the_shown_steps_are_few_spread_and_hold_both_ends(total):
    shown = shown_steps(total)
    assert shown[0] == 0 and shown[-1] == total - 1
    assert len(shown) == min(total, 10)
    gaps = {after - before for before, after in zip(shown, shown[1:], strict=False)}
    assert not gaps or max(gaps) - min(gaps) <= 1
