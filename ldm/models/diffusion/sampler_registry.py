"""Samplers by the names that programs use."""

from __future__ import annotations

import difflib

from ldm.errors import UserError
from ldm.models.diffusion.sampler import Sampler
from ldm.rng import NoiseSource
from ldm.settings.samplers import SAMPLERS
from ldm.types import EpsModel
from ldm.util import get_obj_from_str


def make_sampler(
    name: str, model: EpsModel, *, spacing: str = "uniform", noise: NoiseSource | None = None
) -> Sampler:
    """Return the sampler that ``name`` means.

    Raises:
        UserError: Unknown name; the message has the nearest known one.
    """
    if name not in SAMPLERS:
        near = difflib.get_close_matches(name, SAMPLERS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(f"sampler {name!r} given; {hint}expected one of {', '.join(SAMPLERS)}")
    return get_obj_from_str(SAMPLERS[name].target)(model, spacing=spacing, noise=noise)
