"""What samplers are given: keywords that they do not know, and counts that do not match."""

from __future__ import annotations

import difflib
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from ldm.errors import UserError
from ldm.types import Conditioning, Guider

logger = logging.getLogger(__name__)

_CATCH_ALL = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


def named_by(*functions: Callable) -> set[str]:
    """Return the names of the parameters of functions, without ``self`` and catch-alls."""
    parameters = [p for f in functions for p in inspect.signature(f).parameters.values()]
    return {p.name for p in parameters if p.kind not in _CATCH_ALL} - {"self"}


def split_known(
    keywords: Mapping[str, Any], known: set[str], owner: str, warned: set[str]
) -> dict[str, Any]:
    """Return the keywords that are known; warn once of the others.

    The reference swallows what it does not know, and forks pass keywords of their own.

    Args:
        keywords: As given.
        known: Names that mean something.
        owner: What was called, for the message.
        warned: Names that were warned of before; the new ones are added.
    """
    unknown = [key for key in keywords if key not in known]
    new = [key for key in unknown if key not in warned]
    if new:
        warned.update(new)
        told = "; ".join(_hint(key, known) for key in new)
        logger.warning("%s does not know and ignores: %s", owner, told)
    return {key: value for key, value in keywords.items() if key in known}


def _hint(key: str, known: Iterable[str]) -> str:
    known = sorted(known)
    near = difflib.get_close_matches(key, known, n=1)
    if near:
        return f"{key!r}, did you mean {near[0]!r}?"
    return f"{key!r}, known are {', '.join(known)}"


def taken_by(function: Callable, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords that a function takes.

    Overrides in the reference's form do not have all of ours.
    """
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return dict(keywords)
    names = {p.name for p in parameters}
    return {key: value for key, value in keywords.items() if key in names}


def check_scales(scales: Sequence[float], steps: int, guider: Guider | None) -> None:
    """Check the guidance scales of a walk's steps.

    Raises:
        UserError: They are not one for each step, or a guider is given as well.
    """
    if len(scales) != steps:
        raise UserError(
            f"ucg_schedule of {len(scales)} guidance scales given; expected {steps}, one for each "
            "step; make it as long as the schedule"
        )
    if guider is not None:
        raise UserError("ucg_schedule and guider given; expected one of them; leave one out")


def warn_on_batch(cond: Conditioning, batch_size: int) -> None:
    """Warn if the conditioning's first tensor has not ``batch_size`` rows."""
    while isinstance(cond, (dict, list, tuple)) and cond:
        cond = next(iter(cond.values())) if isinstance(cond, dict) else cond[0]
    if isinstance(cond, Tensor) and cond.shape[0] != batch_size:
        logger.warning("got %d conditionings but batch_size %d", cond.shape[0], batch_size)
