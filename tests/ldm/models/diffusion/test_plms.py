"""PLMS: the weights by which it extrapolates eps. How near it comes is in test_oracle.py."""

from __future__ import annotations

import numpy as np
import pytest

from ldm.models.diffusion.plms import ADAMS_BASHFORTH
from ldm.process.sigmas import adams_bashforth


@pytest.mark.parametrize("order", [2, 3, 4])
def test_the_weights_are_adams_and_bashforths_for_even_steps(order):
    numerators, denominator = ADAMS_BASHFORTH[order]
    expected = adams_bashforth([-float(age) for age in range(order)], 1.0)
    assert np.allclose(np.array(numerators) / denominator, expected)
