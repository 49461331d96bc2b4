"""Make a configuration from a diffusers folder's JSON files: the inverse of ``to_json``.

Reads JSON only, no torch and no weights, so that programs know sizes and report mistakes at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ldm.checkpoint.diffusers.json_files import (
    INDEX,
    T5_CLASSES,
    Json,
    Source,
    kept_names,
    read_json,
)
from ldm.errors import UserError
from ldm.paths import is_file
from ldm.settings.samplers import BETA_SCHEDULES

PIPELINES = (
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline",
    # rinna's, which differ from these in the tokenizer alone.
    "JapaneseStableDiffusionPipeline",
    "JapaneseStableDiffusionImg2ImgPipeline",
    "JapaneseStableDiffusionInpaintPipeline",
)
PARAMETERIZATIONS = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
OURS = {entry.diffusers: name for name, entry in BETA_SCHEDULES.items() if entry.diffusers}
# The open_clip tower that Stable Diffusion 2 conditions on: what its class builds by default.
V2_TOWER = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "max_position_embeddings": 77,
    "hidden_act": "gelu",
}
V2_LAYERS = 24
TOWER_SIZES = {
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "mlp": "intermediate_size",
    "context_length": "max_position_embeddings",
    "vocab_size": "vocab_size",
    "activation": "hidden_act",
}
TEXT_SIZES = {  # with transformers' defaults
    "vocab_size": 49408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
END, OPEN_CLIP_PADDING = "<|endoftext|>", "!"
# Entries that change a network and have a single value here, which absent entries get.
UNET_FIXED = {
    "act_fn": "silu",
    "addition_embed_type": None,
    "center_input_sample": False,
    "class_embed_type": None,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "cross_attention_norm": None,
    "downsample_padding": 1,
    "dual_cross_attention": False,
    "encoder_hid_dim": None,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "mid_block_scale_factor": 1,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "norm_eps": 1e-5,
    "norm_num_groups": 32,
    "num_class_embeds": None,
    "only_cross_attention": False,
    "time_cond_proj_dim": None,
    "time_embedding_type": "positional",
}
VAE_FIXED = {
    "act_fn": "silu",
    "latents_mean": None,
    "latents_std": None,
    "norm_num_groups": 32,
    "shift_factor": None,
    "use_post_quant_conv": True,
    "use_quant_conv": True,
}
SCHEDULER_FIXED = {"rescale_betas_zero_snr": False}


def folder_config(path: str | Path) -> DictConfig:
    """Derive the configuration of a diffusers folder's model.

    Args:
        path: The folder.

    Raises:
        UserError: It is not a Stable Diffusion folder, is incomplete, or has a form that this
            project's networks do not have.
    """
    folder = Path(path)
    kind = read_json(folder, INDEX).get("_class_name")
    if kind not in PIPELINES:
        raise UserError(
            f"folder {str(folder)!r} holds a {kind}; expected one of {', '.join(PIPELINES)}; "
            "give another folder"
        )
    source = Source(folder)
    kept = kept_names(folder)
    autoencoder, scale = _autoencoder(source)
    params = {
        **_process(source),
        "first_stage_key": "jpg",
        "cond_stage_key": "txt",
        "image_size": source.number("unet", "sample_size"),
        "channels": autoencoder["params"]["embed_dim"],
        "cond_stage_trainable": False,
        "scale_factor": scale,
        **({"scale_by_std": True} if "scale_factor" in kept else {}),
        **({"learn_logvar": True} if "logvar" in kept else {}),
        "use_ema": False,
        "unet_config": _unet(source),
        "first_stage_config": autoencoder,
        "cond_stage_config": _text_encoder(source, kept),
    }
    target, key = _hub(source, params)
    params["conditioning_key"] = key
    return OmegaConf.create({"model": {"target": target, "params": params}})


def _process(source: Source) -> dict[str, Any]:
    """Describe the noise schedule and what the UNet predicts."""
    source.check("scheduler", SCHEDULER_FIXED)
    kind = source.get("scheduler", "prediction_type", "epsilon")
    if kind not in PARAMETERIZATIONS:
        raise source.wrong("scheduler", "prediction_type", ", ".join(PARAMETERIZATIONS))
    steps = source.number("scheduler", "num_train_timesteps", 1000)
    given = source.get("scheduler", "trained_betas")
    schedule = source.get("scheduler", "beta_schedule", "linear")
    if given is None and schedule not in OURS:
        raise source.wrong("scheduler", "beta_schedule", ", ".join(OURS))
    if given is not None:
        betas = {"given_betas": given, "timesteps": len(given)}
    elif OURS[schedule] == "cosine":
        betas = {"beta_schedule": "cosine", "timesteps": steps}
    else:
        betas = {
            "beta_schedule": OURS[schedule],
            "linear_start": source.get("scheduler", "beta_start", 1e-4),
            "linear_end": source.get("scheduler", "beta_end", 2e-2),
            "timesteps": steps,
        }
    return {**betas, "parameterization": PARAMETERIZATIONS[kind]}


def _unet(source: Source) -> dict[str, Any]:
    source.check("unet", UNET_FIXED)
    width, mult = source.widths("unet")
    plain, attending = ("DownBlock2D", "UpBlock2D"), ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D")
    attends = source.blocks("unet", plain, attending)
    time_shift = source.get("unet", "resnet_time_scale_shift", "default")
    if time_shift not in ("default", "scale_shift"):
        raise source.wrong("unet", "resnet_time_scale_shift", "default or scale_shift")
    params = {
        "image_size": source.number("unet", "sample_size"),
        "in_channels": source.number("unet", "in_channels", 4),
        "out_channels": source.number("unet", "out_channels", 4),
        "model_channels": width,
        "attention_resolutions": [2**level for level, here in enumerate(attends) if here],
        "num_res_blocks": source.numbers("unet", "layers_per_block", len(mult), 2),
        "channel_mult": mult,
        **_heads(source, [width * m for m in mult]),
        "dropout": source.get("unet", "dropout", 0.0),
        "use_scale_shift_norm": time_shift == "scale_shift",
        "use_spatial_transformer": True,
        "use_linear_in_transformer": source.get("unet", "use_linear_projection", False),
        "transformer_depth": source.number("unet", "transformer_layers_per_block", 1),
        "context_dim": source.number("unet", "cross_attention_dim", 1280),
        "legacy": False,
    }
    return {"target": "ldm.modules.diffusionmodules.openaimodel.UNetModel", "params": params}


def _heads(source: Source, widths: Sequence[int]) -> dict[str, int]:
    """Read heads per level: diffusers calls them ``attention_head_dim``."""
    heads = source.get("unet", "attention_head_dim", 8)
    if type(heads) is int:
        return {"num_heads": heads}
    if not isinstance(heads, list) or len(heads) != len(widths):
        raise source.wrong("unet", "attention_head_dim", "a number of heads, or one a level")
    sizes = {width / number for width, number in zip(widths, heads, strict=True)}
    if len(set(heads)) == 1:
        return {"num_heads": heads[0]}
    if len(sizes) > 1 or not min(sizes).is_integer():
        raise source.wrong("unet", "attention_head_dim", "heads of one width at every level")
    return {"num_head_channels": int(min(sizes))}


def _autoencoder(source: Source) -> tuple[dict[str, Any], float]:
    """Describe the autoencoder; also return the scale factor of its latents."""
    source.check("vae", VAE_FIXED)
    width, mult = source.widths("vae")
    attends = source.blocks(
        "vae",
        ("DownEncoderBlock2D", "UpDecoderBlock2D"),
        ("AttnDownEncoderBlock2D", "AttnUpDecoderBlock2D"),
    )
    factor = 2 ** (len(mult) - 1)
    resolution = source.number("unet", "sample_size") * factor
    middle = source.get("vae", "mid_block_add_attention", True)
    if any(attends) and not middle:
        raise source.wrong("vae", "mid_block_add_attention", "true where levels attend")
    channels = source.number("vae", "latent_channels", 4)
    ddconfig = {
        "double_z": True,
        "z_channels": channels,
        "resolution": resolution,
        "in_channels": source.number("vae", "in_channels", 3),
        "out_ch": source.number("vae", "out_channels", 3),
        "ch": width,
        "ch_mult": mult,
        "num_res_blocks": source.number("vae", "layers_per_block", 1),
        "attn_resolutions": [resolution // 2**i for i, here in enumerate(attends) if here],
        "dropout": 0.0,
        **({} if middle else {"attn_type": "none"}),
    }
    params = {
        "embed_dim": channels,
        "ddconfig": ddconfig,
        "lossconfig": {"target": "torch.nn.Identity"},
    }
    scale = float(source.get("vae", "scaling_factor", 0.18215))
    return {"target": "ldm.models.autoencoder.AutoencoderKL", "params": params}, scale


def _text_encoder(source: Source, kept: set[str]) -> dict[str, Any]:
    """Describe the text encoder: one with T5's tokenizer, open_clip's (its padding), or CLIP's."""
    sizes = {key: source.get("text_encoder", key, usual) for key, usual in TEXT_SIZES.items()}
    home = "ldm.modules.encoders.modules"
    if tokenizer_class(source.folder) in T5_CLASSES:
        own = {"tokenizer_path": str(source.folder / "tokenizer"), "text_config": sizes}
        return {"target": f"{home}.FrozenJapaneseCLIPEmbedder", "params": own}
    padding = padding_token(source.folder)
    if padding == OPEN_CLIP_PADDING:
        return {"target": f"{home}.FrozenOpenCLIPEmbedder", "params": _tower(source, sizes, kept)}
    if padding != END:
        raise UserError(
            f"folder {str(source.folder)!r}: its tokenizer pads with {padding!r}; expected {END} "
            f"(CLIP) or {OPEN_CLIP_PADDING} (open_clip); mend tokenizer/special_tokens_map.json"
        )
    return {"target": f"{home}.FrozenCLIPEmbedder", "params": {"text_config": sizes}}


