"""Captions and layouts through our own transformer, with a vocabulary from this machine."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ldm.errors import UserError
from ldm.modules.encoders.modules import BERTEmbedder, BERTTokenizer, TransformerEmbedder
from ldm.util import instantiate_from_config

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "a",
    "cat",
    "dog",
    "s",
    "##s",
    "##ly",
    "cafe",
]
WORDS += [",", "'", "the", "和"]


@pytest.fixture
def vocabulary(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return tmp_path


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch, tmp_path):
    """No test finds the vocabulary of whoever runs it."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


def build(**options) -> BERTEmbedder:
    torch.manual_seed(0)
    return BERTEmbedder(n_embed=16, n_layer=2, vocab_size=len(WORDS), **options).eval()


def test_captions_become_one_row_of_states_each(vocabulary):
    out = build(tokenizer_path=vocabulary)(["a cat", "a dog"])
    assert out.shape == (2, 77, 16)
    assert not torch.allclose(out[0], out[1])


def test_encode_is_forward_and_a_string_is_a_batch_of_one(vocabulary):
    embedder = build(tokenizer_path=vocabulary)
    assert torch.equal(embedder.encode("a cat"), embedder(["a cat"]))


def test_captions_are_tokenized_as_transformers_does(vocabulary):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.BertTokenizerFast(str(vocabulary / "vocab.txt"), do_lower_case=True)
    texts = ["A Café, cats'", "the\tdogly 和cat zebra", "", "cat " * 100]
    expected = theirs(
        texts, truncation=True, max_length=77, padding="max_length", return_tensors="pt"
    )
    ours = BERTTokenizer(tokenizer_path=vocabulary)(texts)
    assert torch.equal(ours, expected["input_ids"])


def test_the_vocabulary_is_found_in_the_hubs_local_cache(vocabulary, tmp_path):
    home = tmp_path / "hub" / "models--bert-base-uncased" / "snapshots" / "abc"
    home.mkdir(parents=True)
    (vocabulary / "vocab.txt").rename(home / "vocab.txt")
    assert BERTTokenizer()(["a cat"])[0, :5].tolist() == [2, 5, 6, 3, 0]


def test_a_saved_tokenizer_serves_as_well(vocabulary, tmp_path):
    from tokenizers import BertWordPieceTokenizer

    folder = tmp_path / "saved"
    folder.mkdir()
    BertWordPieceTokenizer(str(vocabulary / "vocab.txt")).save(str(folder / "tokenizer.json"))
    texts = ["a cat", "dogs"]
    ours = BERTTokenizer(tokenizer_path=folder)(texts)
    assert torch.equal(ours, BERTTokenizer(tokenizer_path=vocabulary)(texts))


def test_a_model_is_built_without_vocabulary_and_only_captions_need_it():
    embedder = build()
    assert not list(nn.Module.children(embedder.tokenizer))
    with pytest.raises(UserError, match="tokenizer_path"):
        embedder(["a cat"])


@pytest.mark.parametrize("content", [None, "", "only\nwords\n"])
def test_a_path_without_a_vocabulary_is_refused_in_one_line(tmp_path, content):
    if content is not None:
        (tmp_path / "vocab.txt").write_text(content)
    with pytest.raises(UserError, match="bert-base-uncased") as caught:
        BERTTokenizer(tokenizer_path=tmp_path)(["a cat"])
    assert "\n" not in str(caught.value)


def test_a_vocabulary_larger_than_the_model_is_refused(vocabulary):
    embedder = BERTEmbedder(n_embed=16, n_layer=1, vocab_size=6, tokenizer_path=vocabulary)
    with pytest.raises(UserError, match="knows 6"):
        embedder(["a cat"])


def test_what_is_cut_is_told(vocabulary):
    tokenizer = BERTTokenizer(max_length=5, tokenizer_path=vocabulary)
    assert tokenizer.truncated("a cat, a dog") == "a dog"
    assert tokenizer.truncated("a cat,") is None


def test_encode_answers_as_a_first_stage_where_asked(vocabulary):
    tokenizer = BERTTokenizer(tokenizer_path=vocabulary)
    nothing, _, (_, _, tokens) = tokenizer.encode(["a cat"])
    assert nothing is None and tokens.shape == (1, 77)
    plain = BERTTokenizer(vq_interface=False, tokenizer_path=vocabulary)
    assert torch.equal(plain.encode(["a cat"]), tokens)


def test_layouts_are_tokens_already():
    embedder = build(use_tokenizer=False, max_seq_len=9)
    assert embedder(torch.randint(len(WORDS), (2, 9))).shape == (2, 9, 16)
    plain = TransformerEmbedder(16, 2, len(WORDS), max_seq_len=9)
    plain.load_state_dict(embedder.state_dict())
    row = torch.arange(9)[None]
    assert torch.equal(plain.encode(row), embedder.encode(row))


def test_it_is_built_from_a_configuration_and_on_the_meta_device():
    config = {
        "target": "ldm.modules.encoders.modules.BERTEmbedder",
        "params": {"n_embed": 640, "n_layer": 32},
    }
    with torch.device("meta"):
        embedder = instantiate_from_config(config)
    assert len(embedder.state_dict()) == 422
    assert all(value.is_meta for value in embedder.state_dict().values())
    assert embedder.state_dict()["transformer.pos_emb.emb.weight"].shape == (77, 640)


def test_embedding_dropout_acts_in_training_alone():
    embedder = build(use_tokenizer=False, embedding_dropout=0.5)
    row = torch.arange(5)[None]
    assert torch.equal(embedder(row), embedder(row))
    embedder.train()
    assert not torch.equal(embedder(row), embedder(row))
