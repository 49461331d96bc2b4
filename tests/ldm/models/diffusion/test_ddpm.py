"""The hub: conditioning, losses, organs."""

from __future__ import annotations

import copy
import importlib

import pytest
import torch
from tiny_model import CONFIG

from ldm.errors import UserError
from ldm.models.diffusion.ddpm import DDPM, LatentDiffusion
from ldm.models.diffusion.preview import light_settings
from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.muon import Muon
from ldm.settings.samplers import SAMPLERS

TINY = CONFIG["model"]["params"]
UNET, FIRST_STAGE = TINY["unet_config"], TINY["first_stage_config"]
TEXT = copy.deepcopy(TINY["cond_stage_config"])
TEXT["params"]["trainable"] = True
PARAMS = {
    "unet_config": UNET,
    "first_stage_config": FIRST_STAGE,
    "cond_stage_config": TEXT,
    "conditioning_key": "crossattn",
    "first_stage_key": "jpg",
    "cond_stage_key": "txt",
    "image_size": 8,
    "channels": 4,
}


def make(**changes) -> LatentDiffusion:
    torch.manual_seed(0)
    return LatentDiffusion(**{**PARAMS, **changes})


def batch(n: int = 4) -> dict:
    generator = torch.Generator().manual_seed(1)
    pictures = torch.rand(n, 16, 16, 3, generator=generator) * 2 - 1
    return {"jpg": pictures, "txt": [f"picture {i}" for i in range(n)]}


@pytest.mark.parametrize("parameterization", ["eps", "x0", "v"])
@pytest.mark.parametrize("snr_gamma", [None, 5.0])
def test_a_few_steps_lower_the_loss_on_a_fixed_batch(parameterization, snr_gamma):
    model = make(
        parameterization=parameterization, snr_gamma=snr_gamma, cond_stage_trainable=True
    ).train()
    model.learning_rate = 2e-3
    optimizer = model.configure_optimizers()
    z, c = model.get_input(batch(), "jpg", force_c_encode=True)
    t, noise = torch.tensor([50, 300, 600, 900]), torch.randn_like(z)
    losses = []
    for _ in range(12):
        loss, _ = model.p_losses(z, c.detach(), t, noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_a_configuration_names_its_optimizer():
    model = make(
        optimizer_config={"target": "ldm.muon.Muon", "params": {"momentum": 0.9}},
        cond_stage_trainable=True,
    )
    model.learning_rate = 3e-4
    optimizer = model.configure_optimizers()
    assert isinstance(optimizer, Muon)
    assert {(group["lr"], group["momentum"]) for group in optimizer.param_groups} == {(3e-4, 0.9)}
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in trained} == {id(p) for p in model.trainable_parameters()}


def test_any_optimizer_of_torch_can_be_named():
    model = make(optimizer_config={"target": "torch.optim.SGD"}, cond_stage_trainable=True)
    assert isinstance(model.configure_optimizers(), torch.optim.SGD)


def test_embeddings_are_told_apart_from_matrices():
    model = make(optimizer_config={"target": "ldm.muon.Muon"}, cond_stage_trainable=True)
    (tables,) = [g["params"] for g in model.configure_optimizers().param_groups if g["tables"]]
    embeddings = [m for m in model.cond_stage_model.modules() if isinstance(m, torch.nn.Embedding)]
    assert {id(p) for p in tables} == {id(m.weight) for m in embeddings}


def test_a_wrong_parameter_of_the_optimizer_is_told():
    model = make(optimizer_config={"target": "ldm.muon.Muon", "params": {"momentun": 0.9}})
    with pytest.raises(UserError, match="momentum"):
        model.configure_optimizers()


def test_the_simple_loss_of_eps_is_equation_14():
    model = make().eval()
    # A new UNet answers 0 to everything; this one has to notice what it is given.
    for parameter in model.model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    z, t, noise = torch.randn(4, 4, 8, 8), torch.tensor([0, 10, 500, 999]), torch.randn(4, 4, 8, 8)
    c = model.get_learned_conditioning(["a"] * 4)
    loss, logs = model.p_losses(z, c, t, noise)
    a = model.alphas_cumprod[t].reshape(-1, 1, 1, 1)
    out = model.apply_model(a.sqrt() * z + (1 - a).sqrt() * noise, t, c)
    assert torch.allclose(loss, (out - noise).square().mean(), rtol=1e-5)
    assert torch.allclose(logs["val/loss_simple"], loss)


def test_the_bound_and_the_learned_variance_enter_the_loss():
    z, t, noise = torch.randn(2, 4, 8, 8), torch.tensor([10, 500]), torch.randn(2, 4, 8, 8)
    plain = make().eval()
    c = plain.get_learned_conditioning(["a"] * 2)
    base, logs = plain.p_losses(z, c, t, noise)
    weighted = make(original_elbo_weight=0.5).p_losses(z, c, t, noise)[0]
    assert torch.allclose(weighted, base + 0.5 * logs["val/loss_vlb"])
    learned = make(learn_logvar=True, logvar_init=1.0)
    assert "logvar" in learned.state_dict() and "logvar" not in plain.state_dict()
    expected = base / torch.tensor(1.0).exp() + 1.0
    assert torch.allclose(learned.p_losses(z, c, t, noise)[0], expected)


