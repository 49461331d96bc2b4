"""Translate weight names between CompVis's layout (ours) and diffusers' or optimizedSD's.

The optimizedSD fork splits the UNet into two halves; ``text_keymaps`` translates the text
encoder's names to transformers'.

A table maps the name of a module in one layout to its name in the other; a weight's name is
translated by its longest module name in the table. All functions take and return plain dicts of
tensors (meta tensors included) and do not modify their input; values are shared, not copied.

Names within a component are relative: ``input_blocks.0.0.weight`` for the UNet (below
``model.diffusion_model.``), ``encoder.conv_in.weight`` for the VAE (below ``first_stage_model.``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from ldm.errors import UserError

State = dict[str, Tensor]
Table = dict[str, str]

PARTS = {
    "unet": "model.diffusion_model.",
    "vae": "first_stage_model.",
    "text_encoder": "cond_stage_model.",
}

LEVELS = (1, 2, 4, 8)  # default channel multipliers of UNet and autoencoder

# Inside one block: CompVis's name to diffusers'.
UNET_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
VAE_RESNET = {
    "norm1": "norm1",
    "conv1": "conv1",
    "norm2": "norm2",
    "conv2": "conv2",
    "nin_shortcut": "conv_shortcut",
}
VAE_ATTENTION = {
    "norm": "group_norm",
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "proj_out": "to_out.0",
}
# diffusers before 0.17.
VAE_ATTENTION_OLD = {
    "norm": "group_norm",
    "q": "query",
    "k": "key",
    "v": "value",
    "proj_out": "proj_attn",
}
UNET_ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
VAE_ENDS = ("conv_in", "conv_norm_out", "conv_out")

# A whole checkpoint's UNet and its halves in the optimizedSD fork. The fork puts class labels into
# the second half, which does not use them; here they go with the time embedding.
UNET_HALVES = {
    f"model.diffusion_model.{part}": f"{half}.diffusion_model.{part}"
    for half, parts in {
        "model1": ("time_embed", "label_emb", "input_blocks", "middle_block"),
        "model2": ("output_blocks", "out", "id_predictor"),
    }.items()
    for part in parts
}


def unet_table(config: Mapping[str, Any]) -> Table:
    """Build the table of a UNet with spatial transformers.

    Args:
        config: ``params`` of a ``UNetModel``: ``channel_mult``, ``num_res_blocks`` (one number,
            or one per level) and ``attention_resolutions`` (downsampling factors) are read.

    Raises:
        UserError: A form that diffusers' UNet2DConditionModel does not have.
    """
    if not config.get("use_spatial_transformer", False) or config.get("resblock_updown", False):
        raise UserError(
            "this UNet has no counterpart in diffusers: expected use_spatial_transformer: true "
            "and no resblock_updown; its weights cannot be translated"
        )
    levels = len(config.get("channel_mult", LEVELS))
    depths = blocks_per_level(config["num_res_blocks"], levels)
    attends = [2**level in config["attention_resolutions"] for level in range(levels)]
    table = dict(UNET_ENDS)
    for i, kind in enumerate(("resnets.0", "attentions.0", "resnets.1")):
        names = UNET_RESNET if kind.startswith("resnets") else None
        table |= _block(f"middle_block.{i}", f"mid_block.{kind}", names)
    for level in range(levels):
        table |= _unet_down(level, depths, attends[level])
        table |= _unet_up(level, depths[::-1], attends[levels - 1 - level])
    return table


def blocks_per_level(given: int | Sequence[int], levels: int) -> list[int]:
    """Return the residual blocks of each level, finest first, from one number or one per level."""
    return [given] * levels if isinstance(given, int) else list(given)


def _unet_down(level: int, depths: Sequence[int], attends: bool) -> Table:
    depth, last = depths[level], level == len(depths) - 1
    first, there = 1 + sum(depths[:level]) + level, f"down_blocks.{level}"
    table: Table = {}
    for j in range(depth):
        here = f"input_blocks.{first + j}"
        table |= _block(f"{here}.0", f"{there}.resnets.{j}", UNET_RESNET)
        if attends:
            table |= _block(f"{here}.1", f"{there}.attentions.{j}")
    if not last:
        table[f"input_blocks.{first + depth}.0.op"] = f"{there}.downsamplers.0.conv"
    return table


def _unet_up(level: int, depths: Sequence[int], attends: bool) -> Table:
    """Table of an upward level, counted from the bottom; it has one block more than downward."""
    depth, last = depths[level], level == len(depths) - 1
    first, there = sum(depths[:level]) + level, f"up_blocks.{level}"
    table: Table = {}
    for j in range(depth + 1):
        here = f"output_blocks.{first + j}"
        table |= _block(f"{here}.0", f"{there}.resnets.{j}", UNET_RESNET)
        if attends:
            table |= _block(f"{here}.1", f"{there}.attentions.{j}")
    if not last:
        # After the block's attention, if it has one.
        upsample = f"output_blocks.{first + depth}.{2 if attends else 1}.conv"
        table[upsample] = f"{there}.upsamplers.0.conv"
    return table


def module_names(modules: Iterable[str], table: Table) -> dict[str, str]:
    """Return the name in the other layout of each module that a table has a name for."""
    found = ((name, _module_in(f"{name}.", table)) for name in modules)
    return {name: table[at] + name.removeprefix(at) for name, at in found if at is not None}


def vae_table(config: Mapping[str, Any], *, old_names: bool = False) -> Table:
    """Build the table of a KL autoencoder.

    Args:
        config: Its ``ddconfig``: ``ch_mult`` and ``num_res_blocks`` are read.
        old_names: Name the attention as diffusers did before 0.17 (query, key, value, proj_attn).
    """
    levels, depth = len(config.get("ch_mult", LEVELS)), int(config["num_res_blocks"])
    attention = VAE_ATTENTION_OLD if old_names else VAE_ATTENTION
    table = {"quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv"}
    for half in ("encoder", "decoder"):
        names = zip(("conv_in", "norm_out", "conv_out"), VAE_ENDS, strict=True)
        table |= {f"{half}.{ours}": f"{half}.{theirs}" for ours, theirs in names}
        middle = f"{half}.mid_block"
        table |= _block(f"{half}.mid.block_1", f"{middle}.resnets.0", VAE_RESNET)
        table |= _block(f"{half}.mid.attn_1", f"{middle}.attentions.0", attention)
        table |= _block(f"{half}.mid.block_2", f"{middle}.resnets.1", VAE_RESNET)
    for level in range(levels):
        # CompVis numbers both halves' levels from full size; diffusers numbers them in run order.
        down = f"encoder.down.{level}", f"encoder.down_blocks.{level}"
        up = f"decoder.up.{level}", f"decoder.up_blocks.{levels - 1 - level}"
        table |= _vae_level(*down, depth, attention) | _vae_level(*up, depth + 1, attention)
        table[f"{down[0]}.downsample.conv"] = f"{down[1]}.downsamplers.0.conv"
        table[f"{up[0]}.upsample.conv"] = f"{up[1]}.upsamplers.0.conv"
    return table


def _vae_level(here: str, there: str, blocks: int, attention: Mapping[str, str]) -> Table:
    table: Table = {}
    for j in range(blocks):
        table |= _block(f"{here}.block.{j}", f"{there}.resnets.{j}", VAE_RESNET)
        table |= _block(f"{here}.attn.{j}", f"{there}.attentions.{j}", attention)
    return table


def _block(here: str, there: str, inner: Mapping[str, str] | None = None) -> Table:
    """Table of one block; without ``inner``, the names inside it are the same in both layouts."""
    if inner is None:
        return {here: there}
    return {f"{here}.{ours}": f"{there}.{theirs}" for ours, theirs in inner.items()}


def unet_to_diffusers(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> State:
    """Name a UNet's weights as diffusers' UNet2DConditionModel does.

    Args:
        state: Weights by CompVis's names.
        config: See ``unet_table``.

    Raises:
        UserError: A name that the configuration does not have.
    """
    return _translate(state, unet_table(config))


def unet_from_diffusers(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> State:
    """Name the weights of diffusers' UNet2DConditionModel as CompVis does."""
    return _translate(state, _inverse(unet_table(config)))


