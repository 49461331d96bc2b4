"""A safety checker in the real layout, small enough to make on the spot."""

from __future__ import annotations

import json

import pytest
import torch

CONCEPTS, SPECIAL, WIDTH, HIDDEN, SIDE = 17, 3, 24, 32, 28


def vision_tensors(layers=2):
    """Random weights under the names of CLIP's vision transformer, without transformers."""
    generator = torch.Generator().manual_seed(0)

    def randn(*shape):
        return torch.randn(*shape, generator=generator) * 0.2

    tensors = {
        "embeddings.class_embedding": randn(HIDDEN),
        "embeddings.patch_embedding.weight": randn(HIDDEN, 3, 14, 14),
        "embeddings.position_embedding.weight": randn((SIDE // 14) ** 2 + 1, HIDDEN),
        "embeddings.position_ids": torch.arange((SIDE // 14) ** 2 + 1)[None],
    }
    norms = ["pre_layrnorm", "post_layernorm"]
    for n in range(layers):
        layer = f"encoder.layers.{n}"
        norms += [f"{layer}.layer_norm1", f"{layer}.layer_norm2"]
        for name, (rows, columns) in {
            **{f"self_attn.{p}_proj": (HIDDEN, HIDDEN) for p in ("q", "k", "v", "out")},
            "mlp.fc1": (2 * HIDDEN, HIDDEN),
            "mlp.fc2": (HIDDEN, 2 * HIDDEN),
        }.items():
            tensors[f"{layer}.{name}.weight"] = randn(rows, columns)
            tensors[f"{layer}.{name}.bias"] = randn(rows)
    for name in norms:
        tensors[f"{name}.weight"] = 1 + randn(HIDDEN)
        tensors[f"{name}.bias"] = randn(HIDDEN)
    return tensors


def checker_tensors():
    """All tensors of a checker that flags nothing: its thresholds are out of a cosine's reach."""
    generator = torch.Generator().manual_seed(1)
    return {
        **{f"vision_model.vision_model.{name}": t for name, t in vision_tensors().items()},
        "visual_projection.weight": torch.randn(WIDTH, HIDDEN, generator=generator),
        "concept_embeds": torch.randn(CONCEPTS, WIDTH, generator=generator),
        "concept_embeds_weights": torch.full((CONCEPTS,), 2.0),
        "special_care_embeds": torch.randn(SPECIAL, WIDTH, generator=generator),
        "special_care_embeds_weights": torch.full((SPECIAL,), 2.0),
    }


def config():
    """The configuration as files of 2022 have it: entries twice, and many that do not matter."""
    telling = {
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "patch_size": 14,
    }
    noise = {"add_cross_attention": False, "torch_dtype": None, "hidden_act": "quick_gelu"}
    return {
        "architectures": ["SafetyChecker"],
        "model_type": "clip",
        "projection_dim": WIDTH,
        "text_config": {"hidden_size": 8},
        "vision_config": {**noise, "hidden_size": 1, "image_size": SIDE, "num_hidden_layers": 9},
        "vision_config_dict": telling,
    }


PREPROCESSOR = {
    "crop_size": SIDE,
    "do_center_crop": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "size": SIDE,
}


@pytest.fixture
def write_checker():
    """Give a function that writes a checker into a folder and returns the folder."""

    def write(folder, tensors=None, weights="pytorch_model.bin"):
        folder.mkdir(parents=True, exist_ok=True)
        tensors = checker_tensors() if tensors is None else tensors
        if weights.endswith(".safetensors"):
            from safetensors.torch import save_file

            save_file(tensors, folder / weights)
        else:
            torch.save(tensors, folder / weights)
        (folder / "config.json").write_text(json.dumps(config()))
        (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
        return folder

    return write


@pytest.fixture
def tensors():
    """Give fresh tensors that a test may change before it writes them."""
    return checker_tensors()


@pytest.fixture(autouse=True)
def nothing_installed(tmp_path_factory, monkeypatch):
    """Hide whatever safety checker this machine may have."""
    empty = tmp_path_factory.mktemp("nothing")
    monkeypatch.setenv("HF_HUB_CACHE", str(empty / "hub"))
    monkeypatch.setattr("ldm.safety.weights.LOCAL_FOLDER", empty / "models")
