"""Prompts by a sentencepiece vocabulary: transformers' ids, and where each stands in the prompt."""

from __future__ import annotations

import copy
import json
import pickle
import sys

import pytest
import torch

from ldm.errors import UserError
from ldm.modules.attention_control.words import read_prompt
from ldm.modules.encoders.sentencepiece_tokenizer import SentencePieceTokenizer, unified

sentencepiece = pytest.importorskip("sentencepiece", reason="needs pip install -e '.[japanese]'")

from small_sentencepiece import RINNA_IDS, T5_IDS, write_tokenizer  # noqa: E402

TEXTS = [
    "",
    "赤い猫の写真",
    "サラリーマンが満員電車に乗る油絵",
    "ネコ",
    "ﾈｺの写真",
    "夕日の海と富士山の水彩画、高画質",
    "赤い 猫、青い 犬。",
    "　全角の空白　と  二つの空白  ",
    "「猫」と『犬』！？…",
    "猫🐱と犬🐶",
    "鬱蒼とした薔薇の庭",
    "１２３と４Ｋ",
    "Ｏｉｌ　Ｐａｉｎｔｉｎｇ",
    "10～20歳",
    "㍻の℃と①",
    "がぎぐげごパピプペポ",
    "ー・々〆ヶ",
    "a photo of a red cat",
    "A Red CAT, 4K!",
    "don't stop -- ok?",
    "masterpiece, best quality, 1girl",
    "(red cat:1.3), [blue dog]",
    "cyberpunk city　夜",
    "Ghibli風の森",
    "富士山 mount Fuji at sunset",
    "tab\tand\nnewline",
    "İstanbul ΣΑΣ ﬁn",
    "简体字的猫和繁體字的貓",
    "고양이 и кошка",
    "赤い猫" * 60,
]
CAT = "赤い猫"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("vocabularies")


@pytest.fixture(scope="module")
def folder(home):
    return write_tokenizer(home / "t5")


@pytest.fixture(scope="module")
def plain(home):
    """A vocabulary that does nothing to text by itself."""
    return write_tokenizer(home / "plain", rule="identity")


@pytest.fixture(scope="module")
def fast(folder, home):
    """The tokenizer as transformers 5 saves it: tokenizer.json, and no spiece.model."""
    transformers = pytest.importorskip("transformers")
    transformers.T5Tokenizer.from_pretrained(str(folder)).save_pretrained(home / "fast")
    if (home / "fast" / "spiece.model").exists():
        pytest.skip("transformers below 5 saves the sentencepiece file")
    return home / "fast"


# --- ids ---


@pytest.mark.parametrize("text", TEXTS)
def test_rows_are_those_of_transformers_t5tokenizer(text, folder):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.T5Tokenizer.from_pretrained(str(folder))
    # transformers 5 no longer heeds do_lower_case, which rinna's pipelines set
    row = theirs(text.lower(), truncation=True, max_length=77, padding="max_length")["input_ids"]
    assert SentencePieceTokenizer(folder)(text)["input_ids"].tolist() == [row]


@pytest.mark.parametrize("text", [*TEXTS, "ﾋﾟｶﾋﾟｶのｶﾞﾗｽ", "</s> <pad>", "か\u3099"])
def test_ids_are_sentencepieces_own_of_the_lower_case_text(text, folder):
    """The releases of transformers that rinna's model was made with call that very library."""
    own = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))
    assert SentencePieceTokenizer(folder).encode(text) == own.encode(text.lower())


@pytest.mark.parametrize("text", [*TEXTS, "ﾋﾟｶﾋﾟｶのｶﾞﾗｽ"])
def test_a_tokenizer_json_gives_the_same_ids_and_stretches(text, folder, fast):
    ours, again = SentencePieceTokenizer(folder), SentencePieceTokenizer(fast)
    assert again.encode(text) == ours.encode(text)
    assert len(again) == len(ours)
    tokens = zip(again.offsets(text), ours.offsets(text), strict=True)
    assert all(a == b for a, b in tokens if a[0] < a[1] and b[0] < b[1])


