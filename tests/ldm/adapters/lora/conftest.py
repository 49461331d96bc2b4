from __future__ import annotations

import lora_files
import pytest
import torch
from narrow_models import narrow_config, narrow_model

from ldm.adapters.lora.places import Places


@pytest.fixture(scope="session")
def model():
    """A narrow model of v1's kind; tests give it back as it was."""
    return narrow_model(narrow_config("v1"))


@pytest.fixture(scope="session")
def model_v2():
    """A narrow model of v2's kind, with open_clip's text encoder."""
    return narrow_model(narrow_config("v2"))


@pytest.fixture(scope="session")
def predict():
    """A function: a model to its text states and its prediction from them."""

    @torch.no_grad()
    def use(model, prompt="a red fox"):
        words = model.get_learned_conditioning([prompt])
        x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
        x = x.to(words.dtype)
        return torch.cat(
            [words.flatten(), model.apply_model(x, torch.tensor([7]), words).flatten()]
        )

    return use


@pytest.fixture(scope="session")
def kohya_tensors():
    """A function: model and seed to the tensors of a kohya LoRA of all its matrices."""

    def make(model, seed=0, rank=2):
        generator, found = torch.Generator().manual_seed(seed), {}
        for place in Places(model):
            if len(place.shape) < 2:
                continue
            out, *rest = place.shape
            ones = [1] * (len(rest) - 1)
            down = torch.randn(rank, *rest, generator=generator) * 0.1
            up = torch.randn(out, rank, *ones, generator=generator) * 0.1
            found |= {f"{place.flat}.lora_down.weight": down, f"{place.flat}.lora_up.weight": up}
            found[f"{place.flat}.alpha"] = torch.tensor(1.0)
        return found

    return make


@pytest.fixture(scope="session")
def files(tmp_path_factory, model, model_v2, kohya_tensors):
    """Three kohya LoRAs of the v1 model, and one of v2's as the last."""
    home = tmp_path_factory.mktemp("loras")
    made = [kohya_tensors(model, seed) for seed in range(3)] + [kohya_tensors(model_v2)]
    return [lora_files.save(t, home / f"{n}.safetensors") for n, t in enumerate(made)]
