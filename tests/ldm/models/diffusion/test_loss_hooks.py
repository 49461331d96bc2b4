"""Subclasses bring a loss or a schedule of their own, and faults of a loss are told early."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from pixel_hub import UNET, loss_of, make
from tiny_model import CONFIG

from ldm.checkpoint.export import export_inference
from ldm.checkpoint.load import load_model
from ldm.errors import UserError
from ldm.models.diffusion.ddpm import DDPM, LatentDiffusion
from ldm.process.loss import DiffusionLoss


class Learned(torch.nn.Module, DiffusionLoss):
    """A squared error with a learned factor, and one that stays."""

    def __init__(self):
        torch.nn.Module.__init__(self)
        DiffusionLoss.__init__(self)
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.frozen = torch.nn.Parameter(torch.ones(()), requires_grad=False)
        self.kind = self.error

    def error(self, pred, target):
        return self.scale * self.frozen * (pred - target).square()


class PixelFork(DDPM):
    """A hub with a loss that learns."""

    def make_loss(self):
        return Learned()


class LatentFork(LatentDiffusion):
    """The same in latents, which counts how often it reads a checkpoint."""

    read = 0

    def make_loss(self):
        return Learned()

    def init_from_ckpt(self, *args, **kwargs):
        assert self.first_stage_model is not None
        self.read += 1
        super().init_from_ckpt(*args, **kwargs)


def test_a_loss_of_a_subclass_is_trained_and_what_is_frozen_of_it_is_not():
    fork = PixelFork(UNET, channels=4)
    trained = {id(p) for p in fork.trainable_parameters()}
    assert id(fork.loss.scale) in trained and id(fork.loss.frozen) not in trained
    fork(torch.randn(2, 4, 8, 8))[0].backward()
    assert fork.loss.scale.grad != 0


@pytest.mark.parametrize("fork", [PixelFork, LatentFork])
def test_a_checkpoint_restores_the_loss_of_a_subclass(fork, tmp_path):
    params = (
        {"unet_config": UNET, "channels": 4} if fork is PixelFork else CONFIG["model"]["params"]
    )
    begun = fork(**params)
    torch.nn.init.constant_(begun.loss.scale, 3.0)
    torch.save(begun.state_dict(), tmp_path / "begun.ckpt")
    assert fork(**params, ckpt_path=str(tmp_path / "begun.ckpt")).loss.scale == 3.0


def test_a_latent_hub_reads_its_checkpoint_once_when_it_is_complete(tmp_path, caplog):
    params = CONFIG["model"]["params"]
    begun = LatentFork(**{**params, "use_ema": True})
    assert begun.read == 0
    torch.save({**begun.state_dict(), "strange.weight": torch.zeros(1)}, tmp_path / "begun.ckpt")
    params = {**params, "ckpt_path": str(tmp_path / "begun.ckpt"), "use_ema": False}
    assert LatentFork(**params).read == 1
    assert "strange.weight" in caplog.text and "--use_ema" not in caplog.text


def test_a_model_with_a_loss_of_its_own_is_exported_without_it_and_still_loads(tmp_path):
    config = copy.deepcopy(CONFIG)
    config["model"]["target"] = f"{__name__}.LatentFork"
    torch.save({"state_dict": LatentFork(**config["model"]["params"]).state_dict()}, tmp_path / "a")
    export_inference(tmp_path / "a", tmp_path / "b.safetensors")
    model, _ = load_model(OmegaConf.create(config), tmp_path / "b.safetensors")
    assert model.loss is None and not any(p.is_meta for p in model.parameters())
    model, _ = load_model(OmegaConf.create(config), tmp_path / "a")
    assert model.loss.scale == 1


class ReferenceSchedule(DDPM):
    """Registers its schedule as CompVis's ``register_schedule`` does."""

    def register_schedule(self, *args, **kwargs):
        betas = np.linspace(1e-4**0.5, 2e-2**0.5, 1000) ** 2
        alphas, cumprod = 1 - betas, np.cumprod(1 - betas)
        before = np.append(1.0, cumprod[:-1])
        self.num_timesteps = len(betas)
        variance = betas * (1 - before) / (1 - cumprod)
        tables = {
            "betas": betas,
            "alphas_cumprod": cumprod,
            "alphas_cumprod_prev": before,
            "sqrt_alphas_cumprod": np.sqrt(cumprod),
            "sqrt_one_minus_alphas_cumprod": np.sqrt(1 - cumprod),
            "log_one_minus_alphas_cumprod": np.log(1 - cumprod),
            "sqrt_recip_alphas_cumprod": np.sqrt(1 / cumprod),
            "sqrt_recipm1_alphas_cumprod": np.sqrt(1 / cumprod - 1),
            "posterior_variance": variance,
            "posterior_log_variance_clipped": np.log(np.maximum(variance, 1e-20)),
            "posterior_mean_coef1": betas * np.sqrt(before) / (1 - cumprod),
            "posterior_mean_coef2": (1 - before) * np.sqrt(alphas) / (1 - cumprod),
        }
        for name, table in tables.items():
            self.register_buffer(name, torch.tensor(table, dtype=torch.float32))
        weights = self.betas**2 / (
            2 * self.posterior_variance * torch.tensor(alphas).float() * (1 - self.alphas_cumprod)
        )
        weights[0] = weights[1]
        self.register_buffer("lvlb_weights", weights, persistent=False)
        assert not torch.isnan(self.lvlb_weights).all()


