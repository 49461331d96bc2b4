"""Likelihoods and the distributions of one value."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from ldm.modules.distributions.distributions import (
    AbstractDistribution,
    DiagonalGaussianDistribution,
    DiracDistribution,
    normal_kl,
)


@pytest.fixture
def moments():
    torch.manual_seed(0)
    return torch.randn(3, 8, 4, 5)


@pytest.mark.parametrize("dims", [(1, 2, 3), [1, 2, 3], (2, 3)])
def test_the_negative_log_likelihood_is_that_of_the_normal_distribution(moments, dims):
    posterior, sample = DiagonalGaussianDistribution(moments), torch.randn(3, 4, 4, 5)
    expected = -Normal(posterior.mean, posterior.std).log_prob(sample).sum(dim=tuple(dims))
    assert torch.allclose(posterior.nll(sample, dims=dims), expected, rtol=1e-5)


def test_the_mode_is_more_likely_than_anything_else(moments):
    posterior = DiagonalGaussianDistribution(moments)
    assert (posterior.nll(posterior.mode()) < posterior.nll(posterior.mean + 0.1)).all()


def test_of_a_deterministic_posterior_the_likelihood_is_taken_as_zero(moments):
    posterior = DiagonalGaussianDistribution(moments, deterministic=True)
    assert torch.equal(posterior.nll(posterior.mean), torch.zeros(3))


@pytest.mark.parametrize(("mean", "logvar"), [(0.0, 0.0), (0.5, -1.0), (None, None), (None, 0.3)])
def test_the_divergence_takes_numbers_and_tensors(mean, logvar):
    a, b = torch.randn(2, 3, 4)
    mean = torch.randn(3, 4) if mean is None else mean
    logvar = torch.randn(3, 4) if logvar is None else logvar
    other = Normal(torch.as_tensor(mean), (0.5 * torch.as_tensor(logvar)).exp())
    expected = kl_divergence(Normal(a, (0.5 * b).exp()), other)
    assert torch.allclose(normal_kl(a, b, mean, logvar), expected, atol=1e-5)
    with pytest.raises(ValueError, match="expected a tensor"):
        normal_kl(0.0, 0.0, 0.0, 0.0)


def test_what_is_certain_is_drawn_and_most_likely():
    certain = DiracDistribution("a value")
    assert certain.sample() == certain.mode() == certain.value == "a value"
    with pytest.raises(NotImplementedError, match="AbstractDistribution must define sample"):
        AbstractDistribution().sample()
