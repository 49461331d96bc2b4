"""Models whose constructors look at values are loaded like others."""

from __future__ import annotations

import copy
import sys
import types

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file
from tiny_model import CONFIG
from torch import nn

from ldm.checkpoint.emptied import build_then_empty
from ldm.checkpoint.load import load_model
from ldm.errors import UserError
from ldm.models.diffusion.ddpm import LatentDiffusion


class Asserting(LatentDiffusion):
    """Registers its schedule with torch.tensor and looks for NaN in it, as the reference does."""

    def register_schedule(self, *args, **kwargs):
        super().register_schedule(*args, **kwargs)
        betas = torch.tensor(np.linspace(0.03, 0.1, 1000) ** 2, dtype=torch.float32)
        self.register_buffer("betas", betas)
        self.register_buffer("weights", betas**2, persistent=False)
        assert not torch.isnan(self.weights).all()


class Counting(LatentDiffusion):
    """Makes Python numbers of a tensor, as drop-path rates are made."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.rates = [rate.item() for rate in torch.linspace(0, 1, 3)]


class Listing(LatentDiffusion):
    """The same by ``tolist`` and numpy."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.rates = torch.arange(3).tolist()
        self.table = torch.ones(3).numpy()


class Mixing(LatentDiffusion):
    """Multiplies an array's numbers by a tensor that it makes."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        table = torch.from_numpy(np.arange(3.0)) * torch.full((3,), 2.0)
        self.register_buffer("table", table, persistent=False)


class Choosing(LatentDiffusion):
    """Decides by the value of a tensor."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.large = bool(torch.tensor([3.0]).max() > 2)


FORKS = (Asserting, Counting, Listing, Mixing, Choosing)


@pytest.mark.parametrize("fork", FORKS)
def test_a_constructor_that_looks_at_values_is_given_some(fork, tiny_ckpt, monkeypatch):
    monkeypatch.setitem(sys.modules, "a_fork", types.SimpleNamespace(Fork=fork))
    config = OmegaConf.create(copy.deepcopy(CONFIG))
    config.model.target = "a_fork.Fork"
    state = torch.get_rng_state()
    model, report = load_model(config, tiny_ckpt, dtype=torch.float16)
    assert torch.equal(torch.get_rng_state(), state) and type(model) is fork
    stored = load_file(tiny_ckpt)
    for name, value in model.state_dict().items():
        assert torch.equal(value, stored[name].to(value.dtype)), name
    assert model.model.diffusion_model.out[2].weight.dtype == torch.float16
    assert not report.missing


def test_other_errors_of_a_constructor_are_its_own(tiny_ckpt, monkeypatch):
    tries = []

    class Broken(LatentDiffusion):
        def __init__(self, **kwargs):
            tries.append(kwargs)
            raise RuntimeError("no such thing")

    monkeypatch.setitem(sys.modules, "a_fork", types.SimpleNamespace(Fork=Broken))
    config = OmegaConf.create({**copy.deepcopy(CONFIG)})
    config.model.target = "a_fork.Fork"
    with pytest.raises(UserError, match="RuntimeError .*no such thing"):
        load_model(config, tiny_ckpt)
    assert len(tries) == 1


def test_shared_weights_stay_shared_and_buffers_keep_their_values():
    def build():
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.BatchNorm1d(2))
        model[1].weight = model[0].weight
        model[1].bias.requires_grad_(False)
        return model

    model = build_then_empty(build)
    assert all(weight.is_meta for weight in model.parameters())
    assert model[0].weight is model[1].weight and model[0].bias is not model[1].bias
    assert not model[1].bias.requires_grad and model[0].bias.requires_grad
    assert (model[2].running_var == 1).all()
