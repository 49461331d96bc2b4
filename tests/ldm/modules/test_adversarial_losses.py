"""The adversarial losses of first stages, by the formulas of CompVis and VQ-GAN."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ldm.errors import UserError
from ldm.modules.distributions.distributions import DiagonalGaussianDistribution
from ldm.modules.losses import LPIPSWithDiscriminator, VQLPIPSWithDiscriminator, adversarial
from ldm.modules.losses.adversarial import adopt_weight, hinge_d_loss, vanilla_d_loss
from ldm.modules.losses.discriminator import NLayerDiscriminator
from ldm.modules.losses.vqperceptual import (
    hinge_d_loss_with_exemplar_weights,
    measure_perplexity,
)

SMALL = {"disc_num_layers": 1, "disc_ndf": 8, "perceptual_weight": 0}
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


class Decoder(torch.nn.Module):
    """Latents to pictures by one layer, whose weight is the last one."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.last = torch.nn.Conv2d(4, 3, 3, padding=1)
        self.z = torch.randn(2, 4, 16, 16)
        self.inputs = torch.rand(2, 3, 16, 16) * 2 - 1
        self.posterior = DiagonalGaussianDistribution(torch.randn(2, 8, 8, 8))

    def forward(self):
        return self.last(self.z)


@pytest.fixture
def decoder():
    return Decoder()


def kl(**options) -> LPIPSWithDiscriminator:
    torch.manual_seed(1)
    return LPIPSWithDiscriminator(**{"disc_start": 0, **SMALL, **options})


def vq(**options) -> VQLPIPSWithDiscriminator:
    torch.manual_seed(1)
    return VQLPIPSWithDiscriminator(**{"disc_start": 0, **SMALL, **options})


def gradient_norm(loss: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(loss, weight, retain_graph=True)[0].pow(2).sum().sqrt()


def test_hinge_is_flat_beyond_the_margin():
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.25])
    assert float(hinge_d_loss(real, fake)) == pytest.approx(0.5 * (0.5 / 2 + 1.25 / 2))


def test_vanilla_is_half_the_cross_entropy_of_a_classifier():
    real, fake = torch.randn(2, 3, 1, 4, 4)
    entropy = F.binary_cross_entropy_with_logits
    expected = entropy(real, torch.ones_like(real)) + entropy(fake, torch.zeros_like(fake))
    torch.testing.assert_close(vanilla_d_loss(real, fake), expected / 2)


def test_the_discriminator_comes_in_at_its_step():
    assert [adopt_weight(0.7, step, threshold=5) for step in (4, 5, 6)] == [0.0, 0.7, 0.7]


@pytest.mark.parametrize("kind", ["hinge", "vanilla"])
def test_the_discriminator_s_side_is_its_loss_on_both_pictures(decoder, kind):
    made = decoder()
    function = {"hinge": hinge_d_loss, "vanilla": vanilla_d_loss}[kind]
    loss, logs = kl(disc_loss=kind, disc_factor=0.7)(decoder.inputs, made, decoder.posterior, 1, 0)
    judge = kl().discriminator
    expected = 0.7 * function(judge(decoder.inputs), judge(made))
    torch.testing.assert_close(loss, expected, **TOLERANCE)
    assert sorted(logs) == ["train/disc_loss", "train/logits_fake", "train/logits_real"]
    loss.backward()
    assert decoder.last.weight.grad is None, "the autoencoder is not trained by this side"


