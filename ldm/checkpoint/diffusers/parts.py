"""Rename the parts of one file that are in diffusers' layout, after the model's own names.

A diffusers folder has a configuration; here the model's names tell the levels and blocks. This is
for a UNet, an autoencoder or a text encoder alone (``diffusion_pytorch_model.safetensors``), and
for files that join such parts.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor

from ldm.checkpoint.diffusers.keymaps import unet_from_diffusers, vae_from_diffusers
from ldm.checkpoint.diffusers.text_keymaps import open_clip_from_transformers, stand_ins
from ldm.errors import UserError

State = dict[str, Tensor]
Shapes = Mapping[str, tuple[int, ...]]

# The end of one name that tells a part, here and there.
VAE = "encoder.down.0.block.0.conv1.weight", "encoder.down_blocks.0.resnets.0.conv1.weight"
UNET = "input_blocks.1.0.in_layers.2.weight", "down_blocks.0.resnets.0.conv1.weight"
TEXT = (
    "model.transformer.resblocks.0.attn.in_proj_weight",
    "encoder.layers.0.self_attn.q_proj.weight",
)


def from_diffusers(wanted: Shapes, tensors: Mapping[str, Tensor]) -> State:
    """Rename a file's parts that are in diffusers' layout where the model has its own.

    Args:
        wanted: The model's names and shapes.
        tensors: The file's tensors; not modified. Names in any other layout stay as they are.

    Returns:
        All tensors. An open_clip text encoder gets ``stand_ins`` for what diffusers leaves out.
    """
    renamed = dict(tensors)
    # The autoencoder first: the end of its name there is also that of the UNet's.
    for (ours, theirs), convert in ((VAE, _vae), (UNET, _unet), (TEXT, _open_clip)):
        here, there = _prefix(wanted, ours), _prefix(renamed, theirs)
        if here is None or there is None:
            continue
        shapes = {n.removeprefix(here): s for n, s in wanted.items() if n.startswith(here)}
        part = {n.removeprefix(there): v for n, v in renamed.items() if n.startswith(there)}
        rest = {n: v for n, v in renamed.items() if not n.startswith(there)}
        renamed = rest | _converted(convert, shapes, part, here, there)
    return renamed


def _converted(
    convert: Callable[[Shapes, State], State], shapes: Shapes, part: State, here: str, there: str
) -> State:
    try:
        return {here + name: value for name, value in convert(shapes, part).items()}
    except UserError:
        # Another model's: loading it reports what does not fit.
        return {there + name: value for name, value in part.items()}


def _prefix(names: Iterable[str], ending: str) -> str | None:
    """Return what stands before an ending in the first name that has it, at a dot."""
    found = (n.removesuffix(ending) for n in names if n == ending or n.endswith(f".{ending}"))
    return next(found, None)


def _vae(shapes: Shapes, part: State) -> State:
    config = {
        "ch_mult": [1] * _count(shapes, "encoder.down.{}.block.0.conv1.weight"),
        "num_res_blocks": _count(shapes, "encoder.down.0.block.{}.conv1.weight"),
    }
    halves = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
    own = {name: value for name, value in part.items() if name.startswith(halves)}
    others = {name: value for name, value in part.items() if name not in own}
    return others | vae_from_diffusers(own, config)


def _unet(shapes: Shapes, part: State) -> State:
    return unet_from_diffusers(part, unet_config(shapes))


def unet_config(shapes: Shapes) -> dict[str, Any]:
    """Tell from a UNet's names what ``unet_table`` reads of its configuration."""
    depths, attends = [0], [False]
    for block in range(1, _count(shapes, "input_blocks.{}.0.", start=True)):
        if f"input_blocks.{block}.0.op.weight" in shapes:
            depths.append(0)
            attends.append(False)
            continue
        depths[-1] += 1
        attention = f"input_blocks.{block}.1.transformer_blocks."
        attends[-1] |= any(name.startswith(attention) for name in shapes)
    return {
        "channel_mult": [1] * len(depths),
        "num_res_blocks": depths,
        "attention_resolutions": [2**level for level, attend in enumerate(attends) if attend],
        "use_spatial_transformer": any(".transformer_blocks." in name for name in shapes),
    }


def _count(names: Iterable[str], pattern: str, *, start: bool = False) -> int:
    """Count from 0 the numbers for which a name, or with ``start`` its start, is there."""
    present = list(names)

    def is_there(number: int) -> bool:
        name = pattern.format(number)
        return any(each.startswith(name) for each in present) if start else name in present

    return next(number for number in itertools.count() if not is_there(number))


def _open_clip(shapes: Shapes, part: State) -> State:
    state = open_clip_from_transformers(part)
    prefix = "model."
    wanted = {name: shape for name, shape in shapes.items() if name.startswith(prefix)}
    return state | stand_ins(state, wanted)
