"""The average of weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ldm.modules.ema import LitEma


def test_names_are_the_checkpoints_without_dots():
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 1)))
    keys = set(LitEma(model).state_dict())
    assert {"decay", "num_updates", "0weight", "10weight", "10bias"} <= keys


def test_the_decay_warms_up_and_the_average_follows():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    ema = LitEma(model, decay=0.9)
    nn.init.ones_(model.weight)
    average = 0.0
    for n in range(1, 200):
        decay = min(0.9, (1 + n) / (10 + n))
        average = decay * average + (1 - decay)
        ema(model)
        assert ema.weight.item() == pytest.approx(average, rel=1e-4)
    assert ema.num_updates.item() == 199


def test_storing_copying_and_restoring_is_bitwise():
    model = nn.Linear(3, 3)
    ema = LitEma(model)
    with torch.no_grad():
        model.weight += 1
    before = model.weight.clone()
    ema.store(model.parameters())
    ema.copy_to(model)
    assert torch.equal(model.weight, ema.weight) and not torch.equal(model.weight, before)
    ema.restore(model.parameters())
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize("decay", [-0.1, 1.1])
def test_an_impossible_decay_is_refused(decay):
    with pytest.raises(ValueError, match="0 to 1"):
        LitEma(nn.Linear(1, 1), decay=decay)
