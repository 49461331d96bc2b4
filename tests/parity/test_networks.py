"""Our UNet and autoencoder compute what diffusers' compute from the same weights."""

from __future__ import annotations

import pytest
import torch
from parity.peers import relative_error, unet_twins, vae_twins


@pytest.fixture(scope="module")
def unets():
    return unet_twins()


@pytest.fixture(scope="module")
def vaes():
    return vae_twins()


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("h", "w"), [(8, 8), (16, 24)])
@pytest.mark.parametrize("t", [1, 500, 981])
@torch.no_grad()
def test_eps_equals_diffusers(unets, h, w, t):
    ours, theirs = unets
    x, context, step = normal(2, 4, h, w), normal(2, 77, 64, seed=1), torch.tensor([t, t])
    expected = theirs(x, step, encoder_hidden_states=context).sample
    # The same float32 arithmetic in another order: 1e-6 is what the kernels leave.
    assert relative_error(ours(x, step, context=context), expected) < 1e-5


@torch.no_grad()
def test_eps_at_a_time_between_the_steps_equals_diffusers(unets):
    ours, theirs = unets
    x, context, step = normal(2, 4, 8, 8), normal(2, 77, 64, seed=1), torch.tensor([37.25, 37.25])
    expected = theirs(x, step, encoder_hidden_states=context).sample
    assert relative_error(ours(x, step, context=context), expected) < 1e-5


@torch.no_grad()
def test_latent_distributions_equal_diffusers(vaes):
    ours, theirs = vaes
    image = normal(2, 3, 64, 96).clamp(-1, 1)
    posterior, expected = ours.encode(image), theirs.encode(image).latent_dist
    assert relative_error(posterior.mean, expected.mean) < 1e-5
    assert relative_error(posterior.logvar, expected.logvar) < 1e-5


@torch.no_grad()
def test_decoded_pictures_equal_diffusers(vaes):
    ours, theirs = vaes
    z = normal(2, 4, 8, 12)
    assert relative_error(ours.decode(z), theirs.decode(z).sample) < 1e-5
