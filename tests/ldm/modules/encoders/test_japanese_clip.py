"""The Japanese text encoder against transformers' CLIPTextModel behind its T5Tokenizer."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest
import torch
from running import ROOT

from ldm.errors import UserError
from ldm.modules.encoders.modules import FrozenJapaneseCLIPEmbedder
from ldm.pipelines.progress import notices_on_length

pytest.importorskip("sentencepiece", reason="needs pip install -e '.[japanese]'")

from small_sentencepiece import RINNA_IDS, SENTENCES, write_tokenizer  # noqa: E402

ROWS = 160  # more than the vocabulary's pieces, as 32000 is in rinna's
SMALL = {
    "vocab_size": ROWS,
    "hidden_size": 32,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
PROMPTS = ["", "サラリーマンの油絵", "A Red CAT　と青い犬", "赤い猫" * 50, *SENTENCES]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tokenizer(tmp_path_factory.mktemp("vocabulary"))


def build(folder, **options) -> FrozenJapaneseCLIPEmbedder:
    torch.manual_seed(0)
    embedder = FrozenJapaneseCLIPEmbedder(folder, dict(SMALL), **options)
    with torch.no_grad():
        for parameter in embedder.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return embedder


@torch.no_grad()
def test_states_are_those_of_transformers_on_the_same_weights(folder):
    transformers = pytest.importorskip("transformers")
    ours = build(folder)
    theirs = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(**SMALL, max_position_embeddings=77, hidden_act="quick_gelu")
    ).eval()
    flat = not hasattr(theirs, "text_model")  # releases from 5.6
    prefix = "transformer.text_model." if flat else "transformer."
    weights = {name.removeprefix(prefix): value for name, value in ours.state_dict().items()}
    assert not theirs.load_state_dict(weights, strict=False).missing_keys
    words = transformers.T5Tokenizer.from_pretrained(str(folder))
    rows = words(
        [text.lower() for text in PROMPTS],
        truncation=True,
        max_length=77,
        padding="max_length",
        return_tensors="pt",
    )["input_ids"]
    assert torch.equal(ours.tokens(PROMPTS), rows)
    expected = theirs(input_ids=rows).last_hidden_state
    torch.testing.assert_close(ours.encode(PROMPTS), expected, rtol=0, atol=1e-5)


def test_prompts_become_one_row_of_states_each(folder):
    out = build(folder)(["赤い猫", "青い犬"])
    assert out.shape == (2, 77, 32)
    assert not torch.allclose(out[0], out[1])
    assert torch.equal(build(folder).encode("赤い猫")[0], build(folder)(["赤い猫"])[0])


def test_the_weights_have_the_names_that_every_v1_checkpoint_has(folder):
    assert all(name.startswith("transformer.text_model.") for name in build(folder).state_dict())


def test_it_is_built_on_the_meta_device_without_its_tokenizer():
    with torch.device("meta"):
        embedder = FrozenJapaneseCLIPEmbedder("nowhere", {"vocab_size": 32000})
    assert {p.device.type for p in embedder.parameters()} == {"meta"}
    table = embedder.transformer.text_model.embeddings.token_embedding.weight
    assert table.shape == (32000, 768)


def test_it_is_frozen_unless_it_is_to_be_trained(folder):
    assert not any(p.requires_grad for p in build(folder).parameters())
    assert all(p.requires_grad for p in build(folder, trainable=True).parameters())


def test_the_size_of_the_vocabulary_has_to_be_said():
    with pytest.raises(UserError, match="no vocab_size.*text_config"):
        FrozenJapaneseCLIPEmbedder("nowhere", {"hidden_size": 32})


def test_a_vocabulary_with_more_pieces_than_the_weights_have_rows_is_refused(folder):
    small = FrozenJapaneseCLIPEmbedder(folder, {**SMALL, "vocab_size": 50})
    with pytest.raises(UserError, match=r"has \d+ pieces; the text encoder knows 50"):
        small(["a"])


def test_padding_may_be_the_last_piece_of_all(tmp_path):
    """As many rows as there are pieces are enough, and a row fewer is told before it is missed."""
    folder = write_tokenizer(tmp_path, ids=RINNA_IDS)
    pieces = len(build(folder).tokenizer)
    exact = FrozenJapaneseCLIPEmbedder(folder, {**SMALL, "vocab_size": pieces})
    assert exact(["赤い猫"]).isfinite().all()
    with pytest.raises(UserError, match=f"has {pieces} pieces"):
        FrozenJapaneseCLIPEmbedder(folder, {**SMALL, "vocab_size": pieces - 1})(["赤い猫"])


def test_a_row_longer_than_the_positions_is_refused(folder):
    with pytest.raises(UserError, match="100.*77 positions"):
        build(folder, max_length=100)


def test_what_it_does_not_read_of_a_prompt_is_noticed(folder):
    tokenizer = build(folder).tokenizer
    (notice,) = notices_on_length(tokenizer, ["赤い猫の写真", "富士山の水彩画、" * 20])
    assert notice.warning and "longer than 77 tokens" in notice.text and "水彩画" in notice.text


def test_building_and_encoding_never_open_a_connection(folder, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the text encoder tried to reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert build(folder)(["赤い猫"]).shape == (1, 77, 32)


def test_it_needs_neither_transformers_nor_clips_vocabulary(folder):
    code = f"""
import sys
from ldm.modules.encoders.modules import FrozenJapaneseCLIPEmbedder
FrozenJapaneseCLIPEmbedder({str(folder)!r}, {SMALL!r})(["赤い猫"])
print(sorted({{"transformers", "tokenizers", "open_clip", "google"}} & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (run.returncode, run.stdout.strip()) == (0, "[]"), run.stderr
