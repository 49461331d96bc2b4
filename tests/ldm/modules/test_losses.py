"""The autoencoder's plain loss: its arithmetic, and that it teaches."""

from __future__ import annotations

import pytest
import torch

from ldm.errors import UserError
from ldm.models.autoencoder import AutoencoderKL
from ldm.modules.distributions.distributions import DiagonalGaussianDistribution
from ldm.modules.losses import ReconstructionLoss
from ldm.modules.losses.reconstruction import psnr


@pytest.fixture
def posterior():
    return DiagonalGaussianDistribution(torch.randn(2, 4, 3, 3))


@pytest.mark.parametrize(("kind", "expected"), [("l1", 0.5), ("l2", 0.25), ("l1+l2", 0.75)])
def test_the_pixel_error_is_a_mean_over_all_values(kind, expected, posterior):
    x = torch.zeros(2, 3, 6, 6)
    loss, logs = ReconstructionLoss(kind, kl_weight=0.0)(x, x + 0.5, posterior)
    assert float(loss) == pytest.approx(expected)
    assert float(logs["train/rec_loss"]) == pytest.approx(expected)


def test_the_kl_weight_means_what_it_means_to_a_loss_summed_over_the_picture(posterior):
    """The reference: (sum of |error| + weight x sum of KL) / B; ours is that over C·H·W."""
    x, y = torch.randn(2, 2, 3, 6, 6)
    loss, _ = ReconstructionLoss("l1", kl_weight=0.3)(x, y, posterior)
    summed = ((x - y).abs().sum() + 0.3 * posterior.kl().sum()) / 2
    torch.testing.assert_close(loss, summed / (3 * 6 * 6))


def test_names_carry_the_split_and_figures_no_gradient(posterior):
    x = torch.zeros(2, 3, 6, 6)
    y = torch.ones(2, 3, 6, 6, requires_grad=True)
    loss, logs = ReconstructionLoss()(x, y, posterior, split="val")
    assert sorted(logs) == ["val/kl_loss", "val/psnr", "val/rec_loss", "val/total_loss"]
    assert loss.requires_grad
    assert not any(value.requires_grad for value in logs.values())


def test_the_loss_is_float32_where_the_model_computes_in_bfloat16(posterior):
    x = torch.zeros(2, 3, 6, 6)
    loss, _ = ReconstructionLoss()(x, x.bfloat16() + 0.1, posterior)
    assert loss.dtype == torch.float32


def test_psnr_takes_the_width_of_the_range_as_its_peak():
    x = torch.zeros(2, 3, 4, 4)
    assert float(psnr(x, x + 0.2)) == pytest.approx(20.0, abs=1e-3)
    assert float(psnr(x, x)) == pytest.approx(100.0, abs=1e-3)
    assert float(psnr(x + 1, x + 5)) == pytest.approx(100.0, abs=1e-3)


def test_an_unknown_kind_is_refused():
    with pytest.raises(UserError, match="'l3'"):
        ReconstructionLoss("l3")


def test_it_adds_no_keys_to_a_checkpoint():
    assert not ReconstructionLoss().state_dict()


def test_twenty_steps_on_one_batch_halve_the_reconstruction_error():
    torch.manual_seed(0)
    ddconfig = {
        "double_z": True,
        "z_channels": 4,
        "resolution": 16,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 32,
        "ch_mult": [1, 2],
        "num_res_blocks": 1,
        "attn_resolutions": [],
    }
    lossconfig = {"target": "ldm.modules.losses.ReconstructionLoss"}
    model = AutoencoderKL(ddconfig, lossconfig, embed_dim=4, image_key="jpg")
    model.learning_rate = 1e-3
    ramp = torch.linspace(-1, 1, 16)
    batch = {"jpg": torch.stack([ramp.expand(16, 16), ramp[:, None].expand(16, 16)])[..., None]}
    batch["jpg"] = batch["jpg"].expand(2, 16, 16, 3)
    optimizer = model.configure_optimizers()
    losses = []
    for _ in range(20):
        loss, logs = model.autoencoder_loss(batch, 0, "train")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(logs["train/rec_loss"]))
    assert losses[-1] < 0.5 * losses[0]