def test_only_what_is_trainable_is_optimised():
    frozen, trainable = make(), make(cond_stage_trainable=True)
    unet = len(list(frozen.model.parameters()))
    assert len(frozen.trainable_parameters()) == unet
    assert len(trainable.trainable_parameters()) > unet
    assert not any(p.requires_grad for p in frozen.cond_stage_model.parameters())
    frozen.train()
    assert not frozen.first_stage_model.training and not frozen.cond_stage_model.training
    assert trainable.train().cond_stage_model.training


def test_training_a_frozen_text_encoder_is_refused():
    text = {**TEXT, "params": {**TEXT["params"], "trainable": False}}
    model = make(cond_stage_trainable=True, cond_stage_config=text)
    with pytest.raises(UserError, match="trainable"):
        model.configure_optimizers()


def test_the_text_encoder_gets_its_gradient_only_when_trained():
    model = make(cond_stage_trainable=True).train()
    torch.nn.init.normal_(model.model.diffusion_model.out[2].weight)
    for block in model.modules():
        if hasattr(block, "proj_out"):
            torch.nn.init.normal_(block.proj_out.weight, std=0.1)
    model.training_step(batch(), 0).backward()
    weight = model.cond_stage_model.transformer.text_model.embeddings.token_embedding.weight
    assert weight.grad.abs().sum() > 0


def test_dropped_captions_become_the_empty_one_in_training_only():
    model = make(cond_dropout=1.0)
    seen = []
    model.get_learned_conditioning = lambda c: seen.append(list(c)) or torch.zeros(len(c), 77, 32)
    model.train().get_input(batch(), "jpg")
    model.eval().get_input(batch(), "jpg")
    assert seen == [[""] * 4, batch()["txt"]]


def test_scale_by_std_gives_unit_variance_once_and_is_stored():
    # Latents of standard deviation 3, where the variance, 9, is no stand-in for it. The narrow
    # encoder's own have one of about 1, so these come with the batch, and without spread.
    mean = 3 * torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    data = {**batch(), "jpg_moments": torch.cat([mean, torch.full_like(mean, -30.0)], dim=1)}
    model = make(scale_by_std=True)
    model.on_train_batch_start(data, 0)
    z, _ = model.get_input(data, "jpg")
    assert z.std().item() == pytest.approx(1, abs=1e-4)
    assert model.scale_factor.item() == pytest.approx(1 / 3, rel=0.1)
    factor = model.scale_factor.clone()
    model.on_train_batch_start({"jpg": batch()["jpg"] * 0.1}, 1)
    assert torch.equal(model.state_dict()["scale_factor"], factor)


def test_a_run_that_begins_with_a_checkpoint_keeps_its_scale(tmp_path):
    trained = make(scale_by_std=True)
    trained.scale_factor.fill_(0.25)
    torch.save(trained.state_dict(), tmp_path / "whole.ckpt")
    model = make(scale_by_std=True, ckpt_path=str(tmp_path / "whole.ckpt"))
    model.on_train_batch_start(batch(), 0)
    assert model.scale_factor == 0.25


def test_averages_begin_at_the_weights_that_a_run_starts_from(tmp_path):
    trained = make(use_ema=True)
    with torch.no_grad():
        trained.model.diffusion_model.out[2].bias.fill_(3.0)
    torch.save(trained.state_dict(), tmp_path / "whole.ckpt")
    model = make(use_ema=True, ckpt_path=str(tmp_path / "whole.ckpt"), load_only_unet=True)
    assert (model.model_ema.diffusion_modelout2bias == 3).all()


def test_latents_are_scaled_back_before_decoding():
    model = make(scale_factor=0.5).eval()
    z = torch.randn(1, 4, 4, 4)
    expected = model.first_stage_model.decode(z / 0.5)
    assert torch.allclose(model.decode_first_stage(z), expected)


def test_the_ema_scope_swaps_and_restores():
    model = make(use_ema=True)
    with torch.no_grad():
        model.model_ema.diffusion_modelout2bias.fill_(3.0)
    bias = model.model.diffusion_model.out[2].bias
    before = bias.clone()
    with pytest.raises(KeyError), model.ema_scope():
        assert (bias == 3).all()
        raise KeyError
    assert torch.equal(bias, before)


