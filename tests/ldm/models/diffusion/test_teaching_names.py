"""The names that the course teaches with: steps of the process, pictures, prompts and guesses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_model import write_tiny_model

from ldm.checkpoint.load import load_model
from ldm.errors import UserError
from ldm.images.io import to_tensor, to_uint8
from ldm.models.diffusion.forward_process import ForwardProcess
from ldm.process import prediction


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    file = write_tiny_model(tmp_path_factory.mktemp("tiny"))
    return load_model(file.with_name("config.yaml"), file)[0]


@pytest.fixture(scope="module")
def process():
    made = ForwardProcess()
    made.register_schedule()
    return made


def picture(side=32, seed=0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8))


def test_forward_diffusion_returns_what_q_sample_makes_of_the_noise_it_returns(process):
    x0 = torch.randn(3, 2)
    x, eps = process.forward_diffusion(x0, 400)
    assert torch.equal(x, process.q_sample(x0, torch.full((3,), 400), eps))
    given, same = process.forward_diffusion(x0, torch.tensor([0, 400, 999]), eps)
    assert same is eps and torch.equal(given[1], x[1])
    assert (given[0] - x0[0]).abs().max() < 0.1 and (given[2] - eps[2]).abs().max() < 0.1


@pytest.mark.parametrize("t", [-1, 1000, torch.tensor([3, 1000, 5])])
def test_a_step_that_the_schedule_has_not_is_told(process, t):
    with pytest.raises(UserError, match=r"expected 0 \(clean\) to 999 \(noise\)"):
        process.forward_diffusion(torch.randn(3, 2), t)


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
def test_a_network_that_knows_the_noise_guesses_the_clean_sample(model, monkeypatch, kind):
    x0 = torch.randn(2, 4, 8, 8)
    x, eps = model.forward_diffusion(x0, 700)
    a, s = model.mix(torch.tensor([700, 700]), x0.shape)
    exact = prediction.target(x0, eps, a, s, kind)
    monkeypatch.setattr(model, "parameterization", kind)
    monkeypatch.setattr(model, "apply_model", lambda x, t, cond: exact)
    torch.testing.assert_close(model.predict_x0(x, 700), x0, atol=1e-4, rtol=1e-4)


def test_guided_guesses_go_beyond_the_prompts_own(model):
    x, cond, uncond = torch.randn(1, 4, 8, 8), *model.encode_prompt(["a cat", ""]).split(1)
    plain, empty, twice = (
        model.predict_x0(x, 500, cond, uncond, scale) for scale in (1.0, 0.0, 2.0)
    )
    torch.testing.assert_close(twice - plain, plain - empty, atol=1e-4, rtol=1e-4)
    assert not plain.requires_grad and not torch.equal(plain, empty)


def test_prompts_are_encoded_alone_as_among_others(model):
    both = model.encode_prompt(["a cat", "a dog"])
    torch.testing.assert_close(model.encode_prompt("a dog"), both[1:])
    assert torch.equal(both, model.get_learned_conditioning(["a cat", "a dog"]))


def test_pictures_become_latents_and_latents_pictures(model):
    z = model.encode_picture([picture(), picture(seed=1)])
    torch.testing.assert_close(z[:1], model.encode_picture(picture()), atol=1e-5, rtol=1e-4)
    mode = model.first_stage_model.encode(to_tensor(picture())).mode()
    torch.testing.assert_close(z[:1], 0.18215 * mode, atol=1e-5, rtol=1e-4)
    drawn = model.decode_latent(z)
    assert np.array_equal(np.asarray(drawn[0]), to_uint8(model.decode_first_stage(z))[0])
    assert len(drawn) == 2 and drawn[0].size == (32, 32) and drawn[0].mode == "RGB"
    grey = Image.new("L", (32, 32), 128)  # any mode is read as RGB
    assert model.encode_picture(grey).shape == z[:1].shape


@pytest.mark.parametrize("given", [[], [(32, 32), (64, 32)], [(33, 32)]])
def test_pictures_that_do_not_fit_are_told(model, given):
    with pytest.raises(UserError, match="expected one size, with sides that are multiples of"):
        model.encode_picture([Image.new("RGB", size) for size in given])
