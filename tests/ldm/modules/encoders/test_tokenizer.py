"""The tokenizer against transformers' own, built from the same vocabulary file."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
import torch

from ldm.errors import UserError
from ldm.modules.encoders import tokenizer as module
from ldm.modules.encoders.tokenizer import (
    CLIPTokenizer,
    Vocabulary,
    clean_text,
    load_vocabulary,
    vocabulary_path,
)

PROMPTS = [
    "",
    " ",
    "a photograph of an astronaut riding a horse",
    "A Fantasy Landscape, trending on artstation",
    "a painting of a virus monster playing guitar",
    "it's the dog's bone, they'll say we've won; I'd, I'm, you're, can't",
    "IT'S LOUD!!! VERY-VERY LOUD???",
    "portrait, 8k, f/1.8, 35mm, ISO-100, (masterpiece:1.3), [blurry]",
    "1girl 2boys 1234567890 3.14159 10,000",
    "  leading, trailing  and \t inner\n\nwhite   space  ",
    "line one\r\nline two\u2028line three",
    "e-mail: someone@example.com, https://example.com/a?b=c&d=e#f",
    "snake_case and kebab-case and CamelCase",
    "!@#$%^&*()_+-=[]{}|;':\",./<>?`~",
    "...!!!???--- ,,, ;;;",
    "'s 't 're 've 'm 'll 'd",
    "''s ''' 'sss",
    "宇宙飛行士が馬に乗っている写真",
    "猫と犬、赤い背景。",
    "少女：青い髪，笑顔！（傑作）",
    "ｶﾀｶﾅとＦｕｌｌ　ｗｉｄｔｈ　１２３",
    "サラリーマンがビールを飲む",
    "富士山　夕焼け　浮世絵",
    "東京タワーの夜景、雨、ネオン、反射、高画質、4K",
    "一只猫坐在窗台上，水彩画",
    "고양이와 강아지 사진",
    "кот на подоконнике, масляная живопись",
    "ΜΕΓΑΛΟΣ ΣΚΥΛΟΣ, σοφός",
    "قطة تجلس على النافذة",
    "חתול על אדן החלון",
    "बिल्ली का चित्र",
    "แมวนั่งอยู่บนหน้าต่าง",
    "café crème brûlée naïve façade",
    "cafe\u0301 decomposed, A\u030angstro\u0308m",
    "Straße, GRÖẞE, ĳssel",
    "İstanbul ISPARTA ışık",
    "the ﬁrst ﬂower, eﬃcient oﬃce",
    "“curly quotes” and ‘single’ ones – en dash — em dash…",
    "mojibake: cafÃ© and donâ€™t",
    "salt &amp; pepper &lt;b&gt; &quot;quoted&quot;",
    "a <b>bold</b> &amp; brave tag",
    "emoji 🐱 🐶 👩‍🚀 🏳️‍🌈 👍🏽",
    "🎨🎨🎨",
    "❤️ and ♥ and ☕️",
    "math ∑∫√∞ ≤ ≥ ± × ÷ 𝔸𝕓𝕔 𝒙",
    "½ ¼ ² ³ Ⅳ ⑤ ٣ ३",
    "zero\u200bwidth\u200djoin \ufeffbom soft\u00adhyphen",
    "nul\x00 bell\x07 escape\x1b[31mred\x1b[0m unit\x1fseparator",
    "non\u00a0breaking\u202fspace",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "pneumonoultramicroscopicsilicovolcanoconiosis",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "llllllllllllllllllllllllllllllllll 'llllll",
    "kindness' ſtrange LONG-ſ",
    "<start_of_text> <end_of_text>",
    "< |endoftext| > <|endoftext",
    "before <|endoftext|> after",
    "<|startoftext|>again<|endoftext|>",
    "shouted <|ENDOFTEXT|> token",
    "a very long prompt, " * 30,
    "すももももももももものうち。" * 20,
    "🐱" * 60,
    "word " * 75,
    "word " * 76,
]


@pytest.fixture(scope="module")
def ours() -> CLIPTokenizer:
    return CLIPTokenizer()


@pytest.fixture(scope="module")
def peer():
    """transformers' CLIPTokenizer with the vocabulary of this project, nothing downloaded."""
    transformers = pytest.importorskip("transformers")
    vocabulary = load_vocabulary()
    if int(transformers.__version__.split(".")[0]) >= 5:
        merges = [tuple(merge.split(" ")) for merge in vocabulary.ranks]
        return transformers.CLIPTokenizer(vocab=vocabulary.ids, merges=merges, model_max_length=77)
    return _peer_from_files(transformers, vocabulary)


