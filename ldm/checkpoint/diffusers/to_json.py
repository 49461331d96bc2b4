"""Make a diffusers folder's JSON files from a configuration.

``to_yaml`` is the inverse. A part that diffusers cannot express is an error, never approximated.
Blocks follow from the configuration; no size of a known model is written down here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ldm.checkpoint.diffusers.keymaps import LEVELS
from ldm.checkpoint.diffusers.text_keymaps import text_kind
from ldm.errors import UserError
from ldm.process.schedules import make_beta_schedule
from ldm.settings.samplers import BETA_SCHEDULES

Params = Mapping[str, Any]

LAYOUT_VERSION = "0.35.0"  # of diffusers, whose names these are
CONV_NORM = {"norm_num_groups": 32, "act_fn": "silu"}
SCHEDULERS = {"eps": "PNDMScheduler", "v": "DDIMScheduler", "x0": "DDIMScheduler"}
PREDICTIONS = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}
PIPELINES = {
    "crossattn": "StableDiffusionPipeline",
    "hybrid": "StableDiffusionInpaintPipeline",
}
CLIP_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "hidden_act",
    "layer_norm_eps",
)
# Parameters that change the network and have a single value in diffusers: any other is an error.
UNET_FIXED = {
    "dims": 2,
    "conv_resample": True,
    "resblock_updown": False,
    "use_spatial_transformer": True,
    "num_classes": None,
    "n_embed": None,
    "num_attention_blocks": None,
    "disable_self_attentions": None,
    "disable_middle_self_attn": False,
}
VAE_FIXED = {
    "double_z": True,
    "resamp_with_conv": True,
    "use_linear_attn": False,
    "attn_type": ("vanilla", "none"),
    "give_pre_end": False,
    "tanh_out": False,
}


def folder_configs(
    params: Params, model: nn.Module, scale_factor: float | None = None
) -> dict[str, dict[str, Any]]:
    """Describe a model as a diffusers folder does.

    Args:
        params: ``model.params`` of the configuration, as plain containers.
        model: What it builds; may be on the meta device.
        scale_factor: The file's own, if it holds one.

    Returns:
        Path in the folder to the content of that JSON file.

    Raises:
        UserError: diffusers' Stable Diffusion pipelines do not have such a model.
    """
    unet, ddconfig = _networks(params)
    size = params.get("image_size", 256)
    scale = params.get("scale_factor", 1.0) if scale_factor is None else scale_factor
    pixels = size * 2 ** (len(ddconfig.get("ch_mult", LEVELS)) - 1)
    scheduler = scheduler_json(params)
    tokenizer = "T5Tokenizer" if has_files(model.cond_stage_model) else "CLIPTokenizer"
    return {
        "model_index.json": index_json(params, unet, scheduler["_class_name"], tokenizer),
        "unet/config.json": unet_json(unet, size),
        "vae/config.json": vae_json(ddconfig, pixels, scale),
        "text_encoder/config.json": text_json(model.cond_stage_model),
        "scheduler/scheduler_config.json": scheduler,
    }


def _networks(params: Params) -> tuple[Params, Params]:
    """Return the UNet's parameters and the autoencoder's ddconfig.

    Raises:
        UserError: The model is not a latent diffusion model with a KL autoencoder.
    """
    target = dict(params.get("first_stage_config") or {}).get("target")
    if not str(target).endswith(".AutoencoderKL"):
        raise _no_counterpart(f"first_stage_config.target is {target}", "an AutoencoderKL")
    autoencoder = params["first_stage_config"]["params"]
    embed_dim, z_channels = autoencoder["embed_dim"], autoencoder["ddconfig"]["z_channels"]
    if embed_dim != z_channels:
        raise _no_counterpart(
            f"the autoencoder has embed_dim {embed_dim} and z_channels {z_channels}", "one number"
        )
    return params["unet_config"]["params"], autoencoder["ddconfig"]


def unet_json(unet: Params, size: int) -> dict[str, Any]:
    """Describe a UNet as a UNet2DConditionModel.

    Args:
        unet: ``params`` of the ``UNetModel``.
        size: Side of the latents it was made for.

    Raises:
        UserError: A form that UNet2DConditionModel does not have.
    """
    _check(unet, "unet_config", UNET_FIXED)
    mult = unet.get("channel_mult", LEVELS)
    widths = [unet["model_channels"] * m for m in mult]
    attends = [2**level in unet["attention_resolutions"] for level in range(len(mult))]
    return {
        "_class_name": "UNet2DConditionModel",
        "_diffusers_version": LAYOUT_VERSION,
        "sample_size": size,
        "in_channels": unet["in_channels"],
        "out_channels": unet["out_channels"],
        "block_out_channels": widths,
        "layers_per_block": _blocks(unet["num_res_blocks"]),
        "down_block_types": [f"{'CrossAttn' if a else ''}DownBlock2D" for a in attends],
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "up_block_types": [f"{'CrossAttn' if a else ''}UpBlock2D" for a in reversed(attends)],
        "cross_attention_dim": unet["context_dim"],
        "attention_head_dim": _heads(unet, widths),
        "transformer_layers_per_block": unet.get("transformer_depth", 1),
        "use_linear_projection": unet.get("use_linear_in_transformer", False),
        # Attention scores of SD 2.1 overflow in half precision; float32 does no harm elsewhere.
        "upcast_attention": unet.get("use_linear_in_transformer", False),
        "resnet_time_scale_shift": (
            "scale_shift" if unet.get("use_scale_shift_norm", False) else "default"
        ),
        "dropout": unet.get("dropout", 0.0),
        "center_input_sample": False,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "downsample_padding": 1,
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-5,
        **CONV_NORM,
    }


def _blocks(given: int | Sequence[int]) -> int | list[int]:
    """Return the residual blocks as in the JSON: one number, or a list with one per level."""
    return given if isinstance(given, int) else list(given)


def _heads(unet: Params, widths: Sequence[int]) -> int | list[int]:
    """Return heads per level, which diffusers names ``attention_head_dim``."""
    head_width = unet.get("num_head_channels", -1)
    if head_width == -1:
        return unet["num_heads"]
    return [width // head_width for width in widths]


def vae_json(ddconfig: Params, size: int, scale_factor: float) -> dict[str, Any]:
    """Describe an autoencoder as diffusers' AutoencoderKL.

    Args:
        ddconfig: That of the configuration.
        size: Side of its pictures, in pixels.
        scale_factor: What latents are multiplied by.

    Raises:
        UserError: A form that AutoencoderKL does not have.
    """
    _check(ddconfig, "ddconfig", VAE_FIXED)
    without = ddconfig.get("attn_type", "vanilla") == "none"
    mult = ddconfig.get("ch_mult", LEVELS)
    attends = [
        not without and ddconfig["resolution"] // 2**level in ddconfig["attn_resolutions"]
        for level in range(len(mult))
    ]
    return {
        "_class_name": "AutoencoderKL",
        "_diffusers_version": LAYOUT_VERSION,
        "sample_size": size,
        "in_channels": ddconfig["in_channels"],
        "out_channels": ddconfig["out_ch"],
        "latent_channels": ddconfig["z_channels"],
        "block_out_channels": [ddconfig["ch"] * m for m in mult],
        "layers_per_block": ddconfig["num_res_blocks"],
        "down_block_types": [f"{'Attn' if a else ''}DownEncoderBlock2D" for a in attends],
        "up_block_types": [f"{'Attn' if a else ''}UpDecoderBlock2D" for a in reversed(attends)],
        "mid_block_add_attention": not without,
        "scaling_factor": float(scale_factor),
        **CONV_NORM,
    }


def text_json(conditioner: nn.Module) -> dict[str, Any]:
    """Describe a text encoder as transformers' CLIPTextModel.

    Raises:
        UserError: It is neither of the kinds that ``text_keymaps`` knows.
    """
    kind = text_kind(conditioner.state_dict())
    if kind is None or (kind == "open_clip" and not hasattr(conditioner, "layer")):
        raise _no_counterpart(
            f"the conditioner is {type(conditioner).__name__}", "a CLIP text encoder"
        )
    sizes = _clip_sizes(conditioner) if kind == "clip" else _open_clip_sizes(conditioner)
    return {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        **sizes,
        "projection_dim": _projection(conditioner) or sizes["hidden_size"],
        "attention_dropout": 0.0,
        "dropout": 0.0,
        "initializer_factor": 1.0,
        "initializer_range": 0.02,
        **_token_ids(conditioner, sizes["vocab_size"], kind),
    }


def _token_ids(conditioner: nn.Module, pieces: int, kind: str) -> dict[str, int]:
    """Name the special tokens: CLIP's are its vocabulary's last two, others say their own."""
    if not has_files(conditioner):
        end = pieces - 1
        padding = end if kind == "clip" else 0
        return {"bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": padding}
    tokenizer = conditioner.tokenizer
    if not (tokenizer.do_lower_case and tokenizer.nfkc):
        raise _no_counterpart(
            f"its text encoder has do_lower_case {tokenizer.do_lower_case} and nfkc "
            f"{tokenizer.nfkc}, which a folder has no place for",
            "true for both",
        )
    return {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}


def has_files(conditioner: nn.Module) -> bool:
    """Tell whether a text encoder reads a tokenizer of its own from files, and not CLIP's."""
    return hasattr(type(getattr(conditioner, "tokenizer", None)), "files")


