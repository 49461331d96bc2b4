"""How often each step is drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ldm.errors import UserError
from ldm.process.density import LogitNormal, Uniform


def test_uniform_draws_every_step_equally_often():
    torch.manual_seed(0)
    steps = Uniform()(20_000, 10, "cpu")
    shares = torch.bincount(steps, minlength=10) / 20_000
    # The standard error of a share is 0.002.
    assert steps.dtype == torch.long and len(shares) == 10
    assert torch.allclose(shares, torch.full((10,), 0.1), atol=0.01)


@pytest.mark.parametrize("mean, std", [(0.0, 1.0), (0.35, 1.0), (-1.0, 0.5)])
def test_the_quantiles_of_logit_normal_steps_are_those_of_the_normal(mean, std):
    torch.manual_seed(0)
    steps = LogitNormal(mean, std)(20_000, 1000, "cpu")
    assert steps.dtype == torch.long
    # Half lie below sigmoid(mean), a sixth below one standard deviation less.
    for z, share in ((0.0, 0.5), (-1.0, 0.1587), (1.0, 0.8413)):
        bound = 1000 / (1 + np.exp(-(mean + z * std)))
        assert (steps < bound).float().mean().item() == pytest.approx(share, abs=0.015)


@pytest.mark.parametrize("mean, edge", [(-60.0, 0), (60.0, 999)])
def test_logit_normal_steps_stay_within_the_schedule(mean, edge):
    assert (LogitNormal(mean)(100, 1000, "cpu") == edge).all()


@pytest.mark.parametrize("std", [0.0, -1.0, "1"])
def test_a_standard_deviation_that_is_not_above_zero_is_refused(std):
    with pytest.raises(UserError, match="std .* above 0"):
        LogitNormal(0.0, std)