def vae_to_diffusers(
    state: Mapping[str, Tensor], config: Mapping[str, Any], *, old_names: bool = False
) -> State:
    """Name an autoencoder's weights as diffusers' AutoencoderKL does.

    The attention's 1x1 convolutions become linear layers: (C, C, 1, 1) -> (C, C).

    Args:
        state: Weights by CompVis's names.
        config: See ``vae_table``.
        old_names: See ``vae_table``.

    Raises:
        UserError: A name that the configuration does not have.
    """
    table = vae_table(config, old_names=old_names)
    linear = {n: v[..., 0, 0] if _is_vae_projection(n, v, 4) else v for n, v in state.items()}
    return _translate(linear, table)


def vae_from_diffusers(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> State:
    """Name the weights of diffusers' AutoencoderKL, of any release, as CompVis does."""
    old = any(".attentions.0.query." in name for name in state)
    renamed = _translate(state, _inverse(vae_table(config, old_names=old)))
    return {n: v[..., None, None] if _is_vae_projection(n, v, 2) else v for n, v in renamed.items()}


def _is_vae_projection(name: str, value: Tensor, ndim: int) -> bool:
    owner = name.removesuffix(".weight").split(".")
    return (
        value.ndim == ndim
        and owner[-1] in ("q", "k", "v", "proj_out")
        and ("attn_1" in owner or "attn" in owner)
    )


def split_parts(state: Mapping[str, Tensor]) -> dict[str, State]:
    """Split a whole checkpoint into ``unet``, ``vae`` and ``text_encoder``; drop the rest."""
    return {
        part: {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
        for part, prefix in PARTS.items()
    }


def join_parts(parts: Mapping[str, Mapping[str, Tensor]]) -> State:
    """Join components under the names of a whole checkpoint."""
    return {f"{PARTS[part]}{n}": v for part, state in parts.items() for n, v in state.items()}


def split_unet(state: Mapping[str, Tensor]) -> State:
    """Name a whole checkpoint's UNet as the optimizedSD fork does, in two halves.

    Args:
        state: ``model.diffusion_model.*`` become ``model1.*`` and ``model2.*``; the rest stays.

    Raises:
        UserError: A weight of the UNet that belongs to neither half.
    """
    return _translate_below(("model.",), state, UNET_HALVES)


def join_unet(state: Mapping[str, Tensor]) -> State:
    """Name the fork's two halves as one UNet: the inverse of ``split_unet``."""
    return _translate_below(("model1.", "model2."), state, _inverse(UNET_HALVES))


def _translate_below(prefixes: tuple[str, ...], state: Mapping[str, Tensor], table: Table) -> State:
    below = {name: value for name, value in state.items() if name.startswith(prefixes)}
    renamed = dict(zip(below, _translate(below, table), strict=True))
    return {renamed.get(name, name): value for name, value in state.items()}


def _inverse(table: Table) -> Table:
    return {theirs: ours for ours, theirs in table.items()}


def _translate(state: Mapping[str, Tensor], table: Table) -> State:
    unknown = [name for name in state if _module_in(name, table) is None]
    if unknown:
        raise UserError(
            f"{len(unknown)} weights have no place in the configuration ({_few(unknown)}); "
            "expected those of its own levels and blocks; give the weights' own configuration"
        )
    renamed = {}
    for name, value in state.items():
        module = _module_in(name, table)
        renamed[table[module] + name.removeprefix(module)] = value
    return renamed


def translate(state: Mapping[str, Tensor], table: Table) -> State:
    """Name weights as a table says.

    Raises:
        UserError: A name that the table does not have.
    """
    return _translate(state, table)


def translate_known(state: Mapping[str, Tensor], table: Table) -> tuple[State, list[str]]:
    """Give weights of the other layout our names, as far as a table has them.

    Returns:
        The weights by our names, and the names that the table does not have.
    """
    back = _inverse(table)
    unknown = {name for name in state if _module_in(name, back) is None}
    known = {name: value for name, value in state.items() if name not in unknown}
    return _translate(known, back), [name for name in state if name in unknown]


def _module_in(name: str, table: Table) -> str | None:
    """Return the longest module name in the table that a weight's name begins with."""
    pieces = name.split(".")
    candidates: Iterable[str] = (".".join(pieces[:i]) for i in range(len(pieces) - 1, 0, -1))
    return next((module for module in candidates if module in table), None)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
