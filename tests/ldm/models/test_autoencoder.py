"""The first stage."""

from __future__ import annotations

import pytest
import torch

from ldm.errors import UserError
from ldm.models.autoencoder import AutoencoderKL, IdentityFirstStage
from ldm.modules.diffusionmodules.model import Downsample
from ldm.modules.distributions.distributions import DiagonalGaussianDistribution
from ldm.rng import PerImageNoise

DDCONFIG = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 16,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 32,
    "ch_mult": [1, 2],
    "num_res_blocks": 1,
    "attn_resolutions": [8],
    "dropout": 0.0,
}
IDENTITY = {"target": "torch.nn.Identity"}


def make(**changes) -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL({**DDCONFIG, **changes}, IDENTITY, embed_dim=3).eval()


@pytest.mark.parametrize("attn_type", ["vanilla", "linear", "none"])
@torch.no_grad()
def test_pictures_become_latents_and_pictures_again(attn_type):
    model = make(attn_type=attn_type)
    x = torch.randn(2, 3, 16, 24)
    posterior = model.encode(x)
    assert posterior.mean.shape == (2, 3, 8, 12) and model.downsampling_factor == 2
    assert model.decode(posterior.mode()).shape == x.shape


def test_tanh_out_and_give_pre_end_belong_to_the_decoder():
    assert make(tanh_out=True).decode(torch.randn(1, 3, 2, 2) * 50).abs().max() <= 1
    assert make(give_pre_end=True).decode(torch.randn(1, 3, 2, 2)).shape == (1, 32, 4, 4)


@pytest.mark.parametrize("row", [0, 1, 2])
@pytest.mark.parametrize("column", [0, 1, 2])
@torch.no_grad()
def test_pictures_are_halved_from_the_first_pixel_on_with_zeros_right_and_below(row, column):
    layer, x = Downsample(1), torch.rand(1, 1, 6, 8) + 1
    layer.conv.bias.zero_()
    layer.conv.weight.zero_()[0, 0, row, column] = 1  # picks one pixel of each window
    beyond = torch.nn.functional.pad(x, (0, 1, 0, 1))
    assert torch.equal(layer(x), beyond[:, :, row::2, column::2][:, :, :3, :4])


def test_faint_maps_are_normalised_with_the_references_eps():
    faint = 1e-3 * torch.randn(1, 64, 16, 16, generator=torch.Generator().manual_seed(0))
    # Of variance 1e-6, the reference's eps, half is left; at 1e-5 it would be a tenth.
    spread = make().encoder.norm_out(faint).var().item()
    assert spread == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"ch_mul": [1]}, "ch_mult"),
        ({"double_z": False}, "double_z"),
        ({"attn_type": "x"}, "linear"),
    ],
)
def test_a_wrong_ddconfig_says_what_is_wrong(changes, part):
    with pytest.raises(UserError, match=part):
        make(**changes)


@torch.no_grad()
def test_the_posterior_is_drawn_on_the_cpu_s_stream():
    posterior = DiagonalGaussianDistribution(torch.randn(2, 6, 4, 4))
    torch.manual_seed(4)
    noise = torch.randn(2, 3, 4, 4)
    torch.manual_seed(4)
    assert torch.equal(posterior.sample(), posterior.mean + posterior.std * noise)


def test_per_image_draws_do_not_depend_on_the_batch():
    parameters = torch.randn(2, 6, 4, 4)
    both = DiagonalGaussianDistribution(parameters).sample(PerImageNoise([1, 2]))
    second = DiagonalGaussianDistribution(parameters[1:]).sample(PerImageNoise([2]))
    assert torch.equal(both[1:], second)


def test_the_log_variance_is_clamped_and_determinism_means_the_mean():
    extreme = DiagonalGaussianDistribution(torch.full((1, 2, 1, 1), 100.0))
    assert extreme.logvar.item() == 20
    certain = DiagonalGaussianDistribution(torch.randn(1, 2, 3, 3), deterministic=True)
    assert torch.equal(certain.sample(), certain.mode()) and certain.kl().item() == 0


def test_kl_agrees_with_torch():
    parameters = torch.randn(2, 6, 4, 4)
    posterior = DiagonalGaussianDistribution(parameters)
    normal = torch.distributions.Normal(posterior.mean, posterior.std)
    standard = torch.distributions.Normal(0.0, 1.0)
    expected = torch.distributions.kl_divergence(normal, standard).sum((1, 2, 3))
    assert torch.allclose(posterior.kl(), expected, rtol=1e-4)
    other = DiagonalGaussianDistribution(torch.zeros(2, 6, 4, 4))
    assert torch.allclose(posterior.kl(other), expected, rtol=1e-4)


def test_kl_of_a_half_precision_posterior_stays_finite():
    parameters = torch.cat([torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 15.0)], 1)
    kl = DiagonalGaussianDistribution(parameters.half()).kl()
    assert torch.allclose(kl, DiagonalGaussianDistribution(parameters).kl())


@pytest.mark.parametrize(
    ("decoder_only", "parts"),
    [
        (True, {"decoder", "post_quant_conv"}),
        (False, {"encoder", "quant_conv", "decoder", "post_quant_conv"}),
    ],
)
def test_tuning_the_decoder_alone_leaves_the_latents_as_they_were(decoder_only, parts):
    loss = {"target": "ldm.modules.losses.ReconstructionLoss", "params": {"kind": "l2"}}
    model = AutoencoderKL(DDCONFIG, loss, embed_dim=3, decoder_only=decoder_only)
    batch = {"image": torch.rand(2, 16, 16, 3) * 2 - 1}
    before = {name: p.clone() for name, p in model.named_parameters()}
    optimizer = model.configure_optimizers()
    model.training_step(batch, 0).backward()
    optimizer.step()
    changed = {
        name.split(".")[0] for name, p in model.named_parameters() if (p != before[name]).any()
    }
    assert changed == parts


def test_the_identity_stage_changes_nothing():
    x = torch.randn(1, 3, 2, 2)
    stage = IdentityFirstStage(vq_interface=True)
    assert stage.decode(stage.encode(x)) is x and stage.quantize(x)[0] is x
