"""A new LoRA to train: a module beside the model, whose parameters alone get gradients.

lora = new_lora(model, rank=8)
handle = lora.attach(model)          # the model computes with it, gradients flow to it
optimizer = torch.optim.AdamW(lora.parameters())
...
write_lora(lora, "style.safetensors")
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ldm.adapters.handle import Scale
from ldm.adapters.lora.attached import Bound, LoRAHandle
from ldm.adapters.lora.deltas import Decomposed, Delta, LowRank
from ldm.adapters.lora.merged import original_of
from ldm.adapters.lora.places import Place, Places
from ldm.adapters.report import base_of_model
from ldm.errors import UserError

# Endings of the names of what kohya's trainer changes by default: attention and feed-forward.
_TRANSFORMER = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2")
_AROUND = ("proj_in", "proj_out")
_TEXT = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
_CONVOLUTIONS = ("conv1", "conv2", "conv_shortcut", "time_emb_proj")
_RESCALERS = ("downsamplers.0.conv", "upsamplers.0.conv")


class Pair(nn.Module):
    """Two matrices of low rank for one layer: their product begins as zero.

    Args:
        place: The layer's weight.
        rank: The rank r.
        magnitude: Lengths of the weight's rows for DoRA, else None.
    """

    def __init__(self, place: Place, rank: int, magnitude: Tensor | None) -> None:
        super().__init__()
        out, *rest = place.shape
        self.lora_down = nn.Parameter(torch.empty(rank, *rest))
        self.lora_up = nn.Parameter(torch.zeros(out, rank, *[1] * (len(rest) - 1)))
        self.dora_scale = None if magnitude is None else nn.Parameter(magnitude)
        nn.init.kaiming_uniform_(self.lora_down, a=math.sqrt(5))

    def delta(self, alpha: float) -> Delta:
        """Return the change that the present parameters make."""
        tensors = {"down": self.lora_down, "up": self.lora_up}
        low = LowRank(tensors, alpha / len(self.lora_down))
        return low if self.dora_scale is None else Decomposed(low, self.dora_scale)


class TrainableLoRA(nn.Module):
    """The pairs of all layers, by their names in kohya's files.

    Args:
        places: The layers, of one model.
        rank: The rank of every pair.
        alpha: The change is multiplied by alpha / rank.
        base: The family of the model, such as v1.
        dora: Whether lengths of rows are trained too.

    Attributes:
        names: Name of a layer in kohya's files to that in diffusers', ``unet.`` or
            ``text_encoder.`` before it.
    """

    def __init__(
        self, places: list[Place], rank: int, alpha: float, base: str, *, dora: bool = False
    ) -> None:
        super().__init__()
        self.rank, self.alpha, self.base = rank, alpha, base
        self.layers = nn.ModuleDict(
            {place.flat: Pair(place, rank, _lengths(place) if dora else None) for place in places}
        )
        self.names = {place.flat: place.dotted for place in places}

    def deltas(self) -> Iterator[tuple[str, Delta]]:
        """Yield the change of each layer, by its name in kohya's files."""
        return ((name, pair.delta(self.alpha)) for name, pair in self.layers.items())

    def attach(
        self, model: nn.Module, scale: Scale = 1.0, *, text_scale: Scale | None = None
    ) -> LoRAHandle:
        """Let a model compute with the present parameters; gradients flow to them alone.

        The model's own parameters stop to require gradients until the handle's ``detach``.

        Raises:
            UserError: The model has other layers, or a scale cannot be used.
        """
        places = {place.flat: place for place in Places(model)}
        lost = next((n for n, p in self.layers.items() if not _fits(p, places.get(n))), None)
        if lost is not None:
            raise UserError(
                f"the LoRA's layer {lost} is not in the model, or has another shape there; "
                "expected the model that new_lora was given, or one of its kind; give that"
            )
        bounds = [Bound(places[name], delta, None, trains=True) for name, delta in self.deltas()]
        return _TrainingHandle(model, bounds, scale, text_scale)


