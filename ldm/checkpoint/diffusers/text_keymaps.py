"""Translate a text encoder's weight names to transformers' CLIPTextModel and back.

Two encoders have a counterpart there: CLIP's under its classic names (``transformer.text_model.*``,
Stable Diffusion 1), and open_clip's (``model.*``, Stable Diffusion 2), which joins the query, key
and value projections in one matrix. Names are relative, below ``cond_stage_model.``.

All functions take and return plain dicts of tensors (meta tensors included) and do not modify
their input.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor

from ldm.errors import UserError

State = dict[str, Tensor]
TextKind = Literal["clip", "open_clip"]

CLIP_PREFIX = "transformer.text_model."
OPEN_CLIP_PREFIX = "model."
# transformers below 5.6, and its files of any release, name everything below text_model.
THEIR_PREFIX = "text_model."

OPEN_CLIP_ENDS = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
# Inside one block.
OPEN_CLIP_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
OPEN_CLIP_PROJECTIONS = ("q_proj", "k_proj", "v_proj")  # their order in in_proj_weight
# The conditioning does not depend on these, and a folder has no place for them.
OPEN_CLIP_UNUSED = ("text_projection", "logit_scale")


def text_kind(names: Iterable[str]) -> TextKind | None:
    """Tell from CompVis's names which encoder weights belong to; None for neither."""
    starts = {CLIP_PREFIX: "clip", f"{OPEN_CLIP_PREFIX}transformer.resblocks.": "open_clip"}
    found = [kind for name in names for start, kind in starts.items() if name.startswith(start)]
    return found[0] if found else None


def clip_to_transformers(state: Mapping[str, Tensor], *, flat: bool = False) -> State:
    """Name a CLIP text encoder's weights as transformers' CLIPTextModel does.

    Args:
        state: Weights by CompVis's names (``transformer.text_model.*``).
        flat: Without the inner ``text_model.``, as releases from 5.6 name their own modules.
    """
    prefix = CLIP_PREFIX if flat else CLIP_PREFIX.removesuffix(THEIR_PREFIX)
    return {name.removeprefix(prefix): value for name, value in state.items()}


def clip_from_transformers(state: Mapping[str, Tensor]) -> State:
    """Name the weights of transformers' CLIPTextModel, of any release, as CompVis does."""
    return {CLIP_PREFIX + name: value for name, value in _weights(state).items()}


def open_clip_to_transformers(
    state: Mapping[str, Tensor], layers: int, *, flat: bool = False
) -> tuple[State, State]:
    """Name an open_clip text tower's weights as transformers' CLIPTextModel does.

    Args:
        state: Weights by open_clip's names (``model.transformer.resblocks.*``).
        layers: Blocks that the conditioning uses: all, or all but the last for the penultimate.
        flat: See ``clip_to_transformers``.

    Returns:
        The weights under transformers' names, and under their own names those that have no place
        there: the blocks above, the projection to the shared embedding, anything else.
    """
    table = _open_clip_table(layers)
    prefix = "" if flat else THEIR_PREFIX
    placed: State = {}
    rest: State = {}
    for name, value in state.items():
        own = name.removeprefix(OPEN_CLIP_PREFIX)
        module, _, kind = own.rpartition("in_proj_")
        if own in table:
            placed[prefix + table[own]] = value
        elif kind and f"{module}in_proj" in table:
            there = prefix + table[f"{module}in_proj"]
            for part, piece in zip(OPEN_CLIP_PROJECTIONS, value.chunk(3), strict=True):
                placed[f"{there}.{part}.{kind}"] = piece
        else:
            rest[name] = value
    return placed, rest


def open_clip_from_transformers(state: Mapping[str, Tensor]) -> State:
    """Name the weights of transformers' CLIPTextModel, of any release, as open_clip does.

    Raises:
        UserError: A weight has no place, or a block has only some of its projections.
    """
    weights = _weights(state)
    layers = count_layers(weights)
    there = _open_clip_table(layers)
    table = {theirs: ours for ours, theirs in there.items()}
    renamed: State = {}
    for name, value in weights.items():
        module, _, kind = name.rpartition(".")
        attention, _, part = module.rpartition(".")
        if name in table:
            renamed[OPEN_CLIP_PREFIX + table[name]] = value
        elif part not in OPEN_CLIP_PROJECTIONS or attention not in table:
            raise UserError(
                f"the text encoder's weight {name} has no place in open_clip's text tower; "
                "expected those of transformers' CLIPTextModel; give the weights of one"
            )
        elif (joined := f"{OPEN_CLIP_PREFIX}{table[attention]}_{kind}") not in renamed:
            renamed[joined] = _joined(weights, attention, kind)
    return renamed


def stand_ins(state: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]]) -> State:
    """Make stand-ins for the weights of an open_clip text tower that transformers leaves out.

    A block of zeros adds zero to its input, so the states pass through it unchanged. The
    conditioning depends neither on these blocks nor on the projection to the shared embedding.

    Args:
        state: The weights at hand, by open_clip's names.
        wanted: Name to shape of the weights that the tower needs.

    Returns:
        The missing blocks above the last one, ``text_projection`` and ``logit_scale``, as zeros
        of the other weights' type. Weights missing anywhere else get no stand-in.
    """
    last = count_layers(state)
    made: State = {}
    for name, shape in wanted.items():
        own = name.removeprefix(OPEN_CLIP_PREFIX)
        if name not in state and (_layer_of(own, -1) >= last or own in OPEN_CLIP_UNUSED):
            like = next(iter(state.values()))
            made[name] = torch.zeros(shape, dtype=like.dtype, device=like.device)
    return made


def count_layers(state: Mapping[str, Tensor]) -> int:
    """Count the blocks of a text encoder by the names of either layout."""
    return 1 + max((_layer_of(name, -1) for name in state), default=-1)


def _layer_of(name: str, default: int) -> int:
    pieces = name.split(".")
    numbers = [
        int(after)
        for before, after in zip(pieces, pieces[1:], strict=False)
        if before in ("resblocks", "layers") and after.isdecimal()
    ]
    return numbers[0] if numbers else default


def _weights(state: Mapping[str, Tensor]) -> State:
    return {
        name.removeprefix(THEIR_PREFIX): value
        for name, value in state.items()
        if not name.endswith("position_ids")
    }


def _open_clip_table(layers: int) -> dict[str, str]:
    """Map open_clip's names to transformers'; joined projections map to their common stem."""
    table = dict(OPEN_CLIP_ENDS)
    for layer in range(layers):
        here, there = f"transformer.resblocks.{layer}", f"encoder.layers.{layer}"
        table[f"{here}.attn.in_proj"] = f"{there}.self_attn"
        for ours, theirs in OPEN_CLIP_BLOCK.items():
            for kind in ("weight", "bias"):
                table[f"{here}.{ours}.{kind}"] = f"{there}.{theirs}.{kind}"
    return table


def _joined(weights: Mapping[str, Tensor], attention: str, kind: str) -> Tensor:
    names = [f"{attention}.{part}.{kind}" for part in OPEN_CLIP_PROJECTIONS]
    absent = [name for name in names if name not in weights]
    if absent:
        raise UserError(
            f"the text encoder lacks {', '.join(absent)}; expected the projections of queries, "
            "keys and values together; give a complete folder"
        )
    return torch.cat([weights[name] for name in names])
