"""Find the weights among the nested dicts of a checkpoint of any trainer. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ldm import budgets
from ldm.checkpoint.names import ema_name, modern
from ldm.errors import UserError

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

    Raises:
        UserError: There is more to look into than any file of weights has.
    """
    return _Search(is_tensor).state_in(content, depth)


class _Search:
    """Looks into dicts; a small file can hold one dict a thousand times in a thousand others."""

    def __init__(self, is_tensor: Callable[[Any], bool]) -> None:
        self._is_tensor = is_tensor
        self._room = budgets.PICKLE_ENTRIES

    def state_in(self, content: Mapping[Any, Any], depth: int) -> Mapping[Any, Any]:
        groups = self._groups(content, depth)
        weights = [groups[key] for key in WEIGHTS if key in groups]
        averages = [groups[key] for key in AVERAGES if key in groups]
        if weights and averages:
            return {**{ema_name(modern(str(n))): v for n, v in averages[0].items()}, **weights[0]}
        if weights or any(self._is_tensor(value) for value in content.values()):
            return weights[0] if weights else content
        if averages or len(groups) == 1:
            return next(iter(averages or groups.values()))
        self._take(sum(map(len, groups.values())))
        joined = {f"{key}.{n}": v for key, group in groups.items() for n, v in group.items()}
        return joined or content

    def _groups(self, content: Mapping[Any, Any], depth: int) -> dict[str, Mapping[Any, Any]]:
        """Return the dicts of weights directly within a dict, unwrapped, by their names."""
        self._take(len(content))
        inner = {
            key: self.state_in(value, depth - 1)
            for key, value in content.items()
            if depth and isinstance(key, str) and isinstance(value, Mapping) and _may_hold(key)
        }
        holds = self._is_tensor
        return {key: v for key, v in inner.items() if any(holds(each) for each in v.values())}

    def _take(self, entries: int) -> None:
        self._room -= entries
        if self._room < 0:
            raise UserError(
                f"the file holds over {budgets.PICKLE_ENTRIES} entries in dicts within dicts; "
                "expected a dict of tensors; save the module's state_dict()"
            )


def _may_hold(key: str) -> bool:
    return not key.startswith(TRAINING)
