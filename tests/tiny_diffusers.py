"""A Stable Diffusion pipeline in diffusers' layout, small enough to draw with in a blink."""

from __future__ import annotations

import json
from pathlib import Path

import diffusers
import torch
import transformers

SIZE, FACTOR, WIDTH, TOKENS = 32, 2, 32, 77


def write_tiny_diffusers(folder: Path, tokenizer: Path | None = None) -> Path:
    """Write a pipeline of random weights into a new folder in ``folder`` and return that.

    ``tokenizer`` is a folder for T5Tokenizer to read; None is a tokenizer of CLIP's kind.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipe = diffusers.StableDiffusionPipeline(
            vae=_vae(),
            text_encoder=_text_encoder(),
            tokenizer=_tokenizer(folder / "words")
            if tokenizer is None
            else transformers.T5Tokenizer.from_pretrained(str(tokenizer)),
            unet=_unet(),
            scheduler=diffusers.PNDMScheduler(
                beta_schedule="scaled_linear",
                beta_start=0.00085,
                beta_end=0.012,
                skip_prk_steps=True,
                steps_offset=1,
            ),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipe.save_pretrained(folder / "tiny")
    return folder / "tiny"


def _unet() -> diffusers.UNet2DConditionModel:
    return diffusers.UNet2DConditionModel(
        sample_size=SIZE // FACTOR,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
    )


def _vae() -> diffusers.AutoencoderKL:
    return diffusers.AutoencoderKL(
        latent_channels=4,
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D",) * FACTOR,
        up_block_types=("UpDecoderBlock2D",) * FACTOR,
        sample_size=SIZE,
    )


def _text_encoder() -> transformers.CLIPTextModel:
    sizes = {
        "vocab_size": 1000,
        "hidden_size": WIDTH,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": TOKENS,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    return transformers.CLIPTextModel(transformers.CLIPTextConfig(**sizes))


def _tokenizer(folder: Path) -> transformers.CLIPTokenizer:
    """Make a tokenizer that knows letters."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{each}</w>" for each in letters)]
    folder.mkdir()
    vocabulary = {word: number for number, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": TOKENS}),
        encoding="utf-8",
    )
    return transformers.CLIPTokenizer.from_pretrained(folder)