def _projection(conditioner: nn.Module) -> int | None:
    """Return the width of the tower's projection to the shared embedding, if it has one."""
    projection = getattr(getattr(conditioner, "model", None), "text_projection", None)
    return None if projection is None else projection.shape[1]


def _clip_sizes(conditioner: nn.Module) -> dict[str, Any]:
    config = conditioner.transformer.config
    return {name: getattr(config, name) for name in CLIP_SIZES}


def _open_clip_sizes(conditioner: nn.Module) -> dict[str, Any]:
    """Read an open_clip text tower's sizes, without the blocks that conditioning leaves out."""
    tower = conditioner.model
    blocks = tower.transformer.resblocks
    return {
        "vocab_size": tower.token_embedding.weight.shape[0],
        "hidden_size": tower.token_embedding.weight.shape[1],
        "intermediate_size": blocks[0].mlp.c_fc.weight.shape[0],
        "num_hidden_layers": len(blocks) - (conditioner.layer == "penultimate"),
        "num_attention_heads": blocks[0].attn.heads,
        "max_position_embeddings": tower.positional_embedding.shape[0],
        "hidden_act": blocks[0].mlp.activation.__name__,
        "layer_norm_eps": tower.ln_final.eps,
    }


def scheduler_json(params: Params) -> dict[str, Any]:
    """Describe the noise schedule, and how SD samples by it.

    Raises:
        UserError: An unknown parameterization.
    """
    kind = params.get("parameterization", "eps")
    if kind not in SCHEDULERS:
        raise _no_counterpart(f"parameterization is {kind!r}", ", ".join(SCHEDULERS))
    return {
        "_class_name": SCHEDULERS[kind],
        "_diffusers_version": LAYOUT_VERSION,
        **_betas(params),
        "prediction_type": PREDICTIONS[kind],
        # SD's steps begin at 1, and its last one leads to the first alpha, not to 1.
        "steps_offset": 1,
        "set_alpha_to_one": False,
        "timestep_spacing": "leading",
        # Of PNDM's steps SD takes only the PLMS ones; none of its other samplers clips.
        "skip_prk_steps": True,
        "clip_sample": False,
    }


