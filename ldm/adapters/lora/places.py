"""Places of a model that a LoRA can change, under every name that files give them.

A place is a layer with a weight, or those rows of open_clip's joined projection that are the
queries', keys' or values'. Files name it after diffusers' modules or after CompVis's, with dots or
with underscores; the tables of ``ldm.checkpoint.diffusers`` translate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from ldm.adapters.handle import require_unet
from ldm.checkpoint.diffusers.keymaps import module_names, unet_table
from ldm.checkpoint.diffusers.parts import unet_config
from ldm.checkpoint.diffusers.text_keymaps import (
    clip_to_transformers,
    count_layers,
    open_clip_to_transformers,
    text_kind,
)
from ldm.errors import UserError

Part = Literal["unet", "text"]
PREFIXES = (
    "base_model_model_",
    "lora_unet_",
    "lora_te1_",
    "lora_te_",
    "lycoris_unet_",
    "lycoris_te_",
    "lycoris_",
    "text_encoder_",
    "text_encoders_clip_l_",
    "text_encoders_clip_h_",
    "unet_",
    "model_diffusion_model_",
    "diffusion_model_",
    "cond_stage_model_",
)
"""What files put before a layer's name, dots as underscores; several may stand in a row."""
# diffusers' oldest names of the projections of an attention.
_OLDEST = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}
_OLDEST |= {"to_out_0": "to_out"}


@dataclass(frozen=True)
class Place:
    """A weight that can be changed.

    Attributes:
        part: Whether it belongs to the UNet or to the text encoder.
        module: The layer.
        entry: The weight's name in the layer.
        name: The layer's name in diffusers' UNet or transformers' text encoder; our own where
            those have no such layer.
        rows: Rows of the weight; None for all.
    """

    part: Part
    module: nn.Module
    entry: str
    name: str
    rows: slice | None = None

    @property
    def flat(self) -> str:
        """The name in kohya's files."""
        prefix = "lora_unet_" if self.part == "unet" else "lora_te_"
        return prefix + flattened(self.name)

    @property
    def dotted(self) -> str:
        """The name in diffusers' files."""
        return f"{'unet' if self.part == 'unet' else 'text_encoder'}.{self.name}"

    @property
    def bias_entry(self) -> str:
        """The name of the bias in the layer."""
        return self.entry.removesuffix("weight") + "bias"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weight, of these rows alone."""
        shape = getattr(self.module, self.entry).shape
        return tuple(shape) if self.rows is None else (_length(self.rows), *shape[1:])

    @property
    def has_bias(self) -> bool:
        """Whether the layer has a bias."""
        return getattr(self.module, self.bias_entry, None) is not None

    def run(self, x: Tensor, weight: Tensor | None, bias: Tensor | None = None) -> Tensor:
        """Compute what the layer would with another weight, of these rows, and another bias."""
        if isinstance(self.module, (nn.Conv1d, nn.Conv2d)):
            if weight is None:
                return bias.view(-1, *[1] * (x.ndim - 2))
            return self.module._conv_forward(x, weight, bias)
        if isinstance(self.module, nn.GroupNorm):
            plain = F.group_norm(x.float(), self.module.num_groups, eps=self.module.eps)
            return _affine(plain, weight, bias, axis=1).to(x.dtype)
        if isinstance(self.module, nn.LayerNorm):
            plain = F.layer_norm(x, self.module.normalized_shape, eps=self.module.eps)
            return _affine(plain, weight, bias, axis=-1)
        return bias if weight is None else F.linear(x, weight, bias)


def _affine(plain: Tensor, weight: Tensor | None, bias: Tensor | None, axis: int) -> Tensor:
    shape = [1] * plain.ndim
    shape[axis] = plain.shape[axis]
    out = plain.new_zeros(()) if weight is None else plain * weight.view(shape)
    return out if bias is None else out + bias.view(shape)


def _length(rows: slice) -> int:
    return rows.stop - rows.start


def flattened(name: str) -> str:
    """Return a layer's name with underscores for dots, and without diffusers' old processors."""
    return name.replace(".processor.", ".").replace(".", "_")


class Places:
    """All places of a model.

    Args:
        model: The hub, or a UNet alone.

    Raises:
        UserError: It has no UNet of ours.
    """

    def __init__(self, model: nn.Module) -> None:
        self.unet = list(_in_unet(require_unet(model)))
        conditioner = getattr(model, "cond_stage_model", None)
        self.text = list(_in_text(conditioner)) if isinstance(conditioner, nn.Module) else []
        self._by_name: dict[str, Place] = {}
        for place, *names in (*self.unet, *self.text):
            for name in map(flattened, names):
                self._by_name[name] = place
                for now, before in _OLDEST.items():
                    if name.endswith(f"_{now}"):
                        self._by_name.setdefault(name.removesuffix(now) + before, place)

    def __iter__(self) -> Iterator[Place]:
        return (place for place, *_ in (*self.unet, *self.text))

    def find(self, stem: str) -> Place | None:
        """Return the place of a name in a file, of any spelling; None if the model has none."""
        name = flattened(stem)
        while name not in self._by_name:
            prefix = next((each for each in PREFIXES if name.startswith(each)), None)
            if prefix is None:
                return None
            name = name.removeprefix(prefix)
        return self._by_name[name]


def _in_unet(unet: nn.Module) -> Iterator[tuple[Any, ...]]:
    """Yield each place of a UNet and its names, in the order of its modules."""
    shapes = {name: tuple(value.shape) for name, value in unet.named_parameters()}
    layers = dict(unet.named_modules())
    weights = [name.removesuffix(".weight") for name in shapes if name.endswith(".weight")]
    owners = [name for name in weights if not isinstance(layers[name], nn.Embedding)]
    try:
        names = module_names(owners, unet_table(unet_config(shapes)))
    except UserError:  # none of diffusers' UNets: its layers have their own names alone
        names = {}
    for owner in owners:
        theirs = names.get(owner, owner)
        yield Place("unet", layers[owner], "weight", theirs), theirs, owner


def _in_text(conditioner: nn.Module) -> Iterator[tuple[Any, ...]]:
    """Yield each place of a text encoder and its names."""
    modules = dict(conditioner.named_modules())
    for theirs, own in _text_names(conditioner).items():
        owner, _, entry = own.name.rpartition(".")
        if not entry.endswith("weight") or isinstance(modules[owner], nn.Embedding):
            continue
        name = theirs.removesuffix(".weight")
        place = Place("text", modules[owner], entry, name, own.rows)
        yield place, name, name.removeprefix("text_model."), *([] if own.rows else [owner])


def _text_names(conditioner: nn.Module) -> Mapping[str, _Rows]:
    own = {n: _Rows(n, len(v) if v.ndim else 0) for n, v in conditioner.named_parameters()}
    kind = text_kind(own)
    if kind == "clip":
        return clip_to_transformers(own)
    if kind == "open_clip":
        return open_clip_to_transformers(own, count_layers(own))[0]
    return {}


@dataclass(frozen=True)
class _Rows:
    """Stands for a weight while its name is translated; a joined one is cut in chunks."""

    name: str
    count: int
    rows: slice | None = None

    def chunk(self, pieces: int) -> list[_Rows]:
        each = self.count // pieces
        starts = range(0, each * pieces, each)
        return [_Rows(self.name, each, slice(start, start + each)) for start in starts]
