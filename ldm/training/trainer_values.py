"""Check the values that a Trainer is given: it calculates with them before it looks at them."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf

from ldm.errors import UserError
from ldm.settings.option import one_of
from ldm.training.arguments import TRAINER_FLAGS

# In the order in which a message names them; a class of Lightning's own cannot stand in a YAML.
_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a name",
    list: "a list",
    dict: "a mapping",
    type(None): "null",
}
_MINIMUM = {"accumulate_grad_batches": 1, "num_nodes": 1, "max_steps": -1, "max_epochs": -1}


def check_trainer(trainer: DictConfig) -> None:
    """Check every value by the annotation of the Trainer's parameter.

    Args:
        trainer: Settings by the Trainer's names, references resolved; 1e3 steps become 1000 in it.

    Raises:
        UserError: The message names the setting, what it takes and how it is given.
    """
    annotations = get_type_hints(pl.Trainer.__init__)
    for name, value in OmegaConf.to_container(trainer).items():
        allowed = list(_allowed(annotations[name]))
        trainer[name] = value = _plain(value, allowed)
        least = _MINIMUM.get(name)
        low = least is not None and isinstance(value, int) and value < least
        if low or not _fits(value, allowed):
            expected = _in_words(allowed) + (f", {least} or more" if least is not None else "")
            flag = f" or with --{name}" if name in TRAINER_FLAGS else ""
            raise UserError(
                f"lightning.trainer.{name} is {value!r}; expected {expected}; change it there{flag}"
            )
    _check_interval(trainer)


def _check_interval(trainer: DictConfig) -> None:
    interval = trainer.get("val_check_interval")
    if isinstance(interval, int | float) and interval <= 0:
        raise UserError(
            f"lightning.trainer.val_check_interval is {interval}; expected batches (1 or more) or "
            "a part of an epoch (up to 1.0); to turn validation off give limit_val_batches=0"
        )
    if isinstance(interval, int):
        # Batches are then counted across epochs, so a small data set needs no special care.
        trainer.setdefault("check_val_every_n_epoch", None)


def _allowed(annotation: Any) -> Iterator[Any]:
    """Yield the kinds that an annotation admits, and the values of its literals."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from _allowed(part)
    elif origin is Literal:
        yield from get_args(annotation)
    else:
        yield origin or annotation


def _plain(value: Any, allowed: list[Any]) -> Any:
    """Read 1e3 as a whole number and 1 as true where nothing else is meant."""
    if type(value) is float and value.is_integer() and int in allowed and float not in allowed:
        return int(value)
    if type(value) is int and value in (0, 1) and bool in allowed and int not in allowed:
        return bool(value)
    return value


def _fits(value: Any, allowed: list[Any]) -> bool:
    # A bool is an int to Python, and an int is as good as a float.
    kinds = (int, float) if type(value) is int else (type(value),)
    return any(kind in allowed for kind in kinds) or any(
        type(value) is type(choice) and value == choice for choice in allowed
    )


def _in_words(allowed: list[Any]) -> str:
    names = [words for kind, words in _WORDS.items() if kind in allowed]
    if int in allowed and float in allowed:
        names.remove(_WORDS[int])
    choices = [str(each) for each in allowed if isinstance(each, int | str)]
    return one_of([*dict.fromkeys(choices), *names])
