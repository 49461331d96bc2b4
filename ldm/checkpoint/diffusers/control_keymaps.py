"""Translate the names of ControlNets' and T2I-Adapters' weights between their published layouts.

Ours are cldm's for a ControlNet and diffusers' for a T2I-Adapter. No function modifies its input.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ldm.checkpoint.diffusers.keymaps import (
    LEVELS,
    State,
    Table,
    blocks_per_level,
    translate,
    translate_known,
    unet_table,
)

HINT_CONVS = 8
ADAPTER = "adapter."


def control_table(config: Mapping[str, Any]) -> Table:
    """Build the table of a ControlNet: cldm's module names to diffusers'.

    Args:
        config: As ``unet_table`` reads it, of the UNet that it is a copy of.

    Raises:
        UserError: A form that diffusers does not have.
    """
    second = ("output_blocks.", "out.")
    table = {ours: name for ours, name in unet_table(config).items() if not ours.startswith(second)}
    levels = len(config.get("channel_mult", LEVELS))
    skips = sum(blocks_per_level(config["num_res_blocks"], levels)) + levels
    table |= {f"zero_convs.{i}.0": f"controlnet_down_blocks.{i}" for i in range(skips)}
    table["middle_block_out.0"] = "controlnet_mid_block"
    there = ["conv_in", *(f"blocks.{i}" for i in range(HINT_CONVS - 2)), "conv_out"]
    hint = {f"input_hint_block.{2 * i}": name for i, name in enumerate(there)}
    return table | {ours: f"controlnet_cond_embedding.{name}" for ours, name in hint.items()}


def control_from_diffusers(
    state: Mapping[str, Tensor], config: Mapping[str, Any]
) -> tuple[State, list[str]]:
    """Name the weights of diffusers' ControlNetModel as cldm does.

    Args:
        state: Weights by diffusers' names.
        config: See ``control_table``.

    Returns:
        The weights, and the names that there is no place for.
    """
    return translate_known(state, control_table(config))


def control_to_diffusers(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> State:
    """Name a ControlNet's weights as diffusers' ControlNetModel does; see ``control_table``."""
    return translate(state, control_table(config))


def adapter_from_original(state: Mapping[str, Tensor], levels: int) -> State:
    """Name a T2I-Adapter's weights as diffusers does, without its ``adapter.``.

    The original counts the full adapter's residual blocks through all levels; a level's ``in_conv``
    belongs to its first. It calls the light adapter's blocks ``body``.

    Args:
        state: Weights by either's names.
        levels: How many levels it has.
    """
    plain = {name.removeprefix(ADAPTER): value for name, value in state.items()}
    through = sum(bool(re.fullmatch(r"body\.\d+\.block1\.weight", name)) for name in plain)
    return {_adapter_name(name, through // levels): value for name, value in plain.items()}


def _adapter_name(name: str, blocks: int) -> str:
    """Return diffusers' name; ``blocks`` are a level's, 0 where they are not counted through."""
    if found := re.fullmatch(r"body\.(\d+)\.body\.(.+)", name):
        return f"body.{found[1]}.resnets.{found[2]}"
    found = re.fullmatch(r"body\.(\d+)\.(block[12]|in_conv)\.(.+)", name)
    if not found or not blocks:
        return name
    level, block = divmod(int(found[1]), blocks)
    if found[2] == "in_conv":
        return name if block else f"body.{level}.in_conv.{found[3]}"
    return f"body.{level}.resnets.{block}.{found[2]}.{found[3]}"


def adapter_to_original(state: Mapping[str, Tensor], blocks: int, *, light: bool) -> State:
    """Name a T2I-Adapter's weights as the original does: undo ``adapter_from_original``.

    Args:
        state: Weights by diffusers' names, without ``adapter.``.
        blocks: Residual blocks of a level.
        light: Whether it is the light adapter.
    """
    if light:
        return {name.replace(".resnets.", ".body."): value for name, value in state.items()}
    return {_original_name(name, blocks): value for name, value in state.items()}


def _original_name(name: str, blocks: int) -> str:
    if found := re.fullmatch(r"body\.(\d+)\.resnets\.(\d+)\.(.+)", name):
        return f"body.{int(found[1]) * blocks + int(found[2])}.{found[3]}"
    if found := re.fullmatch(r"body\.(\d+)\.in_conv\.(.+)", name):
        return f"body.{int(found[1]) * blocks}.in_conv.{found[2]}"
    return name
