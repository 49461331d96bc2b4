"""What a flag that a program does not know may have been meant to be. Imports no torch."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from ldm.settings.option import Option, one_of

# Fields of ours, or a field and the value that says the same -> what other programs call it:
# AUTOMATIC1111's, ComfyUI, diffusers' examples, InvokeAI, stable-diffusion.cpp.
_OURS_AND_THEIRS = {
    "ddim_steps steps custom_steps": "s step steps num_steps n_steps sampling_steps sample_steps "
    "inference_steps num_inference_steps diffusion_steps timesteps",
    "scale": "cfg_scale cfg_strength guidance guidance_scale unconditional_guidance_scale",
    "scale config": "cfg",
    "scale C": "C",
    "H": "h height",
    "W": "w width",
    "H W": "size resolution image_size",
    "n_samples": "n num num_images n_images num_images_per_prompt num_samples n_sample images "
    "count number",
    "n_samples batch_size": "b bs batch batch_size train_batch_size",
    "n_iter": "iterations iters n_iters num_iter batch_count num_batches n_batches repeat repeats",
    "prompt": "p t text prompts caption",
    "negative_prompt": "neg negative neg_prompt negative_prompts un_prompt uncond",
    "from_file": "file prompts_file prompt_file from_prompts",
    "ckpt model resume": "m ckpt model model_path model_id model_name sd_model checkpoint "
    "checkpoint_path ckpt_path weights pretrained_model_name_or_path",
    "config": "yaml config_path config_file original_config",
    "outdir out logdir": "o output output_dir output_path out out_dir outpath save_dir save_path",
    "sampler": "A scheduler sampler_name sampling_method sample_method method",
    "spacing": "schedule timestep_spacing noise_schedule",
    "spacing=karras": "karras",
    "init_img": "i I init init_image image image_path input input_image img source",
    "mask": "mask_image mask_img mask_path",
    "strength": "denoise denoising denoising_strength init_strength image_strength",
    "seed": "S seeds random_seed manual_seed",
    "ddim_eta eta": "eta ddim_eta",
    "safety_checker=off": "no_safety_checker disable_safety_checker disable_safety no_safety nsfw "
    "no_nsfw allow_nsfw skip_safety",
    "watermark=off": "no_watermark",
    "precision=full": "full_precision no_half fp32 float32",
    "precision=autocast": "half fp16 float16 autocast",
    "precision=bfloat16": "bf16",
    "precision=int8": "int8 quantize quantized",
    "device=cpu": "cpu use_cpu",
    "device=cuda": "gpu cuda",
    "vram_budget": "lowvram medvram low_vram",
    "skip_grid": "no_grid",
    "skip_save": "no_save",
    "use_ema": "ema",
    "n_rows": "rows columns",
    "format": "ext extension output_format",
    "num_workers": "workers n_workers",
}
ELSEWHERE = {
    name: ours.split() for ours, theirs in _OURS_AND_THEIRS.items() for name in theirs.split()
}


def bare(flag: str) -> str:
    """Return a flag's name as fields are written; single letters keep their case.

    Example:
        >>> bare("--Negative-Prompt=x"), bare("-W")
        ('negative_prompt', 'W')
    """
    name = flag.split("=")[0].lstrip("-").replace("-", "_")
    return name.lower() if len(name) > 1 else name


def same_elsewhere(flag: str, options: Sequence[Option]) -> str:
    """Return what other programs' name of a flag is called here, in words; empty if nothing is.

    Example:
        >>> same_elsewhere("--width", [Option("", int, "W", "--W")])
        '--W'
    """
    by_name = {each.name: each.flag for each in options}
    found = []
    for ours in ELSEWHERE.get(bare(flag), ()):
        name, _, value = ours.partition("=")
        if name in by_name:
            found.append(f"{by_name[name]} {value}".strip())
    return one_of(found) if found else ""


def alike(flag: str, known: Iterable[str]) -> str:
    """Return the flag that is spelt most like another; empty if none is."""
    name, by_name = bare(flag), {bare(each): each for each in known}
    if name in by_name:
        return by_name[name]
    # All flags of one letter are alike, and a text after a single dash is like anything.
    likeness = 0.6 if flag.startswith("--") else 0.9
    long = [each for each in by_name if len(each) > 1]
    near = difflib.get_close_matches(name, long, n=1, cutoff=likeness) if len(name) > 1 else []
    return by_name[near[0]] if near else ""
