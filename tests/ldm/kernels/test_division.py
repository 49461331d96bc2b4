"""How a device divides by numbers: found by trying."""

from __future__ import annotations

import operator

import pytest
import torch
from dividing import Dividing

from ldm.kernels.division import DIVISIONS, Division, division_on

CPU = torch.device("cpu")


def test_a_processor_divides():
    found = division_on(CPU)
    assert found.does is operator.truediv and found.number(0.3) == 0.3


@pytest.mark.parametrize("way", DIVISIONS)
def test_every_way_is_told_from_the_others(way):
    with Dividing(way):
        assert division_on(CPU) is way


def test_an_unknown_way_is_not_taken_for_another():
    with Dividing(Division(operator.mul, lambda b: 1.0000001 / b)):
        assert division_on(CPU) is None
