"""Text encoders with random weights, and transformers' own with the same ones."""

from __future__ import annotations

import pytest
import torch
import transformers
from narrow_models import TOWER

from ldm.checkpoint.diffusers.text_keymaps import clip_to_transformers
from ldm.checkpoint.diffusers.tokenizer import tokenizer_files
from ldm.modules.encoders.modules import FrozenCLIPEmbedder
from ldm.modules.encoders.open_clip import FrozenOpenCLIPEmbedder

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
}


def _randomise(model: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(4)
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=generator))


@pytest.fixture(scope="session")
def conditioner() -> FrozenCLIPEmbedder:
    """SD v1's conditioner, narrow."""
    torch.manual_seed(0)
    made = FrozenCLIPEmbedder(text_config=SIZES)
    _randomise(made)
    return made


@pytest.fixture(scope="session")
def open_conditioner() -> FrozenOpenCLIPEmbedder:
    """SD 2's conditioner, narrow: it pads with another token than the end."""
    torch.manual_seed(0)
    made = FrozenOpenCLIPEmbedder(layer="penultimate", text_config=dict(TOWER))
    _randomise(made)
    return made


@pytest.fixture(scope="session")
def peer(conditioner) -> transformers.CLIPTextModel:
    """transformers' model with the conditioner's weights."""
    made = transformers.CLIPTextModel(transformers.CLIPTextConfig(**SIZES, projection_dim=32))
    flat = not hasattr(made, "text_model")  # releases from 5.6
    state = clip_to_transformers(conditioner.state_dict(), flat=flat)
    assert not made.load_state_dict(state, strict=False).missing_keys
    return made.eval()


@pytest.fixture(scope="session")
def peer_tokenizer(conditioner, tmp_path_factory) -> transformers.CLIPTokenizer:
    """transformers' tokenizer with the conditioner's vocabulary."""
    folder = tmp_path_factory.mktemp("tokenizer")
    for name, content in tokenizer_files(conditioner.tokenizer).items():
        (folder / name).write_bytes(content)
    return transformers.CLIPTokenizer.from_pretrained(str(folder))
