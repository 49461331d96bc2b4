"""The loss and its parts, without a model."""

from __future__ import annotations

import pytest
import torch

from ldm.errors import UserError
from ldm.process.density import LogitNormal, Uniform
from ldm.process.loss import KINDS, DiffusionLoss, Huber, l1, l2
from ldm.process.weighting import MinSNR, Unweighted

WEIGHTING = {"target": "ldm.process.weighting.MinSNR", "params": {"gamma": 2.0}}
DENSITY = {"target": "ldm.process.density.LogitNormal", "params": {"mean": 0.5}}
HUBER = {"target": "ldm.process.loss.Huber", "params": {"delta": 0.2}}


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Return a prediction and a target (4000,) in float64, some near and some far apart."""
    generator = torch.Generator().manual_seed(0)
    pred, target = torch.randn(2, 4000, generator=generator, dtype=torch.float64)
    return 2 * pred, target


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_zero_for_the_target_alone_and_even(name):
    pred, target = pair()
    kind = KINDS[name]
    assert (kind(target, target) == 0).all()
    assert (kind(pred, target)[pred != target] > 0).all()
    assert torch.equal(kind(pred, target), kind(target, pred))


def test_huber_is_l2_for_small_errors_and_a_line_for_large_ones():
    pred, target = pair()
    small = (pred - target).abs() <= 0.7
    error = Huber(0.7)(pred, target)
    assert torch.allclose(error[small], l2(pred, target)[small])
    expected = 2 * 0.7 * l1(pred, target) - 0.7**2
    assert torch.allclose(error[~small], expected[~small])


def test_an_outlier_pulls_with_twice_delta_at_most():
    pred, target = pair()
    pred.requires_grad_()
    Huber(0.7)(pred, target).sum().backward()
    assert pred.grad.abs().max().item() == pytest.approx(2 * 0.7)


def test_the_defaults_are_ddpms():
    loss = DiffusionLoss()
    parts = (loss.kind, loss.weighting, loss.parameterization, loss.density)
    assert parts == (l2, Unweighted(), None, Uniform())


def test_parts_are_built_or_taken_as_they_are():
    built = DiffusionLoss(HUBER, WEIGHTING, "x0", DENSITY)
    taken = DiffusionLoss(Huber(0.2), MinSNR(2.0), "x0", LogitNormal(0.5))
    for part in ("kind", "weighting", "parameterization", "density"):
        assert getattr(built, part) == getattr(taken, part) != getattr(DiffusionLoss(), part)


@pytest.mark.parametrize(
    ("params", "part"),
    [
        ({"kind": "l3"}, "loss_config.params.kind.*l1, l2 or huber"),
        ({"kind": {**HUBER, "params": {"dleta": 1}}}, "loss_config.params.kind.*delta"),
        ({"weighting": {**WEIGHTING, "params": {"gama": 1}}}, "params.weighting.*gamma"),
        ({"weighting": 5.0}, "params.weighting.*target"),
        ({"density": {**DENSITY, "params": {"meen": 1}}}, "params.density.*mean"),
        ({"parameterization": "w"}, "eps, x0 or v"),
        ({"kind": {**HUBER, "params": {"delta": 0}}}, "delta .* above 0"),
    ],
)
def test_a_wrong_part_is_refused_by_its_place(params, part):
    with pytest.raises(UserError, match=part):
        DiffusionLoss(**params)


@pytest.mark.parametrize("built", [False, True])
def test_a_part_with_tensors_of_its_own_is_refused_for_no_checkpoint_has_them(built):
    kind = {"target": "torch.nn.PReLU"} if built else torch.nn.PReLU()
    with pytest.raises(UserError, match=r"params.kind.*PReLU.*make_loss"):
        DiffusionLoss(kind)
    assert DiffusionLoss({"target": "torch.nn.L1Loss", "params": {"reduction": "none"}})