class _TrainingHandle(LoRAHandle):
    """A LoRA in training on a model whose own parameters are frozen."""

    def __init__(self, model: nn.Module, *args: Any) -> None:
        self._frozen = [p for p in model.parameters() if p.requires_grad]
        super().__init__(model, *args)
        for parameter in self._frozen:
            parameter.requires_grad_(False)

    def _release(self) -> None:
        super()._release()
        for parameter in self._frozen:
            parameter.requires_grad_(True)


def new_lora(
    model: nn.Module,
    rank: int,
    alpha: float | None = None,
    *,
    unet: bool = True,
    text: bool = True,
    conv: bool = False,
    dora: bool = False,
    only: str | None = None,
) -> TrainableLoRA:
    """Make a LoRA that changes nothing yet.

    Args:
        model: The hub.
        rank: The rank of every layer's change.
        alpha: The change is multiplied by alpha / rank; None is the rank.
        unet: Whether the UNet's attentions and feed-forwards are changed.
        text: Whether the text encoder's are; without one this is none.
        conv: Whether the UNet's convolutions are changed too (LoCon).
        dora: Whether the lengths of the weights' rows are trained beside (DoRA).
        only: A regular expression that is looked for in the layers' dotted names, as diffusers'
            files have them (``unet.up_blocks.2.resnets.0.conv1``): the others are left out.

    Raises:
        UserError: A rank, an alpha or an expression that cannot be, or nothing to change.
    """
    if rank < 1:
        raise UserError(f"rank {rank} given for a LoRA; expected 1 or more; give such as 8")
    alpha = float(rank) if alpha is None else float(alpha)
    if not (math.isfinite(alpha) and alpha > 0):
        raise UserError(f"alpha {alpha} given for a LoRA; expected a number above 0; give the rank")
    chosen = [place for place in Places(model) if _is_chosen(place, unet, text, conv)]
    if not chosen:
        raise UserError(
            "the model has no layer that the LoRA would change; expected attention in the UNet or "
            "in the text encoder; choose unet, text or conv"
        )
    if only is not None:
        chosen = _named_by(only, chosen)
    return TrainableLoRA(chosen, rank, alpha, base_of_model(model), dora=dora)


def _is_chosen(place: Place, unet: bool, text: bool, conv: bool) -> bool:
    if len(place.shape) < 2:
        return False
    if place.part == "text":
        return text and place.name.endswith(_TEXT)
    if not unet:
        return False
    if ".transformer_blocks." in place.name:
        return place.name.endswith(_TRANSFORMER)
    if ".attentions." in place.name:
        return place.name.endswith(_AROUND)
    return conv and place.name.endswith((*_CONVOLUTIONS, *_RESCALERS))


def _named_by(only: str, places: list[Place]) -> list[Place]:
    """Return the places whose dotted names an expression is found in.

    Raises:
        UserError: It is no expression, or found in none.
    """
    try:
        wanted = re.compile(only)
    except re.error as error:
        raise UserError(
            f"only {only!r} given for a LoRA ({error}); expected a regular expression for names of "
            r"layers, such as 'up_blocks\.2'; correct it"
        ) from None
    found = [place for place in places if wanted.search(place.dotted)]
    if not found:
        raise UserError(
            f"only {only!r} given for a LoRA fits none of its {len(places)} layers; expected a "
            f"part of names such as {places[0].dotted}; correct it"
        )
    return found


def _lengths(place: Place) -> Tensor:
    """Return the lengths of a weight's rows, (out, 1, ...)."""
    weight = original_of(place.module, place.entry).detach()
    weight = weight if place.rows is None else weight[place.rows]
    return weight.float().flatten(1).norm(dim=1).reshape(-1, *[1] * (weight.ndim - 1))


def _fits(pair: Pair, place: Place | None) -> bool:
    return place is not None and pair.delta(1.0).fits(place.shape)
