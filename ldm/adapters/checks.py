"""What every reader of an adapter's file checks: numbers that are finite, names that are there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ldm.adapters.report import NAMED
from ldm.errors import UserError
from ldm.legible import quoted


def require_finite(path: Path, kind: str, tensors: Mapping[str, Tensor]) -> None:
    """Refuse a file whose numbers are not.

    Raises:
        UserError: A tensor holds NaN or infinity.
    """
    bad = [
        name
        for name, value in tensors.items()
        if value.is_floating_point() and not torch.isfinite(value).all()
    ]
    if bad:
        raise UserError(
            f"{kind} {str(path)!r} has NaN or infinite numbers in {len(bad)} tensors "
            f"({named(bad)}); expected finite ones; download it again, or train it anew"
        )


def load_exactly(
    module: nn.Module, state: Mapping[str, Tensor], path: Path, kind: str
) -> list[str]:
    """Give a module that is built on the meta device a file's weights, in float32.

    Returns:
        The names in ``state`` that the module does not have.

    Raises:
        UserError: Weights are missing, or of another shape.
    """
    own = module.state_dict()
    wrong = [
        f"{name} {tuple(state[name].shape)} in place of {tuple(value.shape)}"
        if name in state
        else f"{name} missing"
        for name, value in own.items()
        if name not in state or state[name].shape != value.shape
    ]
    if wrong:
        raise UserError(
            f"{kind} {str(path)!r} does not fit together: {named(wrong)}; expected all tensors of "
            f"{kind}s of this kind; download it again"
        )
    module.load_state_dict({name: state[name].float() for name in own}, assign=True)
    module.requires_grad_(False)
    return [name for name in state if name not in own]


def named(keys: Iterable[str], limit: int = NAMED) -> str:
    """Return a few names for a message."""
    keys = list(keys)
    more = f" and {len(keys) - limit} more" if len(keys) > limit else ""
    return ", ".join(quoted(key) for key in keys[:limit]) + more