def test_the_kl_loss_is_what_the_reference_computes(decoder):
    """LDM, Eq. 25, with the sums of CompVis: nll / B + w KL / B + adaptive weight x GAN."""
    made, loss_of = decoder(), kl(logvar_init=0.3, kl_weight=0.01, disc_weight=0.5)
    loss, logs = loss_of(
        decoder.inputs, made, decoder.posterior, 0, 0, last_layer=decoder.last.weight
    )
    rec = (decoder.inputs - made).abs()
    nll = (rec / torch.tensor(0.3).exp() + 0.3).sum() / 2
    mean, logvar = decoder.posterior.mean, decoder.posterior.logvar
    divergence = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum() / 2
    gan = -loss_of.discriminator(made).mean()
    ratio = gradient_norm(nll, decoder.last.weight) / (
        gradient_norm(gan, decoder.last.weight) + 1e-4
    )
    weight = ratio.clamp(0, 1e4) * 0.5
    torch.testing.assert_close(logs["train/d_weight"], weight, **TOLERANCE)
    torch.testing.assert_close(logs["train/nll_loss"], nll, **TOLERANCE)
    torch.testing.assert_close(logs["train/kl_loss"], divergence, **TOLERANCE)
    torch.testing.assert_close(logs["train/rec_loss"], rec.mean(), **TOLERANCE)
    torch.testing.assert_close(loss, nll + 0.01 * divergence + weight * gan, **TOLERANCE)


def test_weights_count_in_the_loss_and_not_in_the_balance(decoder):
    arguments = (decoder.inputs, decoder(), decoder.posterior, 0, 0, decoder.last.weight)
    plain, logs = kl(kl_weight=0)(*arguments)
    half, half_logs = kl(kl_weight=0)(*arguments, weights=0.5)
    torch.testing.assert_close(plain - half, 0.5 * logs["train/nll_loss"], **TOLERANCE)
    assert logs["train/d_weight"] == half_logs["train/d_weight"]


@pytest.mark.parametrize("kind", ["l1", "l2"])
def test_the_vq_loss_is_what_the_reference_computes(decoder, kind):
    made, codebook = decoder(), torch.tensor(0.4)
    loss_of = vq(pixel_loss=kind, codebook_weight=0.8, disc_weight=0.75, disc_factor=0.6)
    loss, logs = loss_of(codebook, decoder.inputs, made, 0, 0, last_layer=decoder.last.weight)
    nll = F.l1_loss(made, decoder.inputs) if kind == "l1" else F.mse_loss(made, decoder.inputs)
    gan = -loss_of.discriminator(made).mean()
    ratio = gradient_norm(nll, decoder.last.weight) / (
        gradient_norm(gan, decoder.last.weight) + 1e-4
    )
    weight = ratio.clamp(0, 1e4) * 0.75
    torch.testing.assert_close(logs["train/d_weight"], weight, **TOLERANCE)
    torch.testing.assert_close(loss, nll + weight * 0.6 * gan + 0.8 * codebook, **TOLERANCE)


def test_the_adversarial_gradient_at_the_last_layer_is_as_large_as_the_reconstruction_s(decoder):
    loss_of, made = vq(disc_weight=1.0), decoder()
    last = decoder.last.weight
    nll = (decoder.inputs - made).abs().mean()
    gan = -1000 * loss_of.discriminator(made).mean()  # far above the denominator's 1e-4
    weight = loss_of.calculate_adaptive_weight(nll, gan, last)
    torch.testing.assert_close(
        gradient_norm(weight * gan, last), gradient_norm(nll, last), rtol=1e-2, atol=0
    )


def test_before_its_step_the_discriminator_has_no_say(decoder):
    made = decoder()
    arguments = (torch.tensor(0.0), decoder.inputs, made, 0)
    loss, logs = vq(disc_start=10)(*arguments, 9, last_layer=decoder.last.weight)
    torch.testing.assert_close(loss, (decoder.inputs - made).abs().mean())
    assert logs["train/disc_factor"] == 0 and logs["train/d_weight"] == 0
    later = vq(disc_start=10)(*arguments, 10, last_layer=decoder.last.weight)[1]
    assert later["train/disc_factor"] == 1 and later["train/d_weight"] > 0
    side = vq(disc_start=10)(torch.tensor(0.0), decoder.inputs, made, 1, 9)[0]
    assert side.item() == 0


@torch.no_grad()
def test_validation_has_no_adaptive_weight(decoder):
    logs = vq()(torch.tensor(0.0), decoder.inputs, decoder(), 0, 0, split="val")[1]
    assert logs["val/d_weight"] == 0 and logs["val/g_loss"] != 0


