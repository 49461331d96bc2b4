"""Write a LoRA as kohya's trainer does, or as diffusers and peft do."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ldm.adapters.lora.alphas import HEADER
from ldm.adapters.lora.deltas import Decomposed, Delta, LowRank
from ldm.adapters.lora.read import LoRA
from ldm.adapters.lora.train import TrainableLoRA
from ldm.checkpoint.write import save_safetensors, size_of, whole
from ldm.errors import UserError
from ldm.paths import at_home

Form = Literal["kohya", "diffusers"]
FORMS = ("kohya", "diffusers")
_KOHYA = {"down": "lora_down.weight", "up": "lora_up.weight", "mid": "lora_mid.weight"}
_KOHYA |= {"ia3": "weight"}
_PEFT = {"down": "lora_A.weight", "up": "lora_B.weight", "dora_scale": "lora_magnitude_vector"}


class _Layer(NamedTuple):
    """What is written of one layer: its names in both forms, and its change."""

    flat: str
    dotted: str
    delta: Delta | None
    bias: Tensor | None = None

    @property
    def alpha(self) -> float | None:
        """Its alpha; None without a rank."""
        rank = None if self.delta is None else self.delta.rank
        return None if rank is None else self.delta.factor * rank


def write_lora(
    lora: LoRA | TrainableLoRA,
    path: str | Path,
    form: Form = "kohya",
    metadata: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write a LoRA as a safetensors file that other programs read.

    Args:
        lora: One that was read with its model, or that has been on one; or one in training.
        path: The file; an existing one is replaced.
        form: Whose names: kohya's, which all programs know, or diffusers'.
        metadata: Further entries of the header; values are written as text.
        dtype: Type of the numbers in the file; None keeps theirs.

    Returns:
        The file.

    Raises:
        UserError: Its layers' names are not known yet, the form has no place for its kind, or the
            file cannot be written.
    """
    path = at_home(path)
    if form not in FORMS:
        raise UserError(f"form {form!r} given; expected one of {', '.join(FORMS)}")
    layers = list(_layers(lora, path))
    tensors, header = _as_kohya(layers, lora) if form == "kohya" else _as_diffusers(layers, path)
    header |= {str(key): str(value) for key, value in (metadata or {}).items()}
    plain = {
        name: v.detach().cpu().to(dtype=dtype).contiguous().clone() for name, v in tensors.items()
    }
    with whole(path, size_of(plain)) as part:
        save_safetensors(plain, part, header)
    return path


def _layers(lora: LoRA | TrainableLoRA, path: Path) -> Iterator[_Layer]:
    if isinstance(lora, TrainableLoRA):
        yield from (_Layer(name, lora.names[name], delta) for name, delta in lora.deltas())
        return
    if not lora.placed:
        raise UserError(
            f"{str(lora.path)!r} cannot be written as {str(path)!r} yet: it was read without a "
            "model, so that its layers' names are not known; read it with read_lora(path, model)"
        )
    for stem, place in lora.placed.items():
        yield _Layer(place.flat, place.dotted, *lora.changes[stem])


def _as_kohya(
    layers: list[_Layer], lora: LoRA | TrainableLoRA
) -> tuple[dict[str, Tensor], dict[str, str]]:
    found: dict[str, Tensor] = {}
    for layer in layers:
        tensors = {} if layer.delta is None else layer.delta.tensors
        for role, value in tensors.items():
            found[f"{layer.flat}.{_KOHYA.get(role, role)}"] = value
        if layer.bias is not None:
            found[f"{layer.flat}.diff_b"] = layer.bias
        if layer.alpha is not None:
            found[f"{layer.flat}.alpha"] = torch.tensor(layer.alpha)
    return found, _kohya_header(layers, lora)


def _kohya_header(layers: list[_Layer], lora: LoRA | TrainableLoRA) -> dict[str, str]:
    """Return the entries by which other programs tell a LoRA, as kohya's trainer writes them."""
    base = lora.base if isinstance(lora, TrainableLoRA) else lora.report.base
    header = {
        "ss_network_module": "networks.lora",
        "ss_v2": str(base == "v2"),
        "ss_base_model_version": {"v1": "sd_v1", "v2": "sd_v2"}.get(base, base),
    }
    ranks = Counter(layer.delta.rank for layer in layers if layer.alpha is not None)
    if not ranks:
        return header
    alphas = Counter(layer.alpha for layer in layers if layer.alpha is not None)
    header["ss_network_dim"] = str(ranks.most_common(1)[0][0])
    header["ss_network_alpha"] = f"{alphas.most_common(1)[0][0]:g}"
    return header


def _as_diffusers(layers: list[_Layer], path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    found: dict[str, Tensor] = {}
    for layer in layers:
        delta = layer.delta
        inner = delta.inner if isinstance(delta, Decomposed) else delta
        if not isinstance(inner, LowRank) or "mid" in inner.tensors or layer.bias is not None:
            kind = "whole" if inner is None else inner.kind
            raise UserError(
                f"output {str(path)!r}: diffusers has no form for the {kind} change of "
                f"{layer.flat}; expected LoRA's pairs alone; write it in form 'kohya'"
            )
        for role, value in delta.tensors.items():
            lengths = role == "dora_scale"
            found[f"{layer.dotted}.{_PEFT[role]}"] = _lengths(value, path) if lengths else value
    config: dict[str, Any] = {}
    for part in ("unet", "text_encoder"):
        own = [layer for layer in layers if layer.dotted.startswith(f"{part}.")]
        config |= {f"{part}.{key}": value for key, value in _peft_config(own, part).items()}
    return found, {"format": "pt", HEADER: json.dumps(config, indent=2, sort_keys=True)}


def _lengths(value: Tensor, path: Path) -> Tensor:
    """Return lengths of rows as peft has them: (out,), of convolutions (1, out, 1, 1)."""
    if value.ndim > 1 and value.shape[0] == 1 < value.shape[1]:
        raise UserError(
            f"output {str(path)!r}: peft's DoRA has lengths of rows, this LoRA's are of columns; "
            "write it in form 'kohya'"
        )
    return value.reshape(1, -1, 1, 1) if value.ndim == 4 else value.flatten()


def _peft_config(layers: list[_Layer], part: str) -> dict[str, Any]:
    """Return peft's ``LoraConfig`` of one part of the model: the commonest values, and the rest."""
    if not layers:
        return {}
    # Without text_model., which transformers dropped: peft goes by how a layer's name ends.
    own = (layer.dotted.removeprefix(f"{part}.") for layer in layers)
    names = [name.removeprefix("text_model.") for name in own]
    ranks = dict(zip(names, (layer.delta.rank for layer in layers), strict=True))
    alphas = dict(zip(names, (_whole(layer.alpha) for layer in layers), strict=True))
    rank, alpha = (Counter(each.values()).most_common(1)[0][0] for each in (ranks, alphas))
    return {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {name: value for name, value in ranks.items() if value != rank},
        "alpha_pattern": {name: value for name, value in alphas.items() if value != alpha},
        "target_modules": names,
        "use_dora": any(isinstance(layer.delta, Decomposed) for layer in layers),
        "lora_dropout": 0.0,
        "bias": "none",
    }


def _whole(value: float) -> float | int:
    return int(round(value)) if math.isclose(value, round(value)) else value
