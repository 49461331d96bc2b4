"""Words of a prompt are found among its tokens, in English and Japanese."""

from __future__ import annotations

import random
import time

import pytest

from ldm.errors import UserError
from ldm.modules.attention_control.words import TokenizedPrompt, Word, read_prompt
from ldm.modules.encoders.open_clip_tokenizer import OpenCLIPTokenizer
from ldm.modules.encoders.tokenizer import CLIPTokenizer

CLIP = CLIPTokenizer()


def read(text: str) -> TokenizedPrompt:
    return read_prompt(CLIP, text)


def shown(text: str) -> list[str]:
    return [word.text for word in read(text).words()]


def standing(prompt: TokenizedPrompt, positions) -> list[str]:
    return [prompt.text[slice(*prompt.spans[n])] for n in positions]


def test_a_prompt_knows_its_row_its_length_and_where_it_ends():
    prompt = read("a cat")
    assert prompt.ids == tuple(CLIP("a cat")["input_ids"][0].tolist())
    assert (prompt.length, prompt.count) == (77, 3)
    assert prompt.ids[prompt.count] == CLIP.eos_token_id
    assert (read("").count, read("word " * 100).count) == (1, 76)


def test_a_row_of_another_length_and_padding_is_read_as_well():
    prompt = read_prompt(OpenCLIPTokenizer(max_length=5), "a red cat on a mat")
    assert (prompt.length, prompt.count) == (5, 4)
    assert prompt.positions("cat") == (3,)


@pytest.mark.parametrize(
    ("word", "positions"),
    [
        ("house", (4,)),
        ("HOUSE", (4,)),
        ("house,", (4, 5)),
        ("light blue", (2, 3)),
        ("light  Blue", (2, 3)),
        ("ｂｌｕｅ", (3,)),
        ("(blue)", (3,)),
        ("a", (1,)),
    ],
)
def test_words_and_phrases_are_found(word, positions):
    assert read("a light blue house, and two cats").positions(word) == positions


def test_only_whole_words_are_found():
    prompt = read("a caterpillar and a cat in cat-land, a bobcat")
    assert standing(prompt, prompt.positions("cat")) == ["cat", "cat"]


def test_a_word_gives_all_its_places():
    prompt = read("a cat and a cat, a Cat")
    assert prompt.positions("cat") == (2, 5, 8)


def test_a_word_of_several_tokens_gives_them_all():
    prompt = read("a photo of a shiba-inu samoyed")
    positions = prompt.positions("samoyed")
    assert "".join(standing(prompt, positions)) == "samoyed"
    assert len(positions) == len(CLIP.encode("samoyed")) > 1


def test_what_cleaning_changes_is_found_as_given_and_as_cleaned():
    prompt = read("ＦＵＬＬ width, it’s the ﬁrst cafe\u0301")
    assert prompt.positions("full") == prompt.positions("ＦＵＬＬ") == (1,)
    assert prompt.positions("it's") == prompt.positions("it’s")
    assert prompt.positions("first") == prompt.positions("ﬁrst")
    assert prompt.positions("café") == (prompt.count - 1,)


@pytest.mark.parametrize("word", ["猫", "写真", "い", "赤い猫", "カーペット", "ペット", "5", "匹"])
def test_japanese_is_found_by_its_characters(word):
    prompt = read("赤い猫の写真、カーペット、5匹")
    covered = standing(prompt, prompt.positions(word))
    assert set(word) <= set("".join(covered))
    assert all(set(piece) & set(word) for piece in covered)


def test_katakana_is_found_in_either_width():
    prompt = read("ｶﾀｶﾅとカタカナ")
    assert prompt.positions("カタカナ") == prompt.positions("ｶﾀｶﾅ")
    assert len(prompt.positions("と")) >= 1


def test_latin_words_between_japanese_are_whole():
    prompt = read("赤いcatの写真")
    assert standing(prompt, prompt.positions("cat")) == ["cat"] * len(prompt.positions("cat"))
    with pytest.raises(UserError):
        prompt.positions("ca")


def test_emoji_are_found():
    prompt = read("a 🐱 and a 👩\u200d🚀")
    assert standing(prompt, prompt.positions("🐱")) == ["🐱"]
    assert len(prompt.positions("👩\u200d🚀")) == len(CLIP.encode("👩\u200d🚀"))