def test_what_a_tokenizer_json_was_last_asked_to_do_does_not_count(fast, tmp_path):
    content = json.loads((fast / "tokenizer.json").read_text(encoding="utf-8"))
    content["truncation"] = {
        "direction": "Right",
        "max_length": 2,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    text = "a photo of a red cat"
    short, whole = SentencePieceTokenizer(tmp_path), SentencePieceTokenizer(fast)
    assert short.encode(text) == whole.encode(text)


@pytest.mark.parametrize("ids", [T5_IDS, RINNA_IDS], ids=["t5", "rinna"])
def test_end_and_padding_are_read_from_the_files(ids, tmp_path):
    tokenizer = SentencePieceTokenizer(write_tokenizer(tmp_path, ids=ids), max_length=12)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "spiece.model"))
    end, padding = (pieces.piece_to_id(p) for p in ("</s>", "<pad>" if ids is T5_IDS else "[PAD]"))
    assert (end, padding) == ((1, 0) if ids is T5_IDS else (2, 3))
    row = tokenizer(CAT)["input_ids"][0].tolist()
    own = tokenizer.encode(CAT)
    assert row == [*own, end, *[padding] * (11 - len(own))]


def test_without_json_files_the_vocabulary_says_its_special_tokens(folder, tmp_path):
    (tmp_path / "ja.model").write_bytes((folder / "spiece.model").read_bytes())
    tokenizer = SentencePieceTokenizer(tmp_path / "ja.model")
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 0)
    assert list(tokenizer.files) == ["spiece.model"]


def test_a_long_prompt_is_cut_and_keeps_its_end_token(folder):
    tokenizer = SentencePieceTokenizer(folder, max_length=8)
    (row,) = tokenizer(CAT * 20)["input_ids"].tolist()
    assert row == [*tokenizer.encode(CAT * 20)[:7], tokenizer.eos_token_id]


# --- widths and case ---


def test_case_does_not_count_unless_it_is_asked_for(folder):
    tokenizer = SentencePieceTokenizer(folder)
    assert tokenizer.encode("A Red CAT") == tokenizer.encode("a red cat")
    cased = SentencePieceTokenizer(folder, do_lower_case=False)
    assert cased.encode("A Red CAT") != cased.encode("a red cat")


def test_widths_do_not_count_even_to_a_vocabulary_that_tells_them_apart(plain):
    tokenizer, without = SentencePieceTokenizer(plain), SentencePieceTokenizer(plain, nfkc=False)
    for wide, usual in (("ＲＥＤ　ｃａｔ", "red cat"), ("ﾋﾟｶﾋﾟｶのﾈｺ", "ピカピカのネコ")):
        assert tokenizer.encode(wide) == tokenizer.encode(usual)
        assert without.encode(wide) != without.encode(usual)


def test_unifying_changes_nothing_that_sentencepieces_own_rule_would_leave(folder):
    """So ids by a vocabulary of the usual kind are the same with the option and without."""
    own = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))
    blocks = [range(0x20, 0x250), range(0x2000, 0x2800), range(0x2E80, 0x3400)]
    blocks += [range(0x4E00, 0x4F00), range(0xF900, 0xFB10), range(0xFE30, 0x10000)]
    for n in (n for block in blocks for n in block):
        text = f"か{chr(n)}a"
        assert own.normalize(unified(text)) == own.normalize(text), hex(n)
    assert unified("～") == "～" and own.normalize("あ～").endswith("～")


# --- where tokens stand ---


@pytest.mark.parametrize("text", [*TEXTS, "ﾋﾟｶﾋﾟｶ", "か\u3099", "㍻"])
def test_every_token_has_a_stretch_and_they_cover_the_text_in_order(text, folder):
    tokenizer = SentencePieceTokenizer(folder)
    spans = tokenizer.offsets(text)
    assert len(spans) == len(tokenizer.encode(text))
    assert all(a[0] <= b[0] and a[1] <= b[1] for a, b in zip(spans, spans[1:], strict=False))
    covered = {n for begin, end in spans for n in range(begin, end)}
    assert all(n in covered for n, letter in enumerate(text) if not letter.isspace())


def test_a_token_stands_where_its_letters_do(folder):
    tokenizer = SentencePieceTokenizer(folder)
    text = "  Ｒｅｄ ﾋﾟｶ"
    shown = [text[begin:end] for begin, end in tokenizer.offsets(text)]
    assert "".join(shown) == "Ｒｅｄﾋﾟｶ"
    assert "ﾋﾟ" in shown


