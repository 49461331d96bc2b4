"""Limits on estimates of the clean sample."""

from __future__ import annotations

import pytest
import torch

from ldm.models.diffusion import sampling_util
from ldm.process.thresholding import limit_quantile, limit_rms, limit_rms_of_pixels


def rows(*sizes: float) -> torch.Tensor:
    noise = torch.randn(len(sizes), 3, 8, 8, generator=torch.Generator().manual_seed(0))
    rms = noise.square().flatten(1).mean(1).sqrt()
    return noise * (torch.tensor(sizes) / rms).reshape(-1, 1, 1, 1)


def test_a_row_that_is_too_large_is_scaled_to_the_limit_and_the_others_stay():
    x0 = rows(0.3, 2.0, 8.0)
    limited = limit_rms(x0, 1.5)
    torch.testing.assert_close(limited[0], x0[0])
    sizes = limited.square().flatten(1).mean(1).sqrt()
    torch.testing.assert_close(sizes, torch.tensor([0.3, 1.5, 1.5]))
    torch.testing.assert_close(limited[2] / x0[2], torch.full_like(x0[2], 1.5 / 8.0))


def test_a_place_that_is_too_large_is_scaled_and_its_neighbours_stay():
    x0 = torch.full((1, 3, 2, 2), 0.5)
    x0[..., 0, 1] = 4.0
    limited = limit_rms_of_pixels(x0, 1.0)
    expected = torch.tensor([[0.5, 1.0], [0.5, 0.5]]).expand(1, 3, 2, 2)
    torch.testing.assert_close(limited, expected)


def test_stable_diffusion_2s_names_mean_these():
    x0 = rows(0.3, 2.0)
    assert torch.equal(sampling_util.norm_thresholding(x0, 0.5), limit_rms(x0, 0.5))
    by_place = sampling_util.spatial_norm_thresholding(x0, 0.5)
    assert torch.equal(by_place, limit_rms_of_pixels(x0, 0.5))
    assert sampling_util.append_dims(torch.ones(2), 4).shape == (2, 1, 1, 1)
    with pytest.raises(ValueError, match="at most 1"):
        sampling_util.append_dims(torch.ones(2, 2), 1)


@pytest.mark.parametrize("largest", [1.0, 0.5])
def test_pixels_are_cut_at_the_quantile_of_their_row_and_fill_the_range(largest):
    x0 = rows(0.1, 4.0)
    limited = limit_quantile(x0, largest, share=0.9)
    # A quiet row is only measured by the smallest bound.
    torch.testing.assert_close(limited[0], x0[0] / largest)
    assert limited[1].abs().max() == 1.0
    cut = (limited[1].abs() > 1.0 - 1e-6).float().mean().item()
    assert cut == pytest.approx(0.1, abs=0.01)
