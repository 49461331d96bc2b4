"""FID and KID are the distances that their papers define."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ldm.process.feature_distance import (
    Gaussian,
    frechet_distance,
    kernel_distance,
    kernel_distances,
)


def features(count, width=6, seed=0, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, generator=generator, dtype=torch.float64) + shift


def test_frechet_distance_of_a_set_to_itself_is_zero():
    gaussian = Gaussian.of(features(50))
    assert abs(frechet_distance(gaussian, gaussian)) < 1e-10


def test_frechet_distance_of_commuting_covariances_is_the_closed_form():
    """For diagonal covariances: |m - n|^2 + sum (sqrt(a) - sqrt(b))^2."""
    a, b = torch.tensor([4.0, 9.0, 1.0]).double(), torch.tensor([1.0, 4.0, 25.0]).double()
    mean = torch.tensor([1.0, -2.0, 0.5]).double()
    one, two = Gaussian(mean, a.diag()), Gaussian(torch.zeros(3).double(), b.diag())
    expected = mean.square().sum() + (a.sqrt() - b.sqrt()).square().sum()
    assert frechet_distance(one, two) == pytest.approx(float(expected), abs=1e-12)
    assert frechet_distance(two, one) == pytest.approx(float(expected), abs=1e-12)


def test_frechet_distance_does_not_change_when_both_are_turned():
    one, two = Gaussian.of(features(40)), Gaussian.of(features(60, seed=1, shift=0.3) * 1.5)
    turn = torch.linalg.qr(features(6, seed=2))[0]
    turned = [Gaussian(turn @ g.mean, turn @ g.covariance @ turn.T) for g in (one, two)]
    assert frechet_distance(*turned) == pytest.approx(frechet_distance(one, two), abs=1e-10)


def test_frechet_distance_exists_where_pictures_are_fewer_than_features():
    """The root of a product of singular covariances is where naive formulas give NaN."""
    few, others = Gaussian.of(features(3, width=8)), Gaussian.of(features(4, width=8, seed=1))
    assert 0 < frechet_distance(few, others) < 1e3
    assert abs(frechet_distance(few, few)) < 1e-10


def test_gaussian_is_numpys_mean_and_covariance():
    x = features(30)
    gaussian = Gaussian.of(x.float())
    np.testing.assert_allclose(gaussian.mean, x.mean(0), rtol=1e-6)
    np.testing.assert_allclose(gaussian.covariance, np.cov(x.T), rtol=1e-5, atol=1e-7)


def by_loops(x, y):
    """Return the unbiased squared MMD as the sum over pairs that defines it."""
    x, y = x.numpy(), y.numpy()

    def kernel(a, b):
        return (a @ b / len(a) + 1) ** 3

    n, m = len(x), len(y)
    within_x = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j)
    within_y = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j)
    across = sum(kernel(a, b) for a in x for b in y)
    return within_x / (n * (n - 1)) + within_y / (m * (m - 1)) - 2 * across / (n * m)


def test_kernel_distance_is_the_sum_over_pairs_of_different_pictures():
    x, y = features(7), features(5, seed=1, shift=0.5)
    assert float(kernel_distance(x, y)) == pytest.approx(by_loops(x, y), rel=1e-12)


def test_kernel_distance_is_unbiased():
    """Over many small samples of one distribution it averages to 0 within its own error."""
    draws = [kernel_distance(features(4, seed=s), features(4, seed=s + 5000)) for s in range(2000)]
    values = torch.stack(draws)
    error = float(values.std()) / len(values) ** 0.5
    assert abs(float(values.mean())) < 4 * error
    biased = torch.stack(
        [_biased(features(4, seed=s), features(4, seed=s + 5000)) for s in range(200)]
    )
    assert float(biased.mean()) > 20 * error  # what counting pictures with themselves would give


def _biased(x, y):
    def kernel(a, b):
        return ((a @ b.T / a.shape[1] + 1) ** 3).mean()

    return kernel(x, x) + kernel(y, y) - 2 * kernel(x, y)


def test_subsets_are_drawn_by_the_generator_alone():
    x, y = features(20), features(20, seed=1)

    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        return kernel_distances(x, y, size=5, count=3, generator=generator)

    assert torch.equal(draw(0), draw(0)) and not torch.equal(draw(0), draw(1))


def test_distances_agree_with_torchmetrics():
    pytest.importorskip("torchmetrics")
    from torchmetrics.image.fid import _compute_fid
    from torchmetrics.image.kid import poly_mmd

    x, y = features(40), features(50, seed=1, shift=0.2)
    one, two = Gaussian.of(x), Gaussian.of(y)
    theirs = _compute_fid(one.mean, one.covariance, two.mean, two.covariance)
    assert frechet_distance(one, two) == pytest.approx(float(theirs), rel=1e-8)
    assert float(kernel_distance(x, y[:40])) == pytest.approx(float(poly_mmd(x, y[:40])), rel=1e-10)
