"""A plan of devices is set aside for a moment, so that weights can be replaced."""

from __future__ import annotations

import pytest
import torch
from offload_parts import Elsewhere, use

from ldm.offload.home import at_home


def test_a_plan_takes_up_the_weights_that_it_finds(tiny, expected, attach):
    plan = attach(tiny, Elsewhere(), policy="resident")
    use(tiny)
    layer = tiny.model.diffusion_model.time_embed[0]
    with at_home(tiny):
        own = layer.weight
        layer.weight = torch.nn.Parameter(torch.zeros_like(own), requires_grad=False)
    assert not torch.equal(use(tiny)["latent"], expected["latent"])
    with at_home(tiny):
        layer.weight = own
    assert torch.equal(use(tiny)["latent"], expected["latent"])
    plan.detach()
    assert layer.weight is own


def test_a_model_without_a_plan_is_at_home(tiny):
    weights = dict(tiny.named_parameters())
    with at_home(tiny):
        assert all(value is weights[name] for name, value in tiny.named_parameters())
    assert all(value is weights[name] for name, value in tiny.named_parameters())


def test_a_stage_in_use_stays(tiny, attach):
    plan = attach(tiny, policy="four-part")
    with torch.no_grad(), plan.on("text"):
        assert plan.in_use == "text"
        with pytest.raises(RuntimeError, match="while text is in use"), at_home(tiny):
            pass
