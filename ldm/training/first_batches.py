"""A first batch that the model cannot take: data and configuration do not fit, told in words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from ldm.building import REFUSALS
from ldm.errors import OURS, UserError, in_words, is_out_of_memory, raised_by

# What torch says of items that do not go into one batch, also out of a loader's worker.
_UNEQUAL = re.compile(
    r"(stack expects each tensor to be equal size.*|each element in list of batch should be.*"
    r"|default_collate: batch must contain.*|Trying to resize storage that is not resizable.*)"
)


class FirstBatches(pl.Callback):
    """Remember what the first batch of each kind holds until it is done.

    Keys, sizes and channels of the data meet those of the model there for the first time.
    """

    def __init__(self) -> None:
        self._done: set[str] = set()
        self._begun: dict[str, str] = {}

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, *_: Any) -> None:
        """Describe the batch, if it is the first."""
        del trainer, pl_module
        self._begin("training", batch)

    def on_validation_batch_start(self, trainer: Any, pl_module: Any, batch: Any, *_: Any) -> None:
        """Describe the batch, if it is the first."""
        del trainer, pl_module
        self._begin("validation", batch)

    def on_test_batch_start(self, trainer: Any, pl_module: Any, batch: Any, *_: Any) -> None:
        """Describe the batch, if it is the first."""
        del trainer, pl_module
        self._begin("test", batch)

    def on_train_batch_end(self, *_: Any) -> None:
        """Note that training fits."""
        self._end("training")

    def on_validation_batch_end(self, *_: Any) -> None:
        """Note that validation fits."""
        self._end("validation")

    def on_test_batch_end(self, *_: Any) -> None:
        """Note that the test fits."""
        self._end("test")

    def _begin(self, kind: str, batch: Any) -> None:
        if kind not in self._done:
            self._begun[kind] = contents(batch)

    def _end(self, kind: str) -> None:
        self._done.add(kind)
        self._begun.pop(kind, None)

    def misfit(self, error: BaseException) -> UserError | None:
        """Say what does not fit, if an error comes of it.

        Args:
            error: What ended the run.

        Returns:
            None if no first batch was under way, or if the error came out of somebody else's own
            code: a traceback helps its author more.
        """
        if unequal := _UNEQUAL.search(str(error)):
            return UserError(
                f"the data's items do not go into one batch ({unequal[0].strip()}); expected the "
                "same entries and sizes of all; crop or scale them alike, or give "
                "data.params.batch_size=1"
            )
        if not self._begun or not isinstance(error, REFUSALS) or isinstance(error, OSError):
            return None
        if raised_by(error)[0].split(".")[0] != OURS or is_out_of_memory(error):
            return None
        kind, held = next(reversed(self._begun.items()))
        return UserError(
            f"the model cannot take the first batch of {kind} ({in_words(error)}); the batch has "
            f"{held}; expected the entries, sizes and channels that the model is configured for; "
            "compare model.params with data.params"
        )


def contents(batch: Any) -> str:
    """Name the entries of a batch with their shapes or kinds.

    Example:
        >>> import torch
        >>> contents({"image": torch.zeros(2, 8, 8, 3), "caption": ["a cat", "a dog"]})
        'image [2, 8, 8, 3], caption (2 of str)'
    """
    parts = batch.items() if isinstance(batch, Mapping) else [("the batch", batch)]
    if isinstance(batch, list | tuple):
        parts = enumerate(batch)
    return ", ".join(_entry(name, value) for name, value in parts) or "no entries"


def _entry(name: Any, value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{name} {list(value.shape)}"
    if isinstance(value, list | tuple) and value:
        return f"{name} ({len(value)} of {type(value[0]).__name__})"
    return f"{name} ({type(value).__name__})"
