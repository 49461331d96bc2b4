"""The contract of adapters: scales by step, windows of steps, and leaving no listener behind."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from narrow_models import narrow_model
from tiny_model import CONFIG

from ldm.adapters.handle import Handle, at_moment, require_unet, within
from ldm.errors import UserError
from ldm.models.diffusion.ddim import DDIMSampler
from ldm.modules.attention_control.moments import LISTENERS, Moment


class Recorder(Handle):
    """Acts on nothing; writes down how strongly it would act at each call of the UNet."""

    def __init__(self, model, scale=1.0):
        super().__init__(model, scale)
        self.seen = []
        self.unet = require_unet(model)
        self.unet.side_networks.append(self._see)

    def _see(self, x, timesteps, context, h, skips):
        parts = [row.part for row in self.follower.rows(len(x))]
        self.seen.append((self.follower.moment.number, self.strength(), parts))
        return h, skips

    def _release(self):
        self.unet.side_networks.remove(self._see)


@pytest.fixture(scope="module")
def model():
    return narrow_model(CONFIG)


def draw(model, steps=4):
    cond = torch.zeros(1, 77, 32)
    options = {"unconditional_conditioning": cond, "unconditional_guidance_scale": 2.0}
    x = torch.ones(1, 4, 8, 8)
    return DDIMSampler(model).sample(steps, 1, (4, 8, 8), cond, x_T=x, verbose=False, **options)[0]


def test_a_scale_may_be_a_function_of_the_step(model):
    with Recorder(model, lambda moment: moment.number / moment.total) as handle:
        draw(model)
    assert [(number, scale) for number, scale, _ in handle.seen] == [
        (0, 0.0),
        (1, 0.25),
        (2, 0.5),
        (3, 0.75),
    ]


def test_an_adapter_knows_which_rows_are_the_empty_prompts(model):
    with Recorder(model) as handle:
        draw(model)
    assert {tuple(parts) for _, _, parts in handle.seen} == {("uncond", "cond")}


def test_outside_of_a_walk_there_is_no_step(model):
    with Recorder(model) as handle:
        draw(model)
        model.apply_model(torch.zeros(1, 4, 8, 8), torch.tensor([5]), torch.zeros(1, 77, 32))
    assert handle.seen[-1][0] is None


def test_detaching_twice_or_in_any_order_leaves_nobody_listening(model):
    first, second = Recorder(model), Recorder(model)
    first.detach()
    first.detach()
    draw(model)
    assert not first.seen and second.seen
    second.detach()
    assert not LISTENERS and not model.model.diffusion_model.side_networks


def test_a_side_network_changes_the_second_half_alone(model):
    before = draw(model)
    unet = model.model.diffusion_model
    unet.side_networks.append(lambda x, t, context, h, skips: (h + 1, skips))
    try:
        assert not torch.equal(draw(model), before)
    finally:
        unet.side_networks.clear()
    assert torch.equal(draw(model), before)
    assert not any("side" in key for key in model.state_dict())


def test_a_model_that_is_dropped_with_its_adapters_on_is_not_kept():
    dropped = narrow_model(CONFIG)
    alive = weakref.ref(dropped)
    Recorder(dropped)
    assert len(LISTENERS) == 1
    del dropped
    gc.collect()
    assert alive() is None and not LISTENERS


@pytest.mark.parametrize(
    ("start", "end", "inside"),
    [(0.0, 1.0, [0, 1, 2, 3]), (0.5, 1.0, [2, 3]), (0.0, 0.5, [0, 1]), (0.25, 0.75, [1, 2])],
)
def test_a_window_of_steps_is_a_half_open_interval_of_fractions(start, end, inside):
    found = [i for i in range(4) if within(start, end, Moment(i, 4))]
    assert found == inside


def test_outside_of_a_walk_every_window_is_open():
    assert within(0.5, 0.6, Moment())


def test_a_number_is_a_scale_at_every_step():
    assert at_moment(0.3, Moment(1, 2)) == 0.3


def test_what_has_no_unet_is_refused_in_one_line():
    with pytest.raises(UserError, match="a Linear was given for an adapter"):
        Recorder(torch.nn.Linear(1, 1))
