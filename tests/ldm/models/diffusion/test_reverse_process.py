"""The reverse process on the hubs: one step, and the reference's arguments."""

from __future__ import annotations

import inspect

import pytest
import torch
from exact_hub import KINDS, MEAN, SHAPE, Latents, Pixels, conditions, drawn, equal, seeded

from ldm.models.diffusion.ddpm import DDPM, LatentDiffusion
from ldm.models.diffusion.latent_reverse_process import LatentReverseProcess
from ldm.models.diffusion.reverse_process import PixelReverseProcess


def test_the_public_hubs_have_the_reverse_process():
    for name in ("p_mean_variance", "p_sample", "p_sample_loop", "sample"):
        assert getattr(DDPM, name) is getattr(PixelReverseProcess, name)
        assert getattr(LatentDiffusion, name) is getattr(LatentReverseProcess, name)
    for name in ("progressive_denoising", "sample_log"):
        assert getattr(LatentDiffusion, name) is getattr(LatentReverseProcess, name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_that_of_algorithm_2(kind):
    hub, (x, t) = Pixels(kind), drawn()
    alphas = 1 - hub.betas.double()
    cumprod = alphas.cumprod(0)
    before = torch.cat([torch.ones(1).double(), cumprod[:-1]])
    a, c, b = (v[t].reshape(3, 1, 1, 1) for v in (alphas, cumprod, before))
    eps = Pixels("eps").apply_model(x, t).double()
    mean = (x - (1 - a) / (1 - c).sqrt() * eps) / a.sqrt()
    variance = (1 - b) / (1 - c) * (1 - a)
    found = hub.p_mean_variance(x=x, t=t, clip_denoised=False)
    torch.testing.assert_close(found[0], mean.float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[1], variance.float(), rtol=1e-4, atol=1e-7)
    noise = seeded(torch.randn, SHAPE)
    torch.testing.assert_close(
        seeded(hub.p_sample, x, t, clip_denoised=False),
        (mean + variance.sqrt() * noise).float(),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_hub_with_conditioning_takes_the_same_step(kind):
    pixels, latents, (x, t) = Pixels(kind), Latents(kind), drawn()
    for clip in (False, True):
        plain = pixels.p_mean_variance(x * 3, t, clip)
        assert equal(plain, latents.p_mean_variance(x * 3, None, t, clip))
    assert equal(seeded(pixels.p_sample, x, t, False), seeded(latents.p_sample, x, None, t))
    moved = latents.p_mean_variance(x, conditions(), t, False)[0]
    assert torch.equal(moved[0], pixels.p_mean_variance(x, t, False)[0][0])
    assert (moved[1] > pixels.p_mean_variance(x, t, False)[0][1]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_estimates_are_cut_only_when_asked_and_the_network_s_answer_is_left_alone(kind):
    hub, (x, t) = Latents(kind), drawn()
    answer = hub.apply_model(x * 4, t)
    kept = answer.clone()
    hub.apply_model = lambda *_: answer
    free = hub.p_mean_variance(x * 4, None, t, False, return_x0=True)[-1]
    cut = hub.p_mean_variance(x * 4, None, t, True, return_x0=True)[-1]
    assert free.abs().max() > 1 and torch.equal(cut, free.clamp(-1, 1))
    assert torch.equal(answer, kept)


def test_noise_is_repeated_tempered_or_dropped():
    hub, (x, _) = Latents(), drawn()
    x, t = x[:1].expand(SHAPE), torch.full((3,), 9)
    mean = hub.p_mean_variance(x, None, t, False)[0]
    same = hub.p_sample(x, None, t, repeat_noise=True)
    assert torch.equal(same[0], same[1]) and not torch.equal(same, mean)
    assert torch.equal(hub.p_sample(x, None, t, temperature=0.0), mean)
    half = seeded(hub.p_sample, x, None, t, temperature=0.5) - mean
    torch.testing.assert_close(half * 2, seeded(hub.p_sample, x, None, t) - mean)
    dropped = hub.p_sample(x, None, t, noise_dropout=0.5)
    assert 0.2 < (dropped == mean).float().mean() < 0.8


@pytest.mark.parametrize("kind", KINDS)
def test_a_score_corrector_is_given_noise_whatever_is_predicted(kind):
    class Corrector:
        def modify_score(self, model, eps, x, t, c, *, share):
            self.seen = model, eps, c
            return eps * share

    hub, (x, t), corrector = Latents(kind), drawn(), Corrector()
    options = {"score_corrector": corrector, "corrector_kwargs": {"share": 0.5}}
    x0 = hub.p_mean_variance(x, conditions(), t, False, return_x0=True, **options)[-1]
    model, eps, c = corrector.seen
    assert model is hub and torch.equal(c, conditions())
    torch.testing.assert_close(eps, Latents("eps").apply_model(x, t, c), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(x0, hub.predict_start_from_noise(x, t, 0.5 * eps))


@pytest.mark.parametrize("cls", [Pixels, Latents])
def test_the_last_step_adds_nothing_even_if_its_variance_is_not_zero(cls):
    hub, (x, t) = cls(), drawn()
    hub.v_posterior = 0.5
    hub.register_schedule(timesteps=20)
    assert hub.q_posterior(x, x, t)[1].min() > 1e-6
    cond = () if cls is Pixels else (None,)
    step = hub.p_sample(x, *cond, t, clip_denoised=False)
    same = step == hub.p_mean_variance(x, *cond, t, False)[0]
    assert same[0].all() and not same[1].any()


def test_what_is_returned_beside_the_sample():
    hub, (x, t) = Latents(), drawn()
    step, x0 = seeded(hub.p_sample, x, None, t, return_x0=True)
    assert torch.equal(step, seeded(hub.p_sample, x, None, t))
    assert torch.equal(x0, hub.predict_start_from_noise(x, t, hub.apply_model(x, t)))
    *_, scores = hub.p_mean_variance(x, None, t, False, return_codebook_ids=True)
    assert scores.shape == (3, 3, 4, 4)
    same, ids = seeded(hub.p_sample, x, None, t, return_codebook_ids=True)
    assert torch.equal(same, step) and (ids == 2).all() and ids.shape == (3, 4, 4)


def test_estimates_are_snapped_to_the_codebook_of_the_first_stage():
    hub, (x, t) = Latents(), drawn()
    hub.first_stage_model = torch.nn.Module()
    hub.first_stage_model.quantize = lambda z: (z.round(), None, (None, None, None))
    x0 = hub.p_sample(x, None, t, quantize_denoised=True, return_x0=True)[1]
    assert torch.equal(x0, x0.round())
    whole = seeded(hub.p_sample_loop, None, SHAPE, quantize_denoised=True, verbose=False)
    assert not torch.equal(whole, seeded(hub.p_sample_loop, None, SHAPE, verbose=False))


@pytest.mark.parametrize("kind", KINDS)
def test_samples_have_the_data_s_mean_and_spread(kind):
    pixels = seeded(Pixels(kind, 500).p_sample_loop, (1000, 1, 2, 2))
    latents = seeded(Latents(kind, 500).p_sample_loop, 1.0, (1000, 1, 2, 2), verbose=False)
    for samples, mean in ((pixels, MEAN), (latents, MEAN + 1)):
        assert abs(samples.mean() - mean) < 0.03 and abs(samples.std() - 0.5) < 0.03


PARAMETERS = {
    PixelReverseProcess: {
        "p_mean_variance": "x t clip_denoised",
        "p_sample": "x t clip_denoised repeat_noise",
        "p_sample_loop": "shape return_intermediates",
        "sample": "batch_size return_intermediates",
    },
    LatentReverseProcess: {
        "p_mean_variance": """x c t clip_denoised return_codebook_ids quantize_denoised return_x0
            score_corrector corrector_kwargs""",
        "p_sample": """x c t clip_denoised repeat_noise return_codebook_ids quantize_denoised
            return_x0 temperature noise_dropout score_corrector corrector_kwargs""",
        "progressive_denoising": """cond shape verbose callback quantize_denoised img_callback mask
            x0 temperature noise_dropout score_corrector corrector_kwargs batch_size x_T start_T
            log_every_t""",
        "p_sample_loop": """cond shape return_intermediates x_T verbose callback timesteps
            quantize_denoised mask x0 img_callback start_T log_every_t""",
        "sample": """cond batch_size return_intermediates x_T verbose timesteps quantize_denoised
            mask x0 shape kwargs""",
        "sample_log": "cond batch_size ddim ddim_steps kwargs",
    },
}


@pytest.mark.parametrize("cls", PARAMETERS)
def test_arguments_are_the_reference_s_in_its_order(cls):
    for name, wanted in PARAMETERS[cls].items():
        assert list(inspect.signature(getattr(cls, name)).parameters)[1:] == wanted.split()
