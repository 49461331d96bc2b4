"""What is said of a translation model that cannot be used, and how one is asked."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from transformers import MarianConfig, MarianMTModel

from ldm.errors import UserError
from ldm.translation import marian
from ldm.translation.marian import Marian, check_folder, source_language

SIZES = {
    **dict.fromkeys(("encoder_layers", "decoder_layers"), 1),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim", "d_model"), 16),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 2),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a folder of a tiny random model whose tokenizer is replaced."""
    ends = {"pad_token_id": 9, "eos_token_id": 0, "decoder_start_token_id": 9}
    torch.manual_seed(0)
    config = MarianConfig(vocab_size=10, max_position_embeddings=32, **SIZES, **ends)
    MarianMTModel(config).save_pretrained(tmp_path)
    (tmp_path / "source.spm").touch()

    class Tokenizer:
        def __call__(self, texts, **_):
            ids = torch.tensor([[ord(letter) % 8 + 1 for letter in texts[0]] + [0]])
            return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

        def decode(self, ids, **_):
            return " ".join(map(str, ids.tolist()))

    made = SimpleNamespace(from_pretrained=lambda *_, **__: Tokenizer())
    monkeypatch.setattr("transformers.MarianTokenizer", made)
    return tmp_path


def test_weights_of_either_file_give_what_transformers_gives_whatever_the_seed(folder):
    model = MarianMTModel.from_pretrained(folder).eval()
    own = Marian(folder)
    rows = own.tokenizer(["猫と犬"])
    ids = model.generate(**rows, num_beams=marian.BEAMS, do_sample=False, max_new_tokens=30)
    expected = own.tokenizer.decode(ids[0])
    torch.manual_seed(1)
    assert own("猫と犬") == expected == own("猫と犬")
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert Marian(folder)("猫と犬") == expected


def test_a_folder_that_lacks_files_is_one_line(folder):
    with pytest.raises(UserError, match="is no folder"):
        check_folder(folder / "none")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"holds no model.safetensors or pytorch_model.bin"):
        check_folder(folder)
    (folder / "source.spm").unlink()
    with pytest.raises(UserError, match="holds no source.spm"):
        check_folder(folder)


@pytest.mark.parametrize(
    ("told", "code"),
    [
        ({"source_lang": "zho"}, "zh"),
        ({"source_lang": "zh_CN"}, "zh"),
        ({"source_lang": "jap"}, "ja"),
        ({}, "ja"),
        ({"source_lang": None}, "ja"),
    ],
)
def test_the_tokenizers_file_says_what_a_model_reads(folder, told, code):
    assert source_language(folder) == "ja"
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    assert source_language(folder) == code


@pytest.mark.parametrize("text", ['{"source_lang": "deu"}', "[]", "{", '{"source_lang": 3}'])
def test_a_model_that_reads_another_language_is_one_line(folder, text):
    (folder / "tokenizer_config.json").write_text(text)
    with pytest.raises(UserError, match="from Japanese or Chinese to English") as error:
        source_language(folder)
    assert "\n" not in str(error.value)


def test_a_model_of_another_size_is_one_line(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "d_model": 32}))
    with pytest.raises(UserError, match="cannot be loaded") as error:
        Marian(folder)
    assert "\n" not in str(error.value)