def test_a_subclass_may_register_the_schedule_as_the_reference_does():
    shared = {"original_elbo_weight": 0.1, "snr_gamma": 5.0}
    torch.manual_seed(0)
    fork = ReferenceSchedule(UNET, channels=4, use_ema=False, **shared)
    own = make(**shared)
    assert fork.state_dict().keys() == own.state_dict().keys()
    fork.load_state_dict(own.state_dict())
    torch.testing.assert_close(loss_of(fork), loss_of(own), rtol=1e-4, atol=0)
    assert fork.to(torch.bfloat16).lvlb_weights.dtype == torch.bfloat16


def test_weights_of_the_bound_can_be_set():
    model = make(original_elbo_weight=1.0, l_simple_weight=0.0)
    model.lvlb_weights = torch.zeros(1000)
    assert loss_of(model) == 0 and "lvlb_weights" not in model.state_dict()


@dataclass
class Tabled:
    """A weighting that holds its weights: two of them have no truth value of equality."""

    table: np.ndarray = field(default_factory=lambda: np.ones(1000))

    def __call__(self, coefficients, kind):
        return self.table


def test_a_weighting_may_hold_an_array_and_is_told_apart_from_another():
    model = make()
    expected = loss_of(model)
    model.loss = DiffusionLoss(weighting=Tabled())
    assert loss_of(model) == expected == loss_of(model)
    model.loss = DiffusionLoss(weighting=Tabled(np.full(1000, 2.0)))
    assert loss_of(model) == 2 * expected


def test_the_same_settings_make_their_weights_once():
    model = make(snr_gamma=5.0)
    rule = model.training_loss().weighting
    assert rule is model.training_loss().weighting
    table = model.step_table("weights", rule, "eps")
    assert table is model.step_table("weights", rule, "eps")


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        (lambda: torch.nn.MSELoss(), "MSELoss without kind, weighting"),
        (lambda: DiffusionLoss(lambda p, t: (p - t).square().mean()), r"gives \(\) for"),
        (lambda: DiffusionLoss(weighting=lambda c, k: np.ones(7)), "loss of shape .*1000 finite"),
        (lambda: DiffusionLoss(weighting=lambda c, k: np.full(1000, np.inf)), "inf.*1000 finite"),
    ],
)
def test_a_loss_with_a_fault_is_refused_before_the_first_batch(loss, told):
    model = make()
    model.loss = loss()
    with pytest.raises(UserError, match=told):
        model.configure_optimizers()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"loss_type": "l3"}, "loss_type 'l3'.*l1 or l2"),
        ({"snr_gamma": 0.0}, "snr_gamma 0.0 .* above 0"),
        ({"snr_gamma": True}, "snr_gamma True .* above 0"),
        ({"timestep_density": (0.0,)}, "timestep_density .*two numbers"),
        ({"timestep_density": 1.0}, "timestep_density 1.0 .*two numbers"),
        ({"timestep_density": (0.0, 0.0)}, "timestep_density .*deviation above 0"),
        ({"timestep_density": ("0", 1.0)}, "timestep_density .*two numbers"),
    ],
)
def test_a_short_parameter_with_a_fault_is_refused_under_its_own_name(changes, told):
    with pytest.raises(UserError, match=told):
        make(**changes)


def test_short_parameters_may_be_numpys():
    model = make(snr_gamma=np.float32(5.0), timestep_density=np.array([0.0, 1.0]))
    assert torch.equal(loss_of(model), loss_of(make(snr_gamma=5.0)))
    assert model.draw_steps(3).shape == (3,)
