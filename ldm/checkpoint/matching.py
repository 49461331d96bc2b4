"""Find a file's tensor for each key of a model, under whichever name and axes the file has it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ldm.checkpoint.align import PARTS, Alignment, align, same_but_for_ones
from ldm.checkpoint.io import Checkpoint
from ldm.checkpoint.names import UNET, component_of, ema_name, unwrapped
from ldm.checkpoint.report import Shape
from ldm.errors import UserError


def shapes(tensors: Mapping[str, Tensor]) -> dict[str, Shape]:
    """Return the shape of each tensor."""
    return {name: tuple(value.shape) for name, value in tensors.items()}


def renamed(
    tensors: dict[str, Tensor], wanted: Mapping[str, Shape], source: str
) -> dict[str, Tensor]:
    """Rename a file's tensors as the model has them; those that it lacks keep their names."""
    names = align(source, wanted, shapes(tensors)).names
    own = {name: tensors[names[name]] for name in wanted if name in names}
    used = {names[name] for name in own}
    return own | {name: value for name, value in tensors.items() if name not in used}


def of_part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return a part's tensors if the file has any under its prefix, else all."""
    if not prefix:
        return tensors
    names = {name: unwrapped(name) for name in tensors}
    own = {n.removeprefix(prefix): tensors[k] for k, n in names.items() if n.startswith(prefix)}
    if own or prefix not in PARTS:
        return own or tensors
    return {name: v for name, v in tensors.items() if f".{prefix}" in name} or tensors


def match(
    wanted: Mapping[str, Tensor],
    checkpoint: Checkpoint,
    alignment: Alignment,
    *,
    use_ema: bool,
    ignore: tuple[str, ...],
) -> tuple[dict[str, Tensor], list[str]]:
    """Find the file's tensor for each key of the model, and what is left over.

    Axes of length 1 that only one of both has are added or removed.

    Args:
        wanted: The model's tensors.
        checkpoint: The file.
        alignment: Where it has the model's names.
        use_ema: Take the UNet's moving averages in place of its weights.
        ignore: Prefixes of keys to pass over.

    Returns:
        Tensors by the model's names, and the file's names of the others.

    Raises:
        UserError: ``use_ema``, and the file lacks averages.
    """
    named = alignment.names
    averages = _averages(wanted, named, checkpoint.path) if use_ema else {}
    offered, used = {}, set()
    for key in wanted:
        name = averages.get(key, key)
        if name not in named or key.startswith(ignore):
            continue
        value = checkpoint.tensors[named[name]]
        if same_but_for_ones(tuple(value.shape), tuple(wanted[key].shape)):
            value = value.reshape(wanted[key].shape)
        # A weight and its average must not share memory, even if both start from one tensor.
        offered[key] = value.clone() if named[name] in used else value
        used.add(named[name])
    replaced = {named[key] for key in averages if key in named}
    return offered, [n for n in checkpoint.tensors if n not in used | replaced]


def _averages(wanted: Mapping[str, Tensor], named: Mapping, path: Path) -> dict[str, str]:
    """Map the weights that have a moving average in the file to its name there."""
    found = {key: ema_name(key) for key in wanted if ema_name(key) in named}
    unet = [key for key in wanted if component_of(key) == UNET]
    absent = [key for key in unet if key not in found]
    if absent or not found:
        raise UserError(
            f"{path}: --use_ema given, but {len(absent)} of {len(unet)} UNet weights have no "
            "averaged (EMA) copy in it; expected 'model_ema.*' keys; leave --use_ema out, or give "
            "the training checkpoint ('full-ema')"
        )
    return found
