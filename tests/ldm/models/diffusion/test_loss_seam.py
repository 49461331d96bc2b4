"""The hub's loss can be exchanged, and drawing does not pay for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from pixel_hub import STEPS, UNET, loss_of, make
from tiny_model import CONFIG

from ldm.config import build
from ldm.errors import UserError
from ldm.models.diffusion.ddpm import DDPM, LatentDiffusion
from ldm.process.density import LogitNormal
from ldm.process.loss import DiffusionLoss, Huber
from ldm.process.weighting import EDM, MinSNR, variational_weights

ROOT = Path(__file__).resolve().parents[4]
TARGET = "ldm.process.loss.DiffusionLoss"


def configured(**params) -> dict:
    """Return a ``loss_config`` as a YAML file gives it."""
    return {"loss_config": OmegaConf.create({"target": TARGET, "params": params})}


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
@pytest.mark.parametrize(
    ("by_name", "by_config"),
    [
        ({}, {}),
        ({"loss_type": "l1"}, {"kind": "l1"}),
        ({"snr_gamma": 5.0}, {"weighting": {"target": "ldm.process.weighting.MinSNR"}}),
    ],
)
def test_the_hubs_own_parameters_are_short_for_a_loss_config(kind, by_name, by_config):
    shared = {"parameterization": kind, "original_elbo_weight": 0.1, "learn_logvar": True}
    expected = loss_of(make(**shared, **by_name))
    assert torch.equal(loss_of(make(**shared, **configured(**by_config))), expected)


def test_the_hubs_timestep_density_is_short_for_a_density():
    drawn = []
    density = {"target": "ldm.process.density.LogitNormal", "params": {"mean": -2.0, "std": 0.5}}
    for changes in ({"timestep_density": (-2.0, 0.5)}, configured(density=density), {}):
        torch.manual_seed(0)
        drawn.append(make(**changes).draw_steps(500))
    assert torch.equal(drawn[0], drawn[1])
    # sigmoid(-2) = 0.12
    assert drawn[0].float().mean() < 200 < drawn[2].float().mean()


def test_training_draws_its_steps_by_the_density():
    model, seen = make(), []
    model.loss = DiffusionLoss(density=lambda count, total, device: torch.full((count,), 7))
    model.apply_model = lambda x, t, cond: seen.append(t) or x
    model(torch.randn(3, 4, 8, 8))
    assert [t.tolist() for t in seen] == [[7, 7, 7]]


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
@pytest.mark.parametrize("compared", ["eps", "x0", "v"])
def test_comparing_something_else_is_another_weighting_of_a_squared_error(kind, compared):
    """As errors of x0 all are one: |eps error|^2 = SNR |x0 error|^2, |v error|^2 = (SNR + 1) ..."""
    found = loss_of(make(parameterization=kind, **configured(parameterization=compared)))
    model = make(parameterization=kind)
    snr = model.coefficients["alphas_cumprod"] / (1 - model.coefficients["alphas_cumprod"])
    ratio = {"eps": snr, "x0": np.ones_like(snr), "v": snr + 1}
    model.loss = DiffusionLoss(weighting=lambda tables, kind: ratio[compared] / ratio[kind])
    torch.testing.assert_close(found, loss_of(model), rtol=1e-4, atol=0)


@pytest.mark.parametrize("compared", ["eps", "x0", "v"])
def test_a_weighting_is_of_what_is_compared(compared):
    # Min-SNR means the same loss whatever is compared: arXiv:2303.09556, section 3.4.
    weighting = {"target": "ldm.process.weighting.MinSNR"}
    expected = loss_of(make(**configured(weighting=weighting)))
    found = loss_of(make(**configured(weighting=weighting, parameterization=compared)))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)


def test_a_huber_loss_of_a_large_delta_is_l2_and_of_a_small_one_scaled_l1():
    l2, l1 = loss_of(make()), loss_of(make(loss_type="l1"))
    model = make()
    model.loss = DiffusionLoss(Huber(1e3))
    torch.testing.assert_close(loss_of(model), l2)
    model.loss = DiffusionLoss(Huber(1e-4))
    torch.testing.assert_close(loss_of(model), 2e-4 * l1, rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    "loss",
    [
        DiffusionLoss("huber", MinSNR(), "x0", LogitNormal()),
        DiffusionLoss("l1", EDM(), "v"),
    ],
)
def test_a_few_steps_lower_an_exchanged_loss(loss):
    model = make()
    model.loss, model.learning_rate = loss, 2e-3
    optimizer = model.configure_optimizers()
    x0, noise = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    losses = []
    for _ in range(8):
        value, _ = model.p_losses(x0, STEPS, noise)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert losses[-1] < 0.9 * losses[0]


def test_a_subclass_that_overrides_get_loss_is_obeyed():
    class Fork(DDPM):
        def get_loss(self, pred, target, mean=True):
            return super().get_loss(pred, target, mean) + 1.0

    torch.manual_seed(0)
    fork = Fork(UNET, channels=4, use_ema=False)
    fork.load_state_dict(make().state_dict())
    torch.testing.assert_close(loss_of(fork), loss_of(make()) + 1.0)


def test_get_loss_gives_the_mean_or_each_elements_error():
    model = make(loss_type="l1")
    pred, target = torch.randn(2, 3, 4, 8, 8)
    assert torch.equal(model.get_loss(pred, target, mean=False), (pred - target).abs())
    assert torch.equal(model.get_loss(pred, target), (pred - target).abs().mean())


def test_changing_a_setting_changes_the_next_loss():
    model = make()
    before = loss_of(model)
    model.loss_type = "l1"
    assert torch.equal(loss_of(model), loss_of(make(loss_type="l1"))) and before != loss_of(model)
    model.loss_type, model.snr_gamma = "l2", 1.0
    assert torch.equal(loss_of(model), loss_of(make(snr_gamma=1.0))) and before != loss_of(model)


def test_a_new_schedule_brings_new_weights():
    model = make(original_elbo_weight=1.0, snr_gamma=1.0)
    loss_of(model)
    model.register_schedule(beta_schedule="cosine")
    other = make(original_elbo_weight=1.0, snr_gamma=1.0, beta_schedule="cosine")
    assert torch.equal(loss_of(model), loss_of(other))


def test_weights_follow_the_schedule_to_its_precision_and_are_in_no_checkpoint():
    model = make(snr_gamma=5.0)
    exact = variational_weights(model.coefficients, "eps")
    assert np.allclose(model.lvlb_weights.numpy(), exact)
    model.betas = model.betas.bfloat16()
    assert model.lvlb_weights.dtype == torch.bfloat16
    loss_of(model)
    assert not [key for key in model.state_dict() if "weights" in key]


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"loss_type": "l1"}, "loss_type given"),
        ({"snr_gamma": 5.0, "timestep_density": (0, 1)}, "snr_gamma, timestep_density given"),
    ],
)
def test_a_loss_described_twice_is_refused(changes, names):
    with pytest.raises(UserError, match=f"{names} beside loss_config"):
        make(**configured(), **changes)


def test_a_fault_in_the_configuration_is_told_before_training():
    config = OmegaConf.create(CONFIG)
    model = build(OmegaConf.merge(config, {"model": {"params": configured(knid="l1")}}))
    with pytest.raises(UserError, match="loss_config.params.knid.*kind"):
        model.configure_optimizers()


def test_a_configured_loss_with_weights_is_refused():
    model = make(loss_config={"target": "torch.nn.PReLU"})
    with pytest.raises(UserError, match=r"torch.nn.PReLU.*make_loss of a subclass of DDPM"):
        model.training_loss()


def test_a_checkpoint_starts_a_subclass_of_either_hub(tmp_path):
    class PixelFork(DDPM):
        pass

    class LatentFork(LatentDiffusion):
        pass

    params = CONFIG["model"]["params"]
    for fork, given in ((PixelFork, {"unet_config": UNET, "channels": 4}), (LatentFork, params)):
        begun = fork(**given)
        torch.nn.init.ones_(begun.model.diffusion_model.out[2].bias)
        torch.save(begun.state_dict(), tmp_path / "begun.ckpt")
        again = fork(**given, ckpt_path=str(tmp_path / "begun.ckpt"))
        assert (again.model.diffusion_model.out[2].bias == 1).all()


TRAINING_ONLY = (
    "ldm.process.loss",
    "ldm.process.weighting",
    "ldm.process.density",
    "ldm.models.diffusion.batch_conditioning",
    "ldm.models.diffusion.preview",
    "ldm.modules.ema",
    "ldm.modules.losses",
    "ldm.lr_scheduler",
    "ldm.muon",
    "ldm.training",
    "ldm.models.tiling.patches",
)
DRAW = """
import sys
sys.path.append("tests")
import torch
from family_models import family_config
from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.checkpoint.drawn_by import for_drawing
from ldm.util import instantiate_from_config
config = family_config("unconditional")
config["model"]["params"]["loss_config"] = {"target": "ldm.process.loss.DiffusionLoss"}
model = instantiate_from_config(for_drawing(config["model"])).eval()
with torch.no_grad():
    z, _ = make_sampler("plms", model).sample(2, 1, (4, 8, 8), verbose=False)
    model.decode_first_stage(z)
print(*(name for name in sys.modules if name.startswith("ldm")))
"""


def test_drawing_a_picture_imports_nothing_of_training():
    run = subprocess.run(
        [sys.executable, "-c", DRAW], capture_output=True, text=True, cwd=ROOT, check=True
    )
    imported = run.stdout.split()
    assert "ldm.models.diffusion.latent_diffusion" in imported
    assert not [name for name in imported if name.startswith(TRAINING_ONLY)]
