"""Find the weights among the nested dicts of a checkpoint of any trainer. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ldm.checkpoint.names import ema_name, modern

# Where Lightning, plain torch, DeepSpeed, BasicSR and others put the weights and their averages.
WEIGHTS = ("state_dict", "model_state_dict", "model", "module", "net", "network", "weights")
WEIGHTS += ("params",)
AVERAGES = ("params_ema", "model_ema", "ema_state_dict", "state_dict_ema", "ema_model", "ema")
# Dicts of tensors that are no weights.
TRAINING = ("optim", "lr_sched", "scheduler", "callbacks", "loops", "scaler", "hyper_parameters")
DEEPEST = 4


def state_in(
    content: Mapping[Any, Any], is_tensor: Callable[[Any], bool], depth: int = DEEPEST
) -> Mapping[Any, Any]:
    """Return the dict of weights in what a file holds.

    Args:
        content: A bare dict of tensors, or one that nests it: ``{"state_dict": {...}}``,
            ``{"model": {"module": {...}}}``. Averages beside weights are added under the names of
            ``ema_name``. Several dicts under unknown names are joined: ``name.key``.
        is_tensor: Tells a tensor from anything else.
        depth: Levels to look into. (A pickle can hold a dict that contains itself.)

    Returns:
        ``content`` itself if there is nothing to unwrap.
    """
    groups = _groups(content, is_tensor, depth)
    weights = [groups[key] for key in WEIGHTS if key in groups]
    averages = [groups[key] for key in AVERAGES if key in groups]
    if weights and averages:
        return {**{ema_name(modern(str(n))): v for n, v in averages[0].items()}, **weights[0]}
    if weights or any(is_tensor(value) for value in content.values()):
        return weights[0] if weights else content
    if averages or len(groups) == 1:
        return next(iter(averages or groups.values()))
    joined = {f"{key}.{n}": v for key, group in groups.items() for n, v in group.items()}
    return joined or content


def _groups(
    content: Mapping[Any, Any], is_tensor: Callable[[Any], bool], depth: int
) -> dict[str, Mapping[Any, Any]]:
    """Return the dicts of weights directly within a dict, unwrapped, by their names."""
    inner = {
        key: state_in(value, is_tensor, depth - 1)
        for key, value in content.items()
        if depth and isinstance(key, str) and isinstance(value, Mapping) and _may_hold(key)
    }
    return {key: v for key, v in inner.items() if any(is_tensor(each) for each in v.values())}


def _may_hold(key: str) -> bool:
    return not key.startswith(TRAINING)
