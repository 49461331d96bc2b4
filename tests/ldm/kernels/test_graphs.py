"""Recorded steps: the same numbers as the model's own, and recorded anew where they would not be.

A recording that keeps to a graph's rules stands in for CUDA's: it repeats the work on the memory
that the work saw, and writes its result to the same place.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from small_hubs import latent

from ldm.kernels.graphs import StepGraphs
from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.process.guidance import NoGuidance
from ldm.settings.samplers import SAMPLERS


class Repeated:
    """Work that is repeated in place of a graph."""

    made = 0

    def __init__(self, work):
        type(self).made += 1
        self._work, self.out = work, work().clone()

    def replay(self):
        self.out.copy_(self._work())


@pytest.fixture(scope="module")
def hub():
    torch.manual_seed(0)
    model = latent(use_ema=False).eval().requires_grad_(False)
    for parameter in model.model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.fixture
def recorded(hub):
    """Return the hub with recorded steps."""
    Repeated.made = 0
    hub.step_graphs = StepGraphs(hub, Repeated)
    yield hub
    del hub.step_graphs


def prompts(hub, seed: int, rows: int = 2) -> torch.Tensor:
    width = hub.model.diffusion_model.factory.context_dim
    return torch.randn(rows, 5, width, generator=torch.Generator().manual_seed(seed))


def walk(hub, *, name="ddim", seed=1, rows=2, side=8, scale=3.0, steps=3, conditioning=None):
    sampler = make_sampler(name, hub)
    sampler.make_schedule(steps, verbose=False)
    x = torch.randn(rows, 4, side, side, generator=torch.Generator().manual_seed(seed))
    cond = prompts(hub, seed, rows) if conditioning is None else conditioning
    options = {"unconditional_conditioning": prompts(hub, 99, rows)}
    torch.manual_seed(7)
    states = list(sampler.walk(x, cond, unconditional_guidance_scale=scale, **options))
    return torch.stack([torch.cat([s.x, s.x0, s.eps]) for s in states])


def plainly(hub, **options) -> torch.Tensor:
    kept = hub.__dict__.pop("step_graphs")
    try:
        return walk(hub, **options)
    finally:
        hub.step_graphs = kept


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_recorded_walk_is_the_plain_one_to_the_bit(recorded, name):
    assert torch.equal(walk(recorded, name=name), plainly(recorded, name=name))
    assert Repeated.made == 1


def test_other_prompts_and_other_noise_are_drawn_with_the_same_recording(recorded):
    first = walk(recorded)
    other = walk(recorded, seed=2)
    assert torch.equal(other, plainly(recorded, seed=2))
    assert torch.equal(walk(recorded), first)
    assert Repeated.made == 1


def test_prompts_that_are_written_over_in_place_are_seen(recorded):
    cond = prompts(recorded, 1)
    walk(recorded, scale=1.0, conditioning=cond)
    cond.mul_(2.0)
    again = walk(recorded, scale=1.0, conditioning=cond)
    assert torch.equal(again, plainly(recorded, scale=1.0, conditioning=cond))
    assert torch.equal(cond, 2.0 * prompts(recorded, 1))  # what was given is left as it was


@pytest.mark.parametrize("change", [{"rows": 1}, {"side": 16}, {"scale": 5.0}, {"scale": 1.0}])
def test_another_shape_or_scale_has_a_recording_of_its_own(recorded, change):
    walk(recorded)
    assert torch.equal(walk(recorded, **change), plainly(recorded, **change))
    walk(recorded)
    assert Repeated.made == 2


def test_weights_that_were_replaced_are_recorded_anew(recorded):
    before = walk(recorded)
    layer = recorded.model.diffusion_model.out[2]
    kept = layer.weight.data
    layer.weight.data = 2.0 * kept
    try:
        after = walk(recorded)
        assert torch.equal(after, plainly(recorded)) and not torch.equal(after, before)
        assert Repeated.made == 2
    finally:
        layer.weight.data = kept


def hooked(hub):
    return hub.model.diffusion_model.out[0].register_forward_hook(lambda *_: None).remove


def replaced(hub):
    layer = hub.model.diffusion_model.out[0]
    layer.forward = layer.forward
    return lambda: vars(layer).pop("forward")


def beside(hub):
    layer = hub.model.diffusion_model.middle_block[1].transformer_blocks[0].attn2
    layer.beside = [lambda q: None]  # noqa: ARG005
    return lambda: vars(layer).pop("beside")


def side_network(hub):
    hub.model.diffusion_model.side_networks.append(lambda x, t, c, h, skips: (h, skips))  # noqa: ARG005
    return hub.model.diffusion_model.side_networks.clear


def training(hub):
    hub.model.train()
    return hub.model.eval


def own_call(hub):
    hub.apply_model = hub.apply_model
    return lambda: vars(hub).pop("apply_model")


def joint(hub):
    hub.model.diffusion_model.joints = (lambda number, h, skip: (h, skip),)  # noqa: ARG005
    return lambda: vars(hub.model.diffusion_model).pop("joints")


def reused(hub):
    features = SimpleNamespace(recall=lambda rows: None, keep=lambda h: None, shallow=1)  # noqa: ARG005
    hub.model.diffusion_model.reuse = features
    return lambda: vars(hub.model.diffusion_model).pop("reuse")


@pytest.mark.parametrize(
    "act", [hooked, replaced, beside, side_network, joint, reused, training, own_call]
)
def test_what_acts_on_the_model_keeps_it_from_being_recorded(recorded, act):
    undo = act(recorded)
    try:
        walk(recorded)
        assert Repeated.made == 0
    finally:
        undo()
    walk(recorded)
    assert Repeated.made == 1


def test_nothing_is_recorded_while_gradients_flow(recorded):
    guider = NoGuidance()
    x, t = torch.zeros(1, 4, 8, 8), torch.full((1,), 5)
    assert recorded.step_graphs.call(guider, x, t, prompts(recorded, 0, 1), None) is None


def test_recorded_steps_add_no_key_to_a_model(recorded):
    assert not [key for key in recorded.state_dict() if "graph" in key]
