"""How a device divides by a number of the host's, so that numbers on the device do the same."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Division(NamedTuple):
    """How samples are divided by a number of the host's: by what operation, with what number."""

    does: Callable[[Tensor, Tensor], Tensor]
    number: Callable[[float], float]


DIVISIONS = (
    Division(operator.truediv, lambda b: b),
    Division(operator.mul, lambda b: 1.0 / b),
    Division(operator.mul, lambda b: float(np.float32(1.0) / np.float32(b))),
)


def division_on(device: torch.device) -> Division | None:
    """Find how torch divides by a number on a device; None if it is by none of ``DIVISIONS``.

    CUDA's kernels multiply by the inverse, which torch rounds once or twice, by its version. A
    number on the device would be divided by, with other last bits.
    """
    x = torch.linspace(0.1, 3.0, 50, device="cpu")
    numbers = [0.07 * k for k in range(1, 50)]
    own = torch.stack([x.to(device) / number for number in numbers]).cpu()
    for each in DIVISIONS:
        given = torch.tensor([each.number(number) for number in numbers], device="cpu")
        if torch.equal(each.does(x, given[:, None]), own):
            return each
    return None
