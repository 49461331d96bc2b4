"""Each token knows which characters of the prompt, as it was given, it stands for."""

from __future__ import annotations

import random
import time

import pytest

from ldm.modules.encoders.bert import BERTTokenizer
from ldm.modules.encoders.offsets import sources
from ldm.modules.encoders.open_clip_tokenizer import OpenCLIPTokenizer
from ldm.modules.encoders.tokenizer import CLIPTokenizer

# What single letters are cleaned to, and what needs more than a letter to be cleaned.
ALPHABETS = [
    "abcXYZ ,.'-!0129",
    "赤い猫の写真カーペット。、ー々が\u3099",
    "ｶﾞﾊﾟﾀＡｂ１！　",
    "àéÖßſİıﬁﬃĲ\u0301\u0323“”‘’…—",
    "ЖдΣσςΩ고양이각กำแมวहिन्दीقطة",
    "🐱👩\u200d🚀❤\ufe0f👍🏽🏳\ufe0f",
    "\t\n\r\u2028\u00a0 \u200b",
]
ESCAPES = ["&amp;", "&lt;b&gt;", "cafÃ©", "donâ€™t", "\x1b[31m", "\ud83d\ude00", "<|endoftext|>"]


def random_texts(count: int) -> list[str]:
    rng = random.Random(7)
    texts = []
    for n in range(count):
        letters = "".join(rng.sample(ALPHABETS, rng.randint(1, 3)))
        parts = [rng.choice(letters) for _ in range(rng.randint(0, 60))]
        if n % 3 == 0:
            for _ in range(rng.randint(1, 3)):
                parts.insert(rng.randint(0, len(parts)), rng.choice(ESCAPES))
        texts.append("".join(parts))
    return texts


@pytest.fixture(scope="module", params=[CLIPTokenizer, OpenCLIPTokenizer])
def tokenizer(request):
    return request.param()


def pieces(tokenizer, text: str) -> list[str]:
    return [text[start:end] for start, end in tokenizer.offsets(text)]


def test_random_texts_have_a_stretch_for_each_id_and_neither_end_goes_back(tokenizer):
    for text in random_texts(400):
        spans = tokenizer.offsets(text)
        assert len(spans) == len(tokenizer.encode(text)), text
        starts, ends = [start for start, _ in spans], [end for _, end in spans]
        assert starts == sorted(starts), text
        assert ends == sorted(ends), text
        assert all(0 <= start < end <= len(text) for start, end in spans), text


def test_the_stretches_cover_every_character_that_is_seen(tokenizer):
    for text in random_texts(400):
        covered = {n for start, end in tokenizer.offsets(text) for n in range(start, end)}
        seen = {n for n, letter in enumerate(text) if letter.isprintable() and letter != " "}
        assert seen <= covered, (text, [text[n] for n in seen - covered])


def test_tokens_are_words_and_punctuation_as_they_were_written(tokenizer):
    assert pieces(tokenizer, "A  Light-blue\nHOUSE, it's") == [
        *["A", "Light", "-", "blue", "HOUSE", ",", "it", "'s"]
    ]


def test_the_bytes_of_a_kanji_share_its_stretch(tokenizer):
    found = pieces(tokenizer, "赤い猫")
    assert "".join(dict.fromkeys(found)) == "赤い猫"
    assert found.count("猫") == 3


def test_cleaned_letters_stand_for_what_was_given(tokenizer):
    assert pieces(tokenizer, "ＣＡＴ　ﬁrst “e\u0301”") == ["ＣＡＴ", "ﬁrst", "“", "e\u0301", "”"]
    assert set(pieces(tokenizer, "ｶﾞ")) == {"ｶﾞ"}


def test_repaired_text_stands_for_the_damaged(tokenizer):
    assert pieces(tokenizer, "a cafÃ© don") == ["a", "cafÃ©", "don"]
    assert pieces(tokenizer, "salt &amp; pepper") == ["salt", "&amp;", "pepper"]
    assert pieces(tokenizer, "a &lt;cat&gt;") == ["a", "&lt;", "cat", "&gt;"]


def test_html_is_unescaped_twice_by_open_clip_only():
    assert pieces(OpenCLIPTokenizer(), "&amp;lt; <cat>")[0] == "&amp;lt;"
    assert pieces(CLIPTokenizer(), "&amp;lt; <cat>")[:2] == ["&", "amp"]


def test_a_literal_special_token_is_one_stretch():
    assert pieces(CLIPTokenizer(), "cat <|endoftext|>Ｄog") == ["cat", "<|endoftext|>", "Ｄog"]
    assert pieces(OpenCLIPTokenizer(), "cat <end_of_text> Dog") == ["cat", "<end_of_text>", "Dog"]


def test_emoji_of_several_characters_leave_none_out(tokenizer):
    text = "a 👩\u200d🚀 and ❤\ufe0f"
    covered = {n for start, end in tokenizer.offsets(text) for n in range(start, end)}
    assert covered == {n for n, letter in enumerate(text) if letter != " "}


def test_nothing_has_no_stretches(tokenizer):
    assert tokenizer.offsets("") == tokenizer.offsets(" \n") == []


def test_what_is_far_behind_a_repair_is_found_exactly():
    words = ["cafÃ©", *["red", "cat"] * 200, "don", "â€™t", *["blue", "dog"] * 200, "end"]
    text = " ".join(words).replace("don ", "don")
    assert pieces(CLIPTokenizer(), text) == words


def test_long_texts_with_a_repair_at_each_end_take_no_time():
    text = "cafÃ©" + "もり" * 20_000 + "donâ€™t"
    begin = time.perf_counter()
    CLIPTokenizer().offsets(text)
    assert time.perf_counter() - begin < 10  # comparing all with all would take minutes


def test_what_was_taken_out_belongs_to_the_character_before_or_after_it():
    def clean(text):
        return text.replace("[x]", "")

    assert sources("a[x]b", clean("a[x]b"), clean) == [(0, 4), (4, 5)]
    assert sources("[x]ab", clean("[x]ab"), clean) == [(0, 4), (4, 5)]


def test_what_was_put_in_stands_for_its_neighbour():
    assert sources("abc", "ab!c", str) == [(0, 1), (1, 2), (1, 2), (2, 3)]
    assert sources("ab", "!ab", str) == [(0, 1), (0, 1), (1, 2)]


def test_bert_tells_its_tokens_stretches_without_start_end_and_padding(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "##s", "cafe", "和"]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    tokenizer = BERTTokenizer(tokenizer_path=tmp_path, vq_interface=False, max_length=7)
    assert pieces(tokenizer, "A  Cats Café和 zebra a") == ["A", "Cat", "s", "Café", "和"]
    assert pieces(tokenizer, "") == []