def _peer_from_files(transformers, vocabulary):
    import json
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        vocab, merges = Path(folder, "vocab.json"), Path(folder, "merges.txt")
        vocab.write_text(json.dumps(vocabulary.ids), encoding="utf-8")
        merges.write_text("#version: 0.2\n" + "\n".join(vocabulary.ranks), encoding="utf-8")
        return transformers.CLIPTokenizer(str(vocab), str(merges), model_max_length=77)


def test_the_prompts_are_many_and_different():
    assert len(set(PROMPTS)) >= 60


@pytest.mark.parametrize("prompt", PROMPTS, ids=range(len(PROMPTS)))
def test_ids_equal_those_of_transformers_after_the_same_cleaning(ours, peer, prompt):
    expected = peer(clean_text(prompt), add_special_tokens=False)["input_ids"]
    assert ours.encode(prompt) == expected


@pytest.mark.parametrize("prompt", PROMPTS, ids=range(len(PROMPTS)))
def test_rows_of_77_equal_those_of_transformers(ours, peer, prompt):
    options = {"truncation": True, "max_length": 77, "padding": "max_length"}
    expected = peer([clean_text(prompt)], return_tensors="pt", **options)["input_ids"]
    assert torch.equal(ours([prompt], **options)["input_ids"], expected)


def test_full_width_punctuation_is_repaired_before_encoding(ours):
    assert ours.encode("少女：青い髪，笑顔！") == ours.encode("少女:青い髪,笑顔!")
    assert ours.encode("ＣＡＴ　ｶﾌｪ") == ours.encode("cat カフェ")


def test_html_is_unescaped_only_as_far_as_ftfy_does_it():
    assert clean_text("salt &amp; pepper") == "salt & pepper"
    # With a tag in the text ftfy leaves entities alone; OpenAI's tokenizer would not.
    assert clean_text("<b>salt &amp; pepper") == "<b>salt &amp; pepper"


def test_contractions_ignore_case_as_the_reference_tokenizer_did(ours):
    # transformers' slow tokenizer, which the reference ran, matches the long s as an s; the fast
    # one, which is all that is left today, does not.
    assert ours.encode("x'ſy") == [*ours.encode("x"), *ours.encode("'ſ"), *ours.encode("y")]


def test_a_literal_special_token_is_that_token(ours):
    assert ours.encode("cat<|endoftext|>dog") == [
        *ours.encode("cat"),
        ours.eos_token_id,
        *ours.encode("dog"),
    ]
    assert ours.encode("<|startoftext|>") == [ours.bos_token_id]


def test_a_batch_is_padded_with_the_end_token_to_77(ours):
    ids = ours(["a cat", ""])["input_ids"]
    assert ids.shape == (2, 77)
    assert ids.dtype == torch.long
    assert ids[0, :3].tolist() == [49406, 320, 2368]
    assert (ids[0, 3:] == 49407).all()
    assert ids[1].tolist() == [49406] + [49407] * 76


def test_truncation_keeps_the_end_token_and_the_first_75(ours):
    row = ours("word " * 200)["input_ids"][0]
    assert row[-1] == ours.eos_token_id
    assert row[1:-1].tolist() == ours.encode("word " * 75)


def test_another_row_length_can_be_asked_for(ours):
    assert ours("a cat", max_length=8)["input_ids"].shape == (1, 8)
    assert CLIPTokenizer(max_length=16)(["a cat"] * 3)["input_ids"].shape == (3, 16)


