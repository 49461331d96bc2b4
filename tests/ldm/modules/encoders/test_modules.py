"""The conditioners, and the text encodings the reference computed."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from golden.fill import official_state, rel

from ldm.errors import UserError
from ldm.modules.encoders.modules import AbstractEncoder, ClassEmbedder, FrozenCLIPEmbedder
from ldm.modules.encoders.tokenizer import load_vocabulary

ROOT = Path(__file__).parents[4]
GOLDEN = ROOT / "tests" / "golden" / "narrow-v1.npz"
PROMPTS = [
    "a photograph of an astronaut riding a horse",
    "A fantasy landscape, trending on artstation",
]
SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


def build(**options) -> FrozenCLIPEmbedder:
    torch.manual_seed(0)
    return FrozenCLIPEmbedder(text_config=SMALL, **options)


def test_prompts_become_one_row_of_77_states_each():
    out = build()(["a cat", "a dog"])
    assert out.shape == (2, 77, 32)
    assert not torch.allclose(out[0], out[1])


def test_encode_is_forward_and_a_string_is_a_batch_of_one():
    embedder = build()
    assert torch.equal(embedder.encode(["a cat"]), embedder("a cat"))


def test_a_frozen_encoder_has_no_gradients_and_a_trainable_one_has():
    frozen, trainable = build(), build(trainable=True)
    assert not any(p.requires_grad for p in frozen.parameters())
    assert not frozen.transformer.training
    assert all(p.requires_grad for p in trainable.parameters())
    trainable.freeze()
    assert not any(p.requires_grad for p in trainable.parameters())


def test_names_in_the_state_dict_are_those_of_the_checkpoints():
    keys = build().state_dict()
    assert all(key.startswith("transformer.text_model.") for key in keys)
    assert not any("position_ids" in key for key in keys)


def test_the_token_embedding_is_where_textual_inversion_looks_for_it():
    weight = build().transformer.text_model.embeddings.token_embedding.weight
    assert weight.shape == (49408, 32)


def test_it_can_be_built_on_the_meta_device():
    with torch.device("meta"):
        embedder = FrozenCLIPEmbedder()
    assert {p.device.type for p in embedder.parameters()} == {"meta"}
    assert not list(embedder.buffers())


def test_the_output_follows_the_weights_dtype():
    assert build().half()(["a cat"]).dtype == torch.float16


def test_a_shorter_row_can_be_asked_for():
    assert build(max_length=16)(["a cat"]).shape == (1, 16, 32)


def test_a_row_longer_than_the_positions_is_refused():
    with pytest.raises(UserError, match="100.*77 positions"):
        build(max_length=100)


def test_building_and_encoding_never_open_a_connection(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the text encoder tried to reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    load_vocabulary.cache_clear()
    assert build()(["a cat"]).shape == (1, 77, 32)


def test_an_unknown_version_is_refused_because_nothing_is_downloaded():
    with pytest.raises(UserError, match="openai/clip-vit-large-patch14"):
        FrozenCLIPEmbedder(version="somebody/something")


def test_an_unknown_size_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match="'hidden_size'"):
        FrozenCLIPEmbedder(text_config={"hiden_size": 32})


def test_sizes_that_do_not_fit_are_a_user_error():
    with pytest.raises(UserError, match="num_attention_heads"):
        FrozenCLIPEmbedder(text_config={**SMALL, "num_attention_heads": 5})


def test_classes_become_one_token_each():
    embedder = ClassEmbedder(embed_dim=8, n_classes=10, key="label")
    out = embedder({"label": torch.tensor([3, 3, 7])})
    assert out.shape == (3, 1, 8)
    assert torch.equal(out[0], out[1])
    assert torch.equal(out[2, 0], embedder.embedding.weight[7])
    assert torch.equal(embedder({"other": torch.tensor([7])}, key="other")[0, 0], out[2, 0])
    assert embedder.n_classes == 10


def test_conditioners_are_built_without_the_libraries_of_others():
    """Each costs seconds, and a machine may lack them; a tokenizer or weights may need one."""
    code = """
import sys
from ldm.modules.encoders import modules
modules.BERTEmbedder(n_embed=8, n_layer=1, vocab_size=8)
modules.FrozenOpenCLIPEmbedder(text_config={"layers": 1, "vocab_size": 8})
others = {"transformers", "tokenizers", "kornia", "clip", "open_clip", "torchvision"}
print(sorted(others & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (run.returncode, run.stdout.strip()) == (0, "[]"), run.stderr


def test_an_encoder_without_encode_says_so():
    with pytest.raises(NotImplementedError, match="AbstractEncoder"):
        AbstractEncoder().encode(["a cat"])


def test_text_encodings_equal_the_reference():
    with torch.device("meta"):
        embedder = FrozenCLIPEmbedder()
    state = official_state(embedder, prefix="cond_stage_model.")
    embedder.load_state_dict(state, strict=True, assign=True)
    golden = np.load(GOLDEN)
    with torch.no_grad():
        assert rel(embedder(PROMPTS), golden["c"]) < 3e-5
        assert rel(embedder(["", ""]), golden["uc"]) < 3e-5