def test_a_token_counts_if_it_covers_a_part_of_the_word():
    prompt = TokenizedPrompt("写真の", (9, 1, 2, 9), (None, (0, 1), (1, 3), None))
    assert prompt.positions("真") == prompt.positions("の") == (2,)
    assert prompt.positions("写真") == (1, 2)


def test_a_word_that_is_not_there_is_one_line_with_the_nearest():
    with pytest.raises(UserError) as caught:
        read("a house").positions("hose")
    assert str(caught.value) == (
        "'hose' is not in the prompt 'a house'; expected one of its words; did you mean 'house'?"
    )


@pytest.mark.parametrize(
    ("text", "word", "told"),
    [("a cat", "zebra", "one of its words: 'a', 'cat'$"), ("", "cat", "none"), ("a cat", "", "''")],
)
def test_a_word_near_to_none_is_told_what_there_is(text, word, told):
    with pytest.raises(UserError, match=told) as caught:
        read(text).positions(word)
    assert "\n" not in str(caught.value)


def test_letters_that_repeat_themselves_are_searched_at_once():
    """Visitors of a page must not be able to keep it busy with one word."""
    began = time.perf_counter()
    with pytest.raises(UserError, match="is not in the prompt"):
        read("a" * 2000).positions("ba" * 1000)
    assert time.perf_counter() - began < 1.0


def test_a_word_that_the_encoder_cuts_off_is_told_so():
    prompt = read("word " * 75 + "zebra crossing")
    with pytest.raises(UserError, match="beyond.*77 tokens.*'zebra crossing'"):
        prompt.positions("zebra")
    assert prompt.positions("word") == tuple(range(1, 76))
    assert "zebra" not in [word.text for word in prompt.words()]


def test_the_words_of_english_stand_between_spaces_and_punctuation():
    assert shown("A light-blue house, (it's) 3.5m; f/1.8 “8k”!") == [
        *["A", "light", "blue", "house", "it's", "3.5m", "f", "1.8", "8k"]
    ]


def test_the_words_of_japanese_are_runs_of_one_script():
    assert shown("赤い猫の写真、カーペット。") == ["赤", "い", "猫", "の", "写真", "カーペット"]
    assert shown("が\u3099ｶﾞ人々") == ["が\u3099", "ｶﾞ", "人々"]


def test_words_carry_their_positions():
    assert read("a cat, a dog").words() == [
        *[Word("a", (1,)), Word("cat", (2,)), Word("a", (4,)), Word("dog", (5,))]
    ]
    assert read("").words() == []


def test_emoji_are_words_and_whole():
    assert shown("a 🐱👩\u200d🚀 ❤\ufe0f") == ["a", "🐱", "👩\u200d🚀", "❤\ufe0f"]


def test_what_one_token_holds_is_one_word():
    together = TokenizedPrompt("赤い猫", (9, 1, 2, 9), (None, (0, 2), (2, 3), None))
    assert together.words() == [Word("赤い", (1,)), Word("猫", (2,))]
    assert shown("a cafÃ© don") == ["a", "cafÃ©", "don"]
    cut = TokenizedPrompt("赤い猫", (9, 1, 9), (None, (0, 2), None))
    assert cut.words() == [Word("赤い", (1,))]
    spaced = TokenizedPrompt("a cat", (9, 1, 9), (None, (0, 5), None))
    assert spaced.words() == [Word("a", (1,)), Word("cat", (1,))]


def test_each_word_that_is_shown_is_found_again():
    rng = random.Random(3)
    letters = "ab XY,.'赤い猫カーｶﾞé🐱\u3000１각กำ\u0301-"
    for _ in range(500):
        prompt = read("".join(rng.choices(letters, k=rng.randint(0, 50))))
        for word in prompt.words():
            assert set(word.positions) <= set(prompt.positions(word.text)), (prompt.text, word)


def test_the_units_of_a_swap_keep_punctuation_and_cover_all_but_spaces():
    def units(text):
        return [text[slice(*unit)] for unit in read(text).units()]

    assert units("a light-blue house,  it's!") == ["a", "light-blue", "house,", "it's!"]
    assert units("「赤い」猫の写真、3匹 cat") == [
        "「赤",
        "い」",
        "猫",
        "の",
        "写真、",
        "3",
        "匹",
        "cat",
    ]
    assert units(" … 。 ") == ["…", "。"]
    assert units("") == []
