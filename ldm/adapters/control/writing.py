"""Write ControlNets and T2I-Adapters in the layouts that other programs read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ldm.adapters.control.files import CLDM, CONFIG, CONTROL, DIFFUSERS, ORIGINAL, STEM
from ldm.checkpoint.diffusers.control_keymaps import (
    ADAPTER,
    adapter_to_original,
    control_to_diffusers,
)
from ldm.checkpoint.diffusers.to_json import LAYOUT_VERSION, unet_json
from ldm.checkpoint.write import save_safetensors, size_of, whole
from ldm.errors import UserError
from ldm.modules.diffusionmodules.control_net import HINT_WIDTHS, ControlNet
from ldm.modules.diffusionmodules.openaimodel import UNetModel
from ldm.modules.diffusionmodules.t2i_adapter import UNSHUFFLE, T2IAdapter

NET_FORMS, FEATURE_FORMS = (CLDM, DIFFUSERS), (ORIGINAL, DIFFUSERS)
# What diffusers' ControlNetModel takes of a UNet's configuration.
_OF_UNET = (
    "_diffusers_version",
    "act_fn",
    "attention_head_dim",
    "block_out_channels",
    "cross_attention_dim",
    "down_block_types",
    "downsample_padding",
    "flip_sin_to_cos",
    "freq_shift",
    "in_channels",
    "mid_block_scale_factor",
    "norm_eps",
    "norm_num_groups",
    "resnet_time_scale_shift",
    "transformer_layers_per_block",
    "upcast_attention",
    "use_linear_projection",
)


def write_control(
    network: ControlNet | T2IAdapter,
    path: str | Path,
    form: str,
    header: Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write a network that was trained, whole or not at all.

    Args:
        network: The ControlNet or T2I-Adapter.
        path: A safetensors file, or for ``diffusers`` a folder; what is there is replaced.
        form: For a ControlNet ``cldm``, for a T2I-Adapter ``TencentARC``, or ``diffusers``.
        header: Entries of the file's header.
        dtype: Type of the numbers in the file; None keeps theirs.

    Returns:
        The path.

    Raises:
        UserError: The form is none of these, diffusers has no such network, or it cannot be
            written.
    """
    path, is_net = Path(path), isinstance(network, ControlNet)
    check_form(form, is_net)
    state = {
        n: v.detach().cpu().to(dtype=dtype).contiguous() for n, v in network.state_dict().items()
    }
    entries = {"format": "pt", **(header or {})}
    if form != DIFFUSERS:
        named = _own_names(state, network)
        with whole(path, size_of(named)) as part:
            save_safetensors(named, part, entries)
        return path
    named, config = _for_diffusers(state, network)
    with whole(path, size_of(named)) as part:
        part.mkdir()
        text = json.dumps(config, indent=2, sort_keys=True)
        (part / CONFIG).write_text(f"{text}\n", encoding="utf-8")
        save_safetensors(named, part / f"{STEM}.safetensors", entries)
    return path


def check_form(form: str, is_net: bool) -> None:
    """Refuse an unknown form.

    Raises:
        UserError: It is none that ``write_control`` writes.
    """
    forms = NET_FORMS if is_net else FEATURE_FORMS
    if form not in forms:
        kind = "ControlNet" if is_net else "T2I-Adapter"
        raise UserError(f"form {form!r} of a {kind} given; expected one of {', '.join(forms)}")


def _own_names(state: Mapping[str, Tensor], network: ControlNet | T2IAdapter) -> dict[str, Tensor]:
    if isinstance(network, ControlNet):
        return {f"{CONTROL}{name}": value for name, value in state.items()}
    return adapter_to_original(state, network.blocks, light=network.light)


def _for_diffusers(
    state: Mapping[str, Tensor], network: ControlNet | T2IAdapter
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return weights and ``config.json`` of diffusers' ControlNetModel or T2IAdapter."""
    if isinstance(network, ControlNet):
        return control_to_diffusers(state, described(network)), _net_json(network)
    widths = list(network.widths)
    if network.light:
        # diffusers repeats the last width for one level more.
        if widths[-1:] != widths[-2:-1]:
            raise UserError(
                f"a light T2I-Adapter of widths {widths} given for diffusers, whose last two are "
                "equal; write it in form 'TencentARC'"
            )
        widths = widths[:-1]
    config = {
        "_class_name": "T2IAdapter",
        "_diffusers_version": LAYOUT_VERSION,
        "adapter_type": "light_adapter" if network.light else "full_adapter",
        "channels": widths,
        "downscale_factor": UNSHUFFLE,
        "in_channels": network.channels,
        "num_res_blocks": network.blocks,
    }
    return {f"{ADAPTER}{name}": value for name, value in state.items()}, config


def described(unet: UNetModel) -> dict[str, Any]:
    """Return the parameters of a UNet that its names and its JSON in diffusers depend on."""
    made, levels = unet.factory, unet.layout.levels
    return {
        "in_channels": unet.in_channels,
        "out_channels": unet.out_channels,
        "model_channels": unet.model_channels,
        "channel_mult": unet.channel_mult,
        "num_res_blocks": [level.res_blocks for level in levels],
        "attention_resolutions": unet.attention_resolutions,
        "use_spatial_transformer": made.context_dim is not None,
        "resblock_updown": unet.resblock_updown,
        "context_dim": made.context_dim,
        "num_heads": made.num_heads,
        "num_head_channels": made.num_head_channels,
        "transformer_depth": made.depth,
        "use_linear_in_transformer": made.use_linear,
        "use_scale_shift_norm": made.use_scale_shift_norm,
    }


def _net_json(network: ControlNet) -> dict[str, Any]:
    described_unet = described(network)
    blocks = set(described_unet["num_res_blocks"])
    if len(blocks) != 1:
        raise UserError(
            f"a ControlNet with {described_unet['num_res_blocks']} residual blocks a level given "
            "for diffusers, which has one number for all; write it in form 'cldm'"
        )
    unet = unet_json(described_unet, network.image_size)
    return {
        "_class_name": "ControlNetModel",
        **{key: unet[key] for key in _OF_UNET},
        "layers_per_block": blocks.pop(),
        "conditioning_channels": network.hint_channels,
        "conditioning_embedding_out_channels": list(HINT_WIDTHS),
        "controlnet_conditioning_channel_order": "rgb",
    }
