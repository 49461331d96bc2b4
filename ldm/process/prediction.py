"""Conversions between what a model may predict: eps, x0 and v.

With a = sqrt(alphas_cumprod_t) and s = sqrt(1 - alphas_cumprod_t):
x = a x0 + s eps (DDPM, arXiv:2006.11239, Eq. 4) and v = a eps - s x0 (arXiv:2202.00512, section 4
and appendix D). As a^2 + s^2 = 1 the pair (x, v) is (x0, eps) turned by an angle, and turning it
back gives x0 = a x - s v and eps = s x + a v.
"""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from ldm.errors import UserError

Parameterization = Literal["eps", "x0", "v"]


def check_parameterization(name: str) -> Parameterization:
    """Return ``name`` if it is one of eps, x0, v.

    Raises:
        UserError: It is not.
    """
    if name not in get_args(Parameterization):
        raise UserError(f"parameterization {name!r} given; expected eps, x0 or v")
    return name


def to_eps(out: Tensor, x: Tensor, a: Tensor, s: Tensor, kind: Parameterization) -> Tensor:
    """Return the noise that a prediction ``out`` of ``kind`` means at the sample ``x``."""
    if kind == "eps":
        return out
    if kind == "x0":
        return (x - a * out) / s
    return a * out + s * x


def to_x0(out: Tensor, x: Tensor, a: Tensor, s: Tensor, kind: Parameterization) -> Tensor:
    """Return the clean sample that a prediction ``out`` of ``kind`` means at ``x``."""
    if kind == "x0":
        return out
    if kind == "eps":
        return (x - s * out) / a
    return a * x - s * out


def target(x0: Tensor, eps: Tensor, a: Tensor, s: Tensor, kind: Parameterization) -> Tensor:
    """Return what a model of ``kind`` should predict at ``a x0 + s eps``."""
    if kind == "eps":
        return eps
    if kind == "x0":
        return x0
    return a * eps - s * x0


def convert(
    out: Tensor, x: Tensor, a: Tensor, s: Tensor, kind: Parameterization, wanted: Parameterization
) -> Tensor:
    """Return what a prediction ``out`` of ``kind`` at ``x = a x0 + s eps`` means as ``wanted``.

    Where ``a`` is 0 there is nothing of x0 in x: from eps the result is not finite. From x0 it is
    not where ``s`` is 0.
    """
    if kind == wanted:
        return out
    x0, eps = (rule(out, x, a, s, kind) for rule in (to_x0, to_eps))
    return target(x0, eps, a, s, wanted)