def test_the_losses_are_float32_where_the_model_computes_in_half(decoder):
    made = decoder().half()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = kl(disc_factor=0)(decoder.inputs, made, decoder.posterior, 0, 0)[0]
    assert loss.dtype == torch.float32


def test_a_conditional_discriminator_sees_the_condition(decoder):
    loss_of = kl(disc_conditional=True, disc_in_channels=5)
    cond = torch.randn(2, 2, 16, 16)
    arguments = (decoder.inputs, decoder(), decoder.posterior, 1, 0)
    assert loss_of(*arguments, cond=cond)[0] != loss_of(*arguments, cond=-cond)[0]
    with pytest.raises(ValueError, match="disc_conditional is True"):
        loss_of(*arguments)
    with pytest.raises(ValueError, match="disc_conditional is False"):
        kl()(*arguments, cond=cond)


def test_the_codebook_s_use_is_told_where_its_size_is_known(decoder):
    indices = torch.tensor([[0, 0], [3, 3]])
    perplexity, used = measure_perplexity(indices, 8)
    assert float(perplexity) == pytest.approx(2.0) and used == 2
    call = (torch.tensor(0.0), decoder.inputs, decoder(), 0, 0, decoder.last.weight)
    logs = vq(n_classes=8)(*call, predicted_indices=indices)[1]
    assert logs["train/cluster_usage"] == 2
    assert "train/cluster_usage" not in vq()(*call, predicted_indices=indices)[1]


def test_without_weight_lpips_is_never_built(decoder, monkeypatch):
    monkeypatch.setattr(adversarial, "LPIPS", None)
    loss_of = vq()
    loss_of.prepare()
    logs = loss_of(torch.tensor(0.0), decoder.inputs, decoder(), 0, 0, decoder.last.weight)[1]
    assert logs["train/p_loss"] == 0


def test_lpips_is_built_once_at_its_first_use_and_is_no_part_of_a_checkpoint(decoder, monkeypatch):
    made = []

    class Distance(torch.nn.Module):
        def __init__(self, path):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(()))
            made.append(path)

        def forward(self, x, y):
            return torch.full((2, 1, 1, 1), 3.0)

    monkeypatch.setattr(adversarial, "LPIPS", Distance)
    loss_of = kl(perceptual_weight=0.5, perceptual_weights="vgg.pth", disc_factor=0, kl_weight=0)
    assert not made
    plain = kl(disc_factor=0, kl_weight=0)
    arguments = (decoder.inputs, decoder(), decoder.posterior, 0, 0)
    for _ in range(2):
        difference = loss_of(*arguments)[0] - plain(*arguments)[0]
        torch.testing.assert_close(difference, torch.tensor(0.5 * 3 * 3 * 16 * 16), **TOLERANCE)
    assert made == ["vgg.pth"]
    names = {name.split(".")[0] for name in loss_of.state_dict()}
    assert names == {"discriminator", "logvar"}
    assert {p.split(".")[0] for p, _ in loss_of.named_parameters()} == {"discriminator", "logvar"}


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"disc_loss": "wgan"}, "disc_loss 'wgan' given; expected one of"),
        ({"disc_num_layers": 0}, "disc_num_layers is 0; expected 1 or more"),
        ({"pixel_loss": "l3"}, "pixel_loss 'l3'"),
        ({"perceptual_loss": "dists"}, "perceptual_loss 'dists' given; expected 'lpips'"),
    ],
)
def test_a_wrong_option_is_one_line(options, part):
    with pytest.raises(UserError, match=part) as raised:
        vq(**options)
    assert "\n" not in str(raised.value)


def test_an_unknown_option_is_refused():
    with pytest.raises(TypeError, match="disc_strat"):
        kl(disc_strat=1)


def test_pictures_smaller_than_a_patch_are_one_line():
    judge = NLayerDiscriminator(ndf=4)
    assert judge(torch.zeros(1, 3, 24, 30)).shape == (1, 1, 1, 1)
    with pytest.raises(UserError, match="23x30 pixels .* expected 24 or more; lower"):
        judge(torch.zeros(1, 3, 23, 30))


