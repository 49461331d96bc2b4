"""What samples are conditioned on: nothing, classes, or one text.

Shapes: B pictures, L D tokens and their width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ldm.errors import UserError
from ldm.models.diffusion.batch_conditioning import CLASS_KEYS
from ldm.pipelines.samples.settings import SampleSettings
from ldm.types import Conditioning

TEXT_KEYS = ("caption", "txt")
Rows = tuple[Conditioning, Conditioning]


class Nothing:
    """No condition: an unconditional model."""

    def rows(self, numbers: Sequence[int]) -> Rows:  # noqa: ARG002
        """Return the conditioning of pictures by their numbers, and its empty counterpart."""
        return None, None


class Classes:
    """Classes in turn; the last of the model's is the empty one.

    Args:
        model: A class-conditional hub.
        settings: The run's.
        count: Classes that the model has.
    """

    def __init__(self, model: nn.Module, settings: SampleSettings, count: int) -> None:
        self.model, self.settings, self.count = model, settings, count

    def rows(self, numbers: Sequence[int]) -> Rows:
        """Return the conditioning of pictures by their numbers, and its empty counterpart."""
        cond = self.encode([self.settings.label(number) for number in numbers])
        guided = self.settings.scale != 1.0
        return cond, self.encode([self.count - 1] * len(numbers)) if guided else None

    def encode(self, labels: Sequence[int]) -> Conditioning:
        """Encode class numbers as the model does in training."""
        tensor = torch.tensor(labels, device=self.model.device)
        key = self.model.cond_stage_key
        return self.model.get_learned_conditioning({key: tensor} if key in CLASS_KEYS else tensor)


class Text:
    """One text for all pictures; the empty text is its counterpart.

    Args:
        model: A text-conditional hub.
        settings: The run's.
    """

    def __init__(self, model: nn.Module, settings: SampleSettings) -> None:
        self.model, self.settings = model, settings

    def rows(self, numbers: Sequence[int]) -> Rows:
        """Return the conditioning of pictures by their numbers, and its empty counterpart."""
        encode, count = self.model.get_learned_conditioning, len(numbers)
        guided = self.settings.scale != 1.0
        return encode([self.settings.prompt] * count), encode([""] * count) if guided else None


def conditions_for(
    model: nn.Module, settings: SampleSettings, *, classifier: bool = False
) -> Nothing | Classes | Text:
    """Return what a model's samples are conditioned on.

    Args:
        model: A hub.
        settings: The run's.
        classifier: A classifier leads to the classes, so that the model need not know them.

    Raises:
        UserError: The model wants what is not given, or something else is given.
    """
    count = class_count(model)
    if count is not None:
        _check_inputs(model)
        _check_classes(settings, count)
        return Classes(model, settings, count)
    if settings.class_label and not classifier:
        raise UserError("--class_label was given; the model knows no classes; leave it out")
    if _key(model) is None:
        if settings.prompt is not None or settings.scale != 1.0:
            raise UserError(
                "--prompt or --scale was given; the model is unconditional; leave them out"
            )
        _check_inputs(model)
        return Nothing()
    if model.cond_stage_key not in TEXT_KEYS and not hasattr(model.cond_stage_model, "tokenizer"):
        raise UserError(
            f"the model is conditioned on {model.cond_stage_key!r}; expected an unconditional, a "
            "class-conditional or a text model; for pictures there are scripts/inpaint.py and "
            "scripts/upscale.py"
        )
    _check_inputs(model)
    if settings.prompt is None:
        raise UserError('the model draws texts; expected one; add --prompt "..."')
    return Text(model, settings)


def class_count(model: nn.Module) -> int | None:
    """Return how many classes a model is conditioned on, the empty one included, or None."""
    key = _key(model)
    if key is None:
        return None
    if key.endswith("adm") and model.model.diffusion_model.num_classes is not None:
        return model.model.diffusion_model.num_classes
    if model.cond_stage_key not in CLASS_KEYS:
        return None
    embedder: Any = model.cond_stage_model
    return getattr(embedder, "n_classes", None) or embedder.embedding.num_embeddings


def _key(model: nn.Module) -> str | None:
    """Return where conditioning enters a model; None is nowhere."""
    conditional = getattr(model, "cond_stage_key", None) is not None
    return model.model.conditioning_key if conditional else None


def _check_inputs(model: nn.Module) -> None:
    inputs = getattr(model.model.diffusion_model, "in_channels", model.channels)
    if inputs != model.channels:
        raise UserError(
            f"the model's UNet takes {inputs} channels, and {model.channels} are diffused; "
            "expected as many, as nothing is shown to it beside them; for pictures there are "
            "scripts/inpaint.py and scripts/upscale.py"
        )


def _check_classes(settings: SampleSettings, count: int) -> None:
    if settings.prompt is not None:
        raise UserError("--prompt was given; the model draws classes; give --class_label instead")
    if not settings.class_label:
        raise UserError(
            f"the model draws classes 0 to {count - 1}; expected some of them; add --class_label "
            f"NUMBER ..., or --class_label 0-{count - 1} for all in turn"
        )
    worst = max(settings.class_label)
    if worst >= count:
        raise UserError(
            f"--class_label {worst} was given; the model has classes 0 to {count - 1}; "
            "give one of them"
        )
