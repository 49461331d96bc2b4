"""Train a LoRA: matrices of low rank beside the layers of the UNet and of the text encoder.

LoRA, arXiv:2106.09685; DoRA, arXiv:2402.09353.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import nn

from ldm.adapters.lora.attached import LoRAHandle
from ldm.adapters.lora.train import new_lora
from ldm.adapters.lora.write import FORMS, write_lora
from ldm.errors import UserError
from ldm.training.adapters.trainable import Trainable

_OF_TEXT = "lora_te"


class LoRATraining(Trainable):
    """A LoRA in training.

    Args:
        model: The hub.
        rank: Of every layer's change.
        alpha: The change is multiplied by alpha / rank; None is the rank.
        unet: Whether the UNet's attentions and feed-forwards change.
        text: Whether the text encoder's do.
        conv: Whether the UNet's convolutions do too (LoCon).
        dora: Whether the lengths of the weights' rows learn beside (DoRA).
        only: A regular expression for the names of the layers, as ``new_lora`` has it.
        forms: The layouts to write: ``kohya`` is ``<name>.safetensors``, ``diffusers`` is
            ``<name>.diffusers.safetensors``.

    Raises:
        UserError: A layout is unknown, or as ``new_lora``.
    """

    kind = "lora"

    def __init__(
        self,
        model: nn.Module,
        rank: int = 8,
        alpha: float | None = None,
        unet: bool = True,
        text: bool = False,
        conv: bool = False,
        dora: bool = False,
        only: str | None = None,
        forms: Sequence[str] = ("kohya",),
    ) -> None:
        super().__init__()
        for form in forms:
            if form not in FORMS:
                known = ", ".join(FORMS)
                raise UserError(f"forms has {form!r}; expected some of {known}; correct it")
        self.forms = list(forms)
        self.weights = new_lora(
            model, rank, alpha, unet=unet, text=text, conv=conv, dora=dora, only=only
        )
        self.reaches_text = any(name.startswith(_OF_TEXT) for name in self.weights.names)

    def attach(self, model: nn.Module) -> LoRAHandle:
        """Let the model's layers compute with the matrices as they are at each step."""
        return self.weights.attach(model)

    def save(self, folder: Path, name: str, header: Mapping[str, str]) -> list[Path]:
        """Write a file for each layout."""
        paths = []
        for form in self.forms:
            ending = ".safetensors" if form == "kohya" else f".{form}.safetensors"
            paths.append(
                write_lora(self.weights, folder / f"{name}{ending}", form, header, self.file_dtype)
            )
        return paths