def test_an_unused_weight_is_warned_about(caplog):
    vq(pixelloss_weight=2.0)
    assert "pixelloss_weight 2.0 has no effect" in caplog.text


def test_actnorm_normalises_by_its_first_batch_alone():
    judge = NLayerDiscriminator(ndf=4, n_layers=1, use_actnorm=True)
    x = torch.randn(4, 3, 16, 16)
    judge.main[:4](x)
    normed = judge.main[3](judge.main[:3](x))
    assert normed.mean((0, 2, 3)).abs().max() < 1e-5
    assert (normed.std((0, 2, 3)) - 1).abs().max() < 1e-3
    kept = judge.main[3].loc.clone()
    judge(5 + x)
    assert torch.equal(judge.main[3].loc, kept)
    assert judge.main[3].initialized == 1


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("kind", ["hinge", "vanilla"])
def test_the_vq_loss_is_taming_s_figure_for_figure(decoder, monkeypatch, kind, side):
    taming = pytest.importorskip("taming.modules.losses.vqperceptual")
    monkeypatch.setattr(taming, "LPIPS", torch.nn.Identity)  # its own would be downloaded
    options = {"disc_loss": kind, "disc_factor": 0.7, "disc_weight": 0.75, "codebook_weight": 0.9}
    ours, theirs = (
        make(disc_start=0, **{**SMALL, **options})
        for make in (VQLPIPSWithDiscriminator, taming.VQLPIPSWithDiscriminator)
    )
    theirs.load_state_dict(ours.state_dict())
    arguments = (torch.tensor(0.4), decoder.inputs, decoder(), side, 3, decoder.last.weight)
    (loss, logs), (expected, their_logs) = (made(*arguments) for made in (ours, theirs))
    torch.testing.assert_close(loss, expected, **TOLERANCE)
    assert logs.keys() == their_logs.keys()
    for name, value in their_logs.items():
        torch.testing.assert_close(logs[name], value.reshape(()), **TOLERANCE)


@pytest.mark.parametrize("use_actnorm", [False, True])
@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_the_discriminator_is_taming_s_key_for_key(layers, use_actnorm):
    taming = pytest.importorskip("taming.modules.discriminator.model")
    ours = NLayerDiscriminator(4, 2, layers, use_actnorm)
    theirs = taming.NLayerDiscriminator(4, 2, layers, use_actnorm)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 4, 64, 48)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-6)
    assert [name for name, _ in ours.named_parameters()] == [
        name for name, _ in theirs.named_parameters()
    ]


def test_the_discriminator_starts_as_taming_s_does():
    judge = NLayerDiscriminator(ndf=64)
    assert judge.main[2].weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert judge.main[3].weight.mean().item() == pytest.approx(1.0, abs=0.01)
    assert not judge.main[3].bias.any()


@pytest.mark.parametrize("shape", [(3, 1, 4, 4), (3, 1), (3,)])
def test_pictures_count_by_their_weights_in_the_hinge_loss(shape):
    real, fake = torch.randn(2, *shape)
    each = torch.stack([hinge_d_loss(r, f) for r, f in zip(real, fake, strict=True)])
    found = hinge_d_loss_with_exemplar_weights(real, fake, torch.tensor([1.0, 0.0, 3.0]))
    assert torch.allclose(found, (each[0] + 3 * each[2]) / 4)
    alike = hinge_d_loss_with_exemplar_weights(real, fake, torch.full((3,), 0.2))
    assert torch.allclose(alike, hinge_d_loss(real, fake))
    with pytest.raises(ValueError, match="2 weights given for 3 real and 3 generated"):
        hinge_d_loss_with_exemplar_weights(real, fake, torch.ones(2))


def test_without_a_last_layer_the_first_of_the_attribute_is_compared(decoder):
    loss = kl()
    loss.last_layer = [decoder.last.weight]
    nll, g = decoder().square().sum(), decoder().mean()
    expected = loss.calculate_adaptive_weight(nll, g, decoder.last.weight)
    assert torch.equal(loss.calculate_adaptive_weight(nll, g), expected)