def _tower(source: Source, sizes: Json, kept: set[str]) -> dict[str, Any]:
    """Describe an open_clip text tower, which may have a block that the folder leaves out.

    It has one if the folder keeps that block beside its own files, or if the folder is one block
    short of Stable Diffusion 2's architecture.
    """
    if sizes["layer_norm_eps"] != TEXT_SIZES["layer_norm_eps"]:
        raise source.wrong("text_encoder", "layer_norm_eps", str(TEXT_SIZES["layer_norm_eps"]))
    layers = sizes["num_hidden_layers"]
    known = V2_TOWER.items() <= sizes.items()
    above = known and layers == V2_LAYERS - 1
    above = above or any(f".resblocks.{layers}." in name for name in kept)
    layer = {"layer": "penultimate" if above else "last"}
    if known and layers + above == V2_LAYERS:
        return layer
    own = {ours: sizes[theirs] for ours, theirs in TOWER_SIZES.items()}
    embed_dim = source.number("text_encoder", "projection_dim", 512)
    return {**layer, "text_config": {**own, "layers": layers + above, "embed_dim": embed_dim}}


def tokenizer_class(folder: Path) -> str | None:
    """Return the class that a folder's index has for the tokenizer."""
    entry = read_json(folder, INDEX).get("tokenizer")
    return entry[-1] if isinstance(entry, list) and entry else None


def padding_token(folder: Path) -> str:
    """Return the token that a folder's tokenizer pads rows with."""
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        file = f"tokenizer/{name}"
        if is_file(folder / file):
            token = read_json(folder, file).get("pad_token")
            token = token.get("content") if isinstance(token, dict) else token
            if token is not None:
                return token
    return END


def _hub(source: Source, params: Json) -> tuple[str, str]:
    """Return the model's class and conditioning key, which follow from the UNet's inputs."""
    latents, inputs = params["channels"], params["unet_config"]["params"]["in_channels"]
    home = "ldm.models.diffusion.ddpm"
    if inputs == latents:
        return f"{home}.LatentDiffusion", "crossattn"
    if inputs == 2 * latents + 1:
        return f"{home}.LatentInpaintDiffusion", "hybrid"
    raise source.wrong("unet", "in_channels", f"{latents}, or {2 * latents + 1} for inpainting")
