"""Controls under device plans: rows in turns, halves and layers that travel, and going home."""

from __future__ import annotations

import pytest
import torch
from control_parts import (
    drawing,
    inputs,
    make_model,
    original_names,
    peer_adapter,
    write_net,
)
from offload_parts import CPU, Elsewhere
from safetensors.torch import save_file

from ldm.adapters.control import read_control, reference_only
from ldm.adapters.control.lent import Lent
from ldm.models.diffusion.ddim import DDIMSampler
from ldm.offload.plan import PlanSettings, StagePlan

PLANS = (
    {"policy": "four-part", "unet_rows": 1},
    {"policy": "stream"},
    {"policy": "stream", "unet_rows": 3},
)


@pytest.fixture(scope="module")
def model():
    return make_model().requires_grad_(False).eval()


@pytest.fixture(scope="module")
def controls(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plans")
    state = original_names(peer_adapter("full_adapter", 3).state_dict())
    save_file(state, folder / "adapter.safetensors")
    return {
        "net": read_control(write_net(folder, model), model),
        "adapter": read_control(folder / "adapter.safetensors", model),
        "reference": reference_only(model),
    }


@torch.no_grad()
def draw(model):
    cond, uncond = (each.expand(2, -1, -1) for each in inputs(2)[2].split(1))
    guided = {"unconditional_conditioning": uncond, "unconditional_guidance_scale": 3.0}
    x = inputs(2)[0]
    return DDIMSampler(model).sample(2, 2, (4, 8, 8), cond, x_T=x, verbose=False, **guided)[0]


def draw_with(model, control):
    with control.attach(model, drawing(2), mode="control"):
        return draw(model)


@pytest.mark.parametrize("kind", ["net", "adapter", "reference"])
def test_every_plan_draws_the_same_picture(model, controls, kind):
    """Two pictures with a hint each, of which the empty prompts' rows see nothing."""
    plain, whole = draw(model), draw_with(model, controls[kind])
    assert not torch.equal(plain, whole)
    for settings in PLANS:
        plan = StagePlan(model, PlanSettings(**settings), CPU, mover=Elsewhere()).attach()
        try:
            drawn = draw_with(model, controls[kind])
        finally:
            plan.detach()
        torch.testing.assert_close(drawn, whole, rtol=1e-5, atol=1e-5)
    assert torch.equal(draw(model), plain)


def test_a_lent_network_goes_where_it_is_asked_and_comes_home_unchanged():
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    home = dict(network.state_dict())
    lent, meta = Lent(network), torch.device("meta")
    assert all(v.is_meta for v in lent.to(meta, torch.float32).state_dict().values())
    lent.go_home()
    now = network.state_dict()
    assert all(now[name].data_ptr() == value.data_ptr() for name, value in home.items())
    assert lent.to(CPU, torch.float32) is network
    assert network[0].weight.data_ptr() == home["0.weight"].data_ptr()


def test_another_precision_is_taken_once_and_kept():
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)).half()
    lent = Lent(network)
    first = lent.to(CPU, torch.float32)[0].weight
    lent.go_home()
    assert lent.to(CPU, torch.float32)[0].weight is first and first.dtype == torch.float32
    assert network[1].num_batches_tracked.dtype == torch.long


@torch.no_grad()
def test_after_a_walk_the_device_is_free(model, controls):
    """The hook that a walk's end is, seen from the network's side."""
    homes = []
    control = controls["net"]
    with control.attach(model, drawing()) as handle:
        control.network.go_home = lambda: homes.append(handle.follower.moment.number)
        draw(model)
        assert homes == [None]
        del control.network.go_home