@pytest.mark.parametrize(("key", "channels"), [("concat", 4), ("hybrid", 4), ("adm", 0)])
@torch.no_grad()
def test_every_conditioning_key_reaches_the_network(key, channels):
    unet = {**UNET["params"], "in_channels": 4 + channels}
    if key != "hybrid":
        unet.update(use_spatial_transformer=False, context_dim=None)
    if key == "adm":
        unet["num_classes"] = 5
    model = make(conditioning_key=key, unet_config={**UNET, "params": unet}).eval()
    for parameter in model.model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x, t = torch.randn(2, 4, 8, 8), torch.tensor([5, 5])
    conds = {
        "concat": [torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)],
        "hybrid": [
            {"c_concat": [torch.randn(2, 4, 8, 8)], "c_crossattn": [torch.randn(2, 7, 32)]}
            for _ in range(2)
        ],
        "adm": [torch.tensor([0, 1]), torch.tensor([2, 3])],
    }[key]
    first, second = (model.apply_model(x, t, c) for c in conds)
    assert first.shape == x.shape and not torch.allclose(first, second)


def test_unconditional_models_take_no_conditioning():
    unet = {**UNET["params"], "use_spatial_transformer": False, "context_dim": None}
    model = make(cond_stage_config="__is_unconditional__", unet_config={**UNET, "params": unet})
    assert model.cond_stage_model is None and model.model.conditioning_key is None
    assert model.training_step(batch(), 0).isfinite()
    assert model.get_input(batch(), "jpg")[1] is None


def test_pixels_can_be_diffused_directly():
    unet = {**UNET["params"], "in_channels": 3, "out_channels": 3}
    unet.update(use_spatial_transformer=False, context_dim=None)
    model = DDPM(unet_config={**UNET, "params": unet}, first_stage_key="jpg", channels=3)
    assert model.training_step(batch(), 0).isfinite()
    logs = model.eval().validation_figures(batch())
    assert {"val/loss_simple", "val/loss_simple_ema"} <= logs.keys()


def test_validation_shows_the_averaged_weights_the_same_noise():
    model = make(use_ema=True).eval()
    logs = model.validation_figures(batch())
    # Before any training the averages are the weights.
    assert torch.equal(logs["val/loss_simple"], logs["val/loss_simple_ema"])
    with torch.no_grad():
        model.model_ema.diffusion_modelout2bias.add_(1.0)
    logs = model.validation_figures(batch())
    assert not torch.equal(logs["val/loss_simple"], logs["val/loss_simple_ema"])


def test_previews_show_inputs_reconstructions_captions_and_samples():
    model = make().eval()
    light = {**light_settings(model, {}), "unconditional_guidance_scale": 1.0, "ddim_steps": 2}
    pictures = model.log_images(batch(), N=2, **light)
    assert set(pictures) == {"inputs", "reconstruction", "conditioning", "samples"}
    assert all(p.shape == (2, 3, 16, 16) for p in pictures.values())


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"parameterization": "w"}, "eps, x0 or v"),
        ({"conditioning_key": "cross"}, "crossattn"),
        ({"loss_type": "l3"}, "l1 or l2"),
        ({"num_timesteps_cond": 1001}, "at most timesteps, 1000"),
        ({"beta_schedule": "x"}, "cosine"),
    ],
)
def test_wrong_settings_say_what_is_expected(changes, part):
    with pytest.raises(UserError, match=part):
        make(**changes)


def test_a_model_built_on_meta_still_has_its_schedule():
    with torch.device("meta"):
        model = LatentDiffusion(**PARAMS)
    assert model.alphas_cumprod.device.type == "cpu"
    assert model.model.diffusion_model.out[2].weight.is_meta


@pytest.mark.parametrize("sampler", SAMPLERS)
@torch.no_grad()
def test_half_weights_encode_sample_and_decode_float_inputs(sampler):
    model = make().eval()
    torch.nn.init.normal_(model.model.diffusion_model.out[2].weight, std=0.1)
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        for organ in (model.model, model.first_stage_model, model.cond_stage_model):
            organ.to(dtype)  # the schedule stays float32, as load_model leaves it
        torch.manual_seed(3)
        x = torch.rand(2, 3, 16, 16) * 2 - 1
        posterior = model.encode_first_stage(x)
        samples, _ = make_sampler(sampler, model).sample(
            4, 2, (4, 8, 8), model.get_learned_conditioning(["a", "b"]), verbose=False
        )
        results.append((posterior.mean.float(), samples, model.decode_first_stage(samples).float()))
        assert posterior.mean.dtype == dtype and samples.dtype == torch.float32
    for full, half in zip(*results, strict=True):
        assert (full - half).norm() < 0.05 * full.norm()


# What CompVis's file defines and what of the family it imports.
NAMES = (
    "AutoencoderKL DDIMSampler DDPM DiagonalGaussianDistribution DiffusionWrapper "
    "IdentityFirstStage LatentDiffusion LitEma VQModelInterface count_params default exists "
    "extract_into_tensor instantiate_from_config isimage ismap log_txt_as_img make_beta_schedule "
    "mean_flat nn noise_like normal_kl partial torch Layout2ImgDiffusion contextmanager "
    "disabled_train make_grid rank_zero_only rearrange repeat tqdm uniform_on_device LambdaLR"
)


@pytest.mark.parametrize("name", NAMES.split())
def test_forks_find_what_they_import_from_the_hubs_file(name):
    assert hasattr(importlib.import_module("ldm.models.diffusion.ddpm"), name)
