"""Guidance in an interval saves rows; rescaled guidance has the spread of the prompt's own."""

from __future__ import annotations

import pytest
import torch
from oracle import GaussianModel

from ldm.errors import UserError
from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.modules.attention_control.moments import LISTENERS, Follower, Moment
from ldm.process.guidance import ClassifierFreeGuidance, NoGuidance
from ldm.shortcuts.guidance import IntervalGuidance, RescaledGuidance, is_guided

SCALE = 4.0


class Hub(GaussianModel):
    """The oracle with a UNet that samplers' listeners can be found by; keeps each call's rows."""

    def __init__(self, **given):
        super().__init__(**given)
        self.input_blocks, self.rows = (), []

    def apply_model(self, x, t, cond):
        self.rows.append(len(x))
        return super().apply_model(x, t, cond)


def walk(hub, around=None, sampler="ddim", steps=10):
    made = make_sampler(sampler, hub, spacing="linspace")
    made.make_schedule(steps, verbose=False)
    made.around = around
    x = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    cond, uncond = torch.full((3, 1, 1, 1), 1.0), torch.full((3, 1, 1, 1), -1.0)
    for state in made.walk(
        x, cond, unconditional_guidance_scale=SCALE, unconditional_conditioning=uncond
    ):
        x = state.x
    return x


def within_interval(hub, start, end, **given):
    follower = Follower(hub)
    follower.follow()
    try:
        return walk(hub, lambda g: IntervalGuidance(g, follower, start, end), **given)
    finally:
        follower.leave()


@pytest.mark.parametrize("sampler", ["ddim", "plms", "heun", "dpm_solver", "euler_a"])
def test_an_interval_of_everything_is_plain_to_the_bit(sampler):
    torch.manual_seed(0)
    plain = walk(Hub(), sampler=sampler)
    torch.manual_seed(0)
    assert torch.equal(within_interval(Hub(), 0.0, 1.0, sampler=sampler), plain)


@pytest.mark.parametrize(("sampler", "calls"), [("ddim", 1), ("heun", 2)])
def test_outside_the_interval_the_unconditional_rows_are_not_computed(sampler, calls):
    hub = Hub()
    within_interval(hub, 0.2, 0.5, sampler=sampler)
    guided = [rows == 6 for rows in hub.rows]
    assert guided[: 2 * calls] == [False] * 2 * calls
    assert guided[2 * calls : 5 * calls] == [True] * 3 * calls
    assert not any(guided[5 * calls :]) and set(hub.rows) == {3, 6}


def test_outside_the_interval_the_walk_is_the_prompts_alone():
    hub = Hub()
    follower = Follower(hub)
    guider = IntervalGuidance(ClassifierFreeGuidance(SCALE), follower, 0.5, 1.0)
    x, t = torch.randn(3, 1, 4, 4), torch.full((3,), 5)
    cond, uncond = torch.ones(3, 2, 2), torch.zeros(3, 2, 2)
    follower.tell(Moment(0, 4, 900.0), 3)
    laid, times, context = guider.prepare(x, t, {"c": [cond]}, {"c": [uncond]})
    assert guider.layout == ("cond",) and torch.equal(laid, x) and len(times) == 3
    assert torch.equal(context["c"][0], cond) and guider.combine(x, t) is x
    follower.tell(Moment(2, 4, 500.0), 3)
    assert guider.layout == ("uncond", "cond") and len(guider.prepare(x, t, cond, uncond)[0]) == 6


def test_listeners_are_told_which_parts_a_call_has():
    hub, told = Hub(), []

    class Ear(Follower):
        def tell(self, moment, pictures, layout=None):
            super().tell(moment, pictures, layout)
            if layout is not None:
                told.append(layout)

    ear = Ear(hub)
    ear.follow()
    within_interval(hub, 0.0, 0.3)
    ear.leave()
    assert told == [("uncond", "cond")] * 3 + [("cond",)] * 7
    assert len(LISTENERS) == 0


@pytest.mark.parametrize("phi", [0.3, 0.7, 1.0])
def test_rescaled_guidance_is_the_papers_and_diffusers(phi):
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

    plain = ClassifierFreeGuidance(SCALE)
    out, t = torch.randn(6, 4, 8, 8, generator=torch.Generator().manual_seed(1)), torch.ones(3)
    guided = plain.combine(out, t)
    found = RescaledGuidance(plain, phi).combine(out, t)
    assert torch.allclose(found, rescale_noise_cfg(guided, out[3:], phi), atol=1e-5)
    if phi == 1.0:
        spread = [rows.std(dim=(1, 2, 3)) for rows in (found, out[3:])]
        assert torch.allclose(*spread, atol=1e-5)


def test_no_rescaling_is_plain_to_the_bit():
    plain = walk(Hub())
    assert torch.equal(walk(Hub(), lambda guider: RescaledGuidance(guider, 0.0)), plain)


def test_prompts_of_several_parts_are_refused_by_name():
    class Several(NoGuidance):
        layout = ("uncond", "cond", "cond")

    assert is_guided(ClassifierFreeGuidance(2.0), "--x") and not is_guided(NoGuidance(), "--x")
    with pytest.raises(UserError, match="--guidance_interval was given with a prompt of several"):
        is_guided(Several(), "--guidance_interval")
