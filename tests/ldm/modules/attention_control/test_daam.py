"""DAAM: heat maps are the sum of what each layer, head and step looked at."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from controlled import Notes, draw, narrow_hub

from ldm.errors import UserError
from ldm.modules.attention_control.chain import Chain
from ldm.modules.attention_control.daam import HeatMaps
from ldm.modules.attention_control.moments import Moment, Row
from ldm.modules.attention_control.seam import control_attention
from ldm.modules.attention_control.sites import Site
from ldm.offload.plan import PlanSettings, StagePlan


@pytest.fixture(scope="module")
def hub():
    return narrow_hub(attention_resolutions=[2, 1])


@pytest.fixture(scope="module")
def looked(hub):
    """Heat maps and, of the same walk, all that was looked at."""
    maps, notes = HeatMaps(), Notes("cross")
    with control_attention(hub, Chain(notes, maps)):
        draw(hub, side=(8, 12))
    return maps, notes.calls


def by_hand(calls, places, token):
    """Sum what picture 0 and 1 looked at, (2, h0, w0), with loops alone."""
    total = torch.zeros(2, 8, 12)
    for probs, site, _, rows in calls:
        if site.place not in places:
            continue
        for number, row in enumerate(rows):
            for head in range(probs.shape[1]) if row.part == "cond" else ():
                heat = probs[number, head, :, token].reshape(1, 1, *site.side)
                if site.rate != 1:
                    heat = F.interpolate(heat, size=(8, 12), mode="bicubic")
                total[row.picture] += heat[0, 0].clamp(min=0)
    return total


@pytest.mark.parametrize("token", range(6))
def test_the_sum_is_that_of_all_steps_layers_and_heads_on_the_way_down_and_up(looked, token):
    maps, calls = looked
    assert {site.rate for _, site, _, _ in calls} == {1, 2}
    expected = by_hand(calls, ("down", "up"), token)
    assert torch.allclose(maps.of([token], absolute=True), expected, rtol=1e-5)


def test_what_the_cubic_undershoots_beside_a_peak_is_clipped():
    maps, probs = HeatMaps(), torch.zeros(1, 2, 24, 3)
    probs[0, :, 8, 1] = 1.0  # one place of 4x6 has all of a token
    site = Site("a", "down", "cross", 0, 2, side=(4, 6), latent=(8, 12))
    maps(probs, site, Moment(), [Row("cond", 0)])
    cubic = F.interpolate(probs[0, :1, :, 1].view(1, 1, 4, 6), size=(8, 12), mode="bicubic")[0]
    assert cubic.min() < -0.05
    assert torch.allclose(maps.of([1], absolute=True), 2 * cubic.clamp(min=0), atol=1e-6)


def test_the_sums_of_all_tokens_are_how_often_was_looked_where_nothing_is_enlarged():
    hub = narrow_hub(attention_resolutions=[1])  # and the middle, which does not count
    maps, notes = HeatMaps(), Notes("cross")
    with control_attention(hub, Chain(maps, notes)):
        draw(hub)
    total = sum(maps.of([token], absolute=True) for token in range(6))
    looks = sum(probs.shape[1] for probs, site, _, _ in notes.calls if site.place != "mid")
    assert torch.allclose(total, torch.full((2, 8, 8), float(looks)), rtol=1e-5)


def test_a_word_of_several_tokens_is_their_mean(looked):
    maps, _ = looked
    both = maps.of([1, 3], absolute=True)
    each = [maps.of([token], absolute=True) for token in (1, 3)]
    assert torch.allclose(both, (each[0] + each[1]) / 2, rtol=1e-6)


def test_maps_for_the_eye_run_from_0_to_1_in_each_picture(looked):
    maps, _ = looked
    heat, sums = maps.of([2]), maps.of([2], absolute=True)
    assert heat.shape == (2, 8, 12)
    assert torch.equal(heat.amin((1, 2)), torch.zeros(2))
    assert torch.allclose(heat.amax((1, 2)), torch.ones(2))
    spread = sums.amax((1, 2), keepdim=True) - sums.amin((1, 2), keepdim=True)
    assert torch.allclose(heat * spread, sums - sums.amin((1, 2), keepdim=True), atol=1e-3)


def test_other_places_may_be_chosen(hub):
    maps, notes = HeatMaps(("mid",)), Notes("cross")
    with control_attention(hub, Chain(maps, notes)):
        draw(hub, side=(8, 12))
    assert torch.allclose(maps.of([1], absolute=True), by_hand(notes.calls, ("mid",), 1), rtol=1e-5)


def test_the_pictures_stay_as_they_are_and_a_walk_forgets_the_last(hub):
    maps = HeatMaps()
    with control_attention(hub, maps):
        first = draw(hub)
        heat = maps.of([1], absolute=True)
        draw(hub)
    assert torch.equal(first, draw(hub))
    assert torch.equal(maps.of([1], absolute=True), heat)


def test_what_is_kept_does_not_grow_with_the_steps(hub):
    maps, kept = HeatMaps(), []
    with control_attention(hub, maps):
        for steps in (1, 5):
            draw(hub, steps=steps)
            kept.append([heat.numel() for heat in maps._sums.values()])
    assert kept[0] == kept[1] == [6 * 8 * 8] * 2


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_guidance_and_row_parts_make_no_difference(hub, scale):
    def heat(**settings):
        maps = HeatMaps()
        plan = StagePlan(hub, PlanSettings(**settings), torch.device("cpu"))
        if settings:
            plan.attach()
        try:
            with control_attention(hub, maps):
                draw(hub, scale=scale, pictures=3)
        finally:
            plan.detach()
        return maps.of([1], absolute=True)

    whole = heat()
    assert whole.shape == (3, 8, 8)
    assert torch.allclose(heat(unet_rows=2), whole, rtol=1e-4)


@pytest.mark.parametrize(
    ("positions", "said"), [([], "tokens .. were"), ([6], "0 ... 5"), ([-1], "0 ... 5")]
)
def test_tokens_that_are_not_there_are_refused_in_one_line(looked, positions, said):
    with pytest.raises(UserError, match=said) as error:
        looked[0].of(positions)
    assert "\n" not in str(error.value)


def test_maps_of_nothing_are_refused():
    with pytest.raises(UserError, match="draw a picture with HeatMaps in charge first"):
        HeatMaps().of([1])