def test_prompts_are_read_word_by_word_for_attention_control(folder):
    tokenizer = SentencePieceTokenizer(folder)
    prompt = read_prompt(tokenizer, "Red cat と 青い犬")
    assert list(prompt.ids) == tokenizer(prompt.text)["input_ids"][0].tolist()
    assert prompt.start == 0
    assert [word.text for word in prompt.words()] == ["Red", "cat", "と", "青", "い", "犬"]
    end = prompt.ids.index(tokenizer.eos_token_id)
    assert prompt.count == end and prompt.spans[end] is None
    (dog,) = prompt.positions("犬")
    assert dog == end - 1
    red = prompt.positions("ＲＥＤ")
    assert [prompt.text[slice(*prompt.spans[n])] for n in red][0].startswith("R")
    with pytest.raises(UserError, match="is not in the prompt"):
        prompt.positions("馬")


def test_the_end_that_is_cut_off_is_told_in_the_prompts_own_letters(folder):
    tokenizer = SentencePieceTokenizer(folder, max_length=6)
    text = "赤い猫、ＲＥＤ ｃａｔ"
    cut = tokenizer.truncated(text)
    assert cut and text.endswith(cut)
    assert tokenizer.encode(text)[:5] == tokenizer.encode(text.removesuffix(cut))[:5]
    assert tokenizer.truncated("赤い") is None
    full = SentencePieceTokenizer(folder, max_length=len(tokenizer.encode(CAT)) + 1)
    assert full.truncated(CAT) is None and full.truncated(f"{CAT}の") is not None


def test_half_a_surrogate_pair_is_a_letter_that_nobody_knows(folder, fast):
    for tokenizer in map(SentencePieceTokenizer, (folder, fast)):
        assert tokenizer.encode("猫\udce3") == tokenizer.encode("猫?")
        assert tokenizer.offsets("猫\udce3")[-1] == (1, 2)


# --- files ---


def test_nothing_is_read_until_a_prompt_is(tmp_path):
    tokenizer = SentencePieceTokenizer(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"nowhere' does not exist; expected a folder with spiece"):
        tokenizer("a cat")


@pytest.mark.parametrize(
    ("write", "words"),
    [
        ({}, r"has neither; expected a folder with spiece\.model or tokenizer\.json"),
        ({"spiece.model": b"\xff not a model"}, r"spiece\.model cannot be read .*copy it again"),
        ({"tokenizer.json": b"{}"}, r"tokenizer\.json cannot be read .*copy it again"),
        ({"spiece.model": None, "special_tokens_map.json": b"["}, r"_map\.json cannot be read"),
        (
            {"spiece.model": None, "special_tokens_map.json": b'{"pad_token": "[NONE]"}'},
            r"no piece '\[NONE\]', its pad_token; .*correct pad_token",
        ),
    ],
)
def test_a_faulty_folder_is_one_line_that_names_the_file(write, words, folder, tmp_path):
    for name, content in write.items():
        own = (folder / name).read_bytes() if content is None else content
        (tmp_path / name).write_bytes(own)
    with pytest.raises(UserError, match=words) as told:
        SentencePieceTokenizer(tmp_path)("a cat")
    assert "\n" not in str(told.value)


def test_without_a_path_it_says_which_setting_is_missing():
    with pytest.raises(UserError, match="none was given.*cond_stage_config.params.tokenizer_path"):
        SentencePieceTokenizer(None)("a cat")


def test_a_file_that_is_too_long_is_not_opened(folder, monkeypatch):
    monkeypatch.setattr("ldm.modules.encoders.sentencepiece_tokenizer.TOKENIZER_BYTES", 1000)
    with pytest.raises(UserError, match="more than 1000 bytes"):
        SentencePieceTokenizer(folder)("a cat")


def test_a_missing_package_is_one_line_with_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(UserError, match=r'not installed; run pip install -e "\.\[japanese\]"$'):
        SentencePieceTokenizer(folder)("a cat")


@pytest.mark.parametrize("travel", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_it_travels_to_other_processes(travel, folder):
    tokenizer = SentencePieceTokenizer(folder)
    rows = tokenizer([CAT, ""])["input_ids"]
    assert torch.equal(travel(tokenizer)([CAT, ""])["input_ids"], rows)