def _betas(params: Params) -> dict[str, Any]:
    """Name the schedule if diffusers has it, else list its betas."""
    schedule = params.get("beta_schedule", "linear")
    known = BETA_SCHEDULES.get(schedule)
    if params.get("given_betas") is not None or known is None or not known.by_ends:
        betas = [float(beta) for beta in betas_of(params)]
        return {"num_train_timesteps": len(betas), "trained_betas": betas}
    return {
        "num_train_timesteps": params.get("timesteps", 1000),
        "beta_start": params.get("linear_start", 1e-4),
        "beta_end": params.get("linear_end", 2e-2),
        "beta_schedule": known.diffusers,
        "trained_betas": None,
    }


def betas_of(params: Params) -> Sequence[float]:
    """Return the noise schedule that a configuration's ``model.params`` describe."""
    given = params.get("given_betas")
    if given is not None:
        return list(given)
    return make_beta_schedule(
        params.get("beta_schedule", "linear"),
        params.get("timesteps", 1000),
        params.get("linear_start", 1e-4),
        params.get("linear_end", 2e-2),
        params.get("cosine_s", 8e-3),
    )


def index_json(params: Params, unet: Params, scheduler: str, tokenizer: str) -> dict[str, Any]:
    """List the parts, without a safety checker, which is not part of a checkpoint.

    Args:
        params: As for ``folder_configs``.
        unet: The UNet's own.
        scheduler: diffusers' class.
        tokenizer: transformers' class.

    Raises:
        UserError: Conditioning, or an input of the UNet, that Stable Diffusion does not have.
    """
    key = params.get("conditioning_key")
    latents = params["first_stage_config"]["params"]["embed_dim"]
    inputs = {"crossattn": latents, "hybrid": 2 * latents + 1}
    if inputs.get(key) != unet["in_channels"]:
        raise _no_counterpart(
            f"conditioning_key is {key!r} and the UNet takes {unet['in_channels']} channels",
            f"crossattn with {latents}, or hybrid with {2 * latents + 1} (inpainting)",
        )
    return {
        "_class_name": PIPELINES[key],
        "_diffusers_version": LAYOUT_VERSION,
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", scheduler],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", tokenizer],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }


def _check(params: Params, where: str, fixed: Params) -> None:
    """Refuse parameters that make a network different from diffusers'."""
    for name, allowed in fixed.items():
        allowed = allowed if isinstance(allowed, tuple) else (allowed,)
        value = params.get(name, allowed[0])
        if value not in allowed:
            expected = " or ".join(str(each) for each in allowed)
            raise _no_counterpart(f"{where} has {name}: {value}", expected)


def _no_counterpart(found: str, expected: str) -> UserError:
    return UserError(
        f"this model has no counterpart among diffusers' Stable Diffusion pipelines: {found}; "
        f"expected {expected}; keep it as one file"
    )