def test_padding_and_truncation_can_be_turned_off(ours):
    rows = ours(["cat", "a cat"], padding=False, return_tensors=None)["input_ids"]
    assert [len(row) for row in rows] == [3, 4]
    assert ours(["cat", "a cat"], padding="longest")["input_ids"].shape == (2, 4)
    assert ours("word " * 100, truncation=False)["input_ids"].shape == (1, 102)


def test_the_call_of_compvis_is_accepted(ours):
    batch = ours(
        ["a cat"],
        truncation=True,
        max_length=77,
        return_length=True,
        return_overflowing_tokens=False,
        padding="max_length",
        return_tensors="pt",
    )
    assert batch["length"].tolist() == [77]
    with pytest.raises(ValueError, match="truncated"):
        ours("a cat", return_overflowing_tokens=True)


def test_75_tokens_fit_and_the_76th_is_reported_as_cut(ours):
    assert ours.truncated("word " * 75) is None
    assert ours.truncated("word " * 75 + "extra words") == "extra words"


def test_the_cut_text_of_an_unspaced_prompt_is_whole_characters(ours):
    prompt = "絵" + "鬱蒼とした森の奥、" * 12
    cut = ours.truncated(prompt)
    assert cut is not None
    assert "\N{REPLACEMENT CHARACTER}" not in cut
    assert clean_text(prompt).replace(" ", "").endswith(cut.replace(" ", ""))


@pytest.mark.parametrize("text", ["a cat, sitting.", "猫 が 好き", "naïve café 🐱"])
def test_decoding_gives_the_text_back(ours, text):
    assert ours.decode(ours.encode(text)).replace(" ", "") == text.replace(" ", "")


def test_decoding_can_leave_out_special_tokens(ours):
    row = ours("a cat")["input_ids"][0]
    assert ours.decode(row, skip_special_tokens=True) == "a cat"
    assert ours.decode(row[:4]) == "<|startoftext|> a cat <|endoftext|>"


def test_the_vocabulary_has_the_49408_tokens_of_clip(ours):
    assert len(ours) == 49408
    assert (ours.bos_token_id, ours.eos_token_id, ours.pad_token_id) == (49406, 49407, 49407)


def test_a_second_tokenizer_reuses_the_vocabulary(ours):
    assert CLIPTokenizer().vocabulary is ours.vocabulary


def test_a_word_of_a_hundred_thousand_letters_is_encoded_at_once(ours):
    begin = time.perf_counter()
    assert len(ours.encode("もり" * 50_000)) > 10_000
    assert time.perf_counter() - begin < 10  # rescanning after each merge would take an hour


def test_the_vocabulary_is_found_without_importing_open_clip_or_transformers():
    code = (
        "import sys; from ldm.modules.encoders.modules import FrozenCLIPEmbedder as F; "
        "F(text_config={'num_hidden_layers': 1, 'hidden_size': 8, 'num_attention_heads': 1})"
        ".tokenizer('cat'); print(sorted({'open_clip', 'transformers'} & set(sys.modules)))"
    )
    root = module.__file__.removesuffix("ldm/modules/encoders/tokenizer.py")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_missing_open_clip_is_one_clear_line(monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install open_clip_torch") as caught:
        vocabulary_path()
    assert "\n" not in str(caught.value)


def test_a_damaged_vocabulary_is_one_clear_line(tmp_path):
    damaged = tmp_path / "bpe.txt.gz"
    damaged.write_bytes(b"not gzip")
    with pytest.raises(UserError, match="reinstall open_clip_torch"):
        Vocabulary.from_file(damaged)


def test_a_vocabulary_with_merges_missing_is_refused(tmp_path):
    import gzip

    short = tmp_path / "bpe.txt.gz"
    short.write_bytes(gzip.compress(b"#version\ni n\nt h"))
    with pytest.raises(UserError, match="49408"):
        Vocabulary.from_file(short)
