"""The contract of adapters that learn: modules beside a model, which they never become part of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ldm.adapters.handle import Handle


class Trainable(nn.Module, ABC):
    """An adapter in training, which a YAML's ``adapter_config`` names.

    It is built with the model as the argument ``model``, whose weights are loaded and frozen. It
    may read them, and keeps none: what it registers is what checkpoints hold and what is optimised.

    Attributes:
        kind: What it is, in words, such as ``lora``: the end of ``modelspec.architecture``.
        reaches_text: Whether gradients have to pass through the text encoder.
        word: What calls it, where captions do; a batch whose captions do not leaves it out.
        file_name: What its files are to be called, without an ending; None takes the run's name.
        file_dtype: Type of the numbers in its files; None keeps theirs. Vectors for words, which
            are few, are float32 always.
    """

    kind: str
    reaches_text = False
    word: str | None = None
    file_name: str | None = None
    file_dtype: torch.dtype | None = None

    @abstractmethod
    def attach(self, model: nn.Module) -> Handle:
        """Let the model compute with the adapter, so that gradients reach its parameters."""

    @abstractmethod
    def save(self, folder: Path, name: str, header: Mapping[str, str]) -> Sequence[Path]:
        """Write the adapter as files that other programs read.

        Args:
            folder: Where; it exists.
            name: Of the files, without an ending.
            header: What the run has to say of itself, see ``TrainingRecord``.

        Returns:
            The files.

        Raises:
            UserError: They cannot be written.
        """

    def shown(self, batch: Mapping[str, Any], rows: int) -> dict[str, Tensor]:  # noqa: ARG002
        """Return what previews are to show of a batch's first rows (n, 3, H, W) in [-1, 1]."""
        return {}

    @property
    def sees(self) -> bool:
        """Whether it reads more of a batch than the caption."""
        return type(self).see is not Trainable.see

    def see(self, batch: Mapping[str, Any], rows: int | None) -> None:
        """Take from a batch what the adapter reads besides the caption: here nothing.

        Args:
            batch: Collated training data.
            rows: How many of its rows are computed; None for all.
        """
