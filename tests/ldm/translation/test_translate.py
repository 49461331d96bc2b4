"""Japanese prompts become the English that somebody would have typed."""

from __future__ import annotations

import random

import pytest

from ldm.data.demo.scene_captions import english_caption, japanese_caption
from ldm.data.demo.scene_vocabulary import COLOURS, NOUNS, RELATIONS, SIZES
from ldm.translation.detect import is_japanese
from ldm.translation.translate import Translator

TRANSLATE = Translator()


def wordings(caption, *scene):
    """Return every wording of a scene's caption, whatever its picker would choose."""
    found, open_choices = set(), [[]]
    while open_choices:
        chosen, taken = open_choices.pop(), []

        def pick(options, chosen=chosen, taken=taken):
            number = chosen[len(taken)] if len(taken) < len(chosen) else 0
            taken.append((number, len(options)))
            return options[number]

        found.add(caption(*scene, pick))
        for at in range(len(chosen), len(taken)):
            front = [number for number, _ in taken[:at]]
            open_choices += [[*front, other] for other in range(1, taken[at][1])]
    return found


@pytest.mark.parametrize("relation", [None, *RELATIONS])
def test_every_caption_of_the_demo_scenes_becomes_one_of_its_english_captions(relation):
    choose = random.Random(str(relation))
    for _ in range(6):
        nouns = choose.sample(list(NOUNS), 1 if relation is None else 2)
        size = choose.choice(list(SIZES)) if relation is None else "medium"
        scene = (nouns, size, relation, choose.choice([None, *COLOURS]))
        english = wordings(english_caption, *scene)
        for caption in wordings(japanese_caption, *scene):
            assert TRANSLATE(caption).english in english


@pytest.mark.parametrize(
    ("japanese", "english"),
    [
        (
            "椅子に座って本を読む長い髪の少女",
            "a girl with long hair sitting on a chair reading a book",
        ),
        ("宇宙服を着た猫が公園を歩いている", "a cat wearing space suit walking a park"),
        ("庭に猫がいる", "a cat in a garden"),
        ("花が咲く庭", "a garden with flowers blooming"),
        ("少女の長い髪", "long hair of a girl"),
        ("着物の女性", "a woman in a kimono"),
        ("二匹の白い猫", "two white cats"),
        ("赤と青の風船", "a red and blue balloon"),
        ("壊れた車", "a broken car"),
        ("静かに眠る子猫", "a kitten sleeping quietly"),
        ("猫の美しい写真", "a beautiful photo of a cat"),
        ("猫を油絵で", "an oil painting of a cat"),
        ("Tokyoの夜景", "a Tokyo night view"),
        ("ゴッホ風の星空", "Van Gogh style starry sky"),
        ("ねことりす", "a cat and a squirrel"),
    ],
)
def test_words_stand_in_english_order(japanese, english):
    assert TRANSLATE(japanese).english == english


@pytest.mark.parametrize("cat", ["猫", "ねこ", "ネコ", "ﾈｺ"])
@pytest.mark.parametrize(
    "wording",
    [
        "{}の絵",
        "{}の絵です",
        "{}の絵を描いてください",
        "{}の絵をお願いします",
        "すみません、{}の絵",
    ],
)
def test_spelling_and_politeness_make_no_difference(cat, wording):
    assert TRANSLATE(wording.format(cat)).english == "a painting of a cat"


@pytest.mark.parametrize(
    ("typed", "english"),
    [
        ("猫:0.25 犬:0.75", "a cat:0.25 a dog:0.75"),
        ("（赤い猫：1.2）", "(a red cat:1.2)"),
        ("<lora:日本:1> 猫, [犬], 8k", "<lora:日本:1> a cat, [a dog], 8k"),
        ("a photo of 猫 at 12:30", "a photo of a cat at 12:30"),
        ("猫、赤い背景。", "a cat, red background"),
        ("赤い　猫　青い　背景", "a red cat, blue background"),
        ("猫 の 写真", "a photo of a cat"),
    ],
)
def test_weights_brackets_tags_and_latin_words_stay(typed, english):
    assert TRANSLATE(typed).english == english


@pytest.mark.parametrize("typed", ["", "a cat,,  a dog ", "naïve café:0.5 x:2", "🐈 (cat:1.2)"])
def test_a_prompt_without_japanese_letters_is_not_touched(typed):
    made = TRANSLATE(typed)
    assert (made.english, made.left_out) == (typed, ()) and not is_japanese(typed)


@pytest.mark.parametrize(
    ("typed", "english"),
    [
        ("ヌヌヌ、猫", "a cat"),
        ("猫、ヌヌヌ", "a cat"),
        ("ヌヌヌの猫", "a cat"),
        ("ヌヌヌ:0.5 cat:0.5", "cat:0.5"),
        ("ヌヌヌ", ""),
    ],
)
def test_what_is_not_known_is_left_out_with_its_weight_and_named(typed, english):
    made = TRANSLATE(typed)
    assert (made.english, made.left_out) == (english, ("ヌヌヌ",))


def test_the_users_words_come_before_all_others():
    translate = Translator({"猫": ("n", "a Maine Coon"), "ヌヌヌ": ("n", "Nunu")})
    made = translate("赤い背景の猫、ヌヌヌの写真")
    assert made.english == "a Maine Coon on a red background, a photo of Nunu"
    assert made.left_out == ()


def test_the_model_gets_the_phrases_with_unknown_words_and_no_word_of_the_glossary():
    asked = []

    def machine(text):
        asked.append(text)
        return f"[{len(asked)}]."

    made = Translator({"ミク": ("n", "Miku")}, machine)("赤い猫、ヌヌヌとミク、ヌヌヌの犬")
    assert asked == ["ヌヌヌと", "ヌヌヌの犬"]
    assert made.english == "a red cat, [1] Miku, [2]" and made.left_out == ()


def test_a_word_of_an_edit_is_the_one_that_the_prompt_has():
    assert TRANSLATE.word("猫").english == "cat"
    assert TRANSLATE.word("赤い").english == "red"


@pytest.mark.parametrize("text", ["猫\0犬", "<猫" * 50, "の" * 300, "猫が" * 200, "背景の" * 200])
def test_strange_prompts_are_translated_too(text):
    assert isinstance(TRANSLATE(text).english, str)
