"""ControlNet's and T2I-Adapter's networks have the published layouts, and begin as nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from control_parts import drawing, inputs, make_model

from ldm.adapters.handle import require_unet
from ldm.checkpoint.load import _NoInitialisation
from ldm.config import build, load_config
from ldm.modules.diffusionmodules.control_net import control_net_like
from ldm.modules.diffusionmodules.t2i_adapter import T2IAdapter

CONFIGS = Path(__file__).resolve().parents[4] / "configs/stable-diffusion"
PUBLISHED = {"v1-inference": 361_279_120, "v2-inference": 364_228_240}
"""Parameters of control_v11p_sd15_canny and control_v11p_sd21_canny."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_beside_a_published_unet_it_has_as_many_weights_as_the_published_ones(name):
    with torch.device("meta"), _NoInitialisation():
        config = load_config(CONFIGS / f"{name}.yaml")
        unet = build(config, "model.params.unet_config")
        net = control_net_like(unet, 4, 3)
    assert sum(weight.numel() for weight in net.parameters()) == PUBLISHED[name]
    own, theirs = net.state_dict(), unet.state_dict()
    shared = [key for key in own if key in theirs]
    assert all(own[key].shape == theirs[key].shape for key in shared)
    first = ("time_embed", "input_blocks", "middle_block.")
    assert set(shared) == {key for key in theirs if key.startswith(first)}


def test_the_published_adapters_have_as_many_weights():
    with torch.device("meta"):
        full = T2IAdapter(3, (320, 640, 1280, 1280), 2)
        light = T2IAdapter(3, (320, 640, 1280, 1280), 4, light=True)
    counts = [sum(weight.numel() for weight in net.parameters()) for net in (full, light)]
    assert counts == [77_369_280, 18_689_200]


@torch.no_grad()
def test_a_new_one_adds_nothing_and_sees_the_hint_once_it_is_trained():
    unet = require_unet(make_model())
    net = control_net_like(unet, 4, 3).eval()
    x, t, context = inputs()
    assert not any(out.any() for out in net(x, drawing(), t, context))
    torch.nn.init.ones_(net.zero_convs[0][0].weight)
    torch.nn.init.ones_(net.input_hint_block[-1].weight)
    before = net(x, drawing(), t, context)[0]
    assert not torch.equal(before, net(x, drawing(seed=9), t, context)[0])


@torch.no_grad()
def test_outputs_fit_the_skips_at_any_size():
    unet = require_unet(make_model())
    net = control_net_like(unet, 4, 3)
    x, t, context = inputs(side=9)
    h, _, skips = unet.encode(x, t, context)
    outputs = net(x, drawing(side=72), t, context)
    assert [out.shape for out in outputs] == [each.shape for each in (*skips, h)]
