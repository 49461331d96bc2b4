"""Chinese prompts become the English that somebody would have typed."""

from __future__ import annotations

import pytest

from ldm.data.demo.scene_captions import english_caption
from ldm.translation.politeness import plainly_chinese
from ldm.translation.translate import Translator
from tests.chinese_scenes import scenes
from tests.ldm.translation.test_translate import wordings

TRANSLATE = Translator()


def test_chinese_wordings_of_the_demo_scenes_become_one_of_their_english_captions():
    for prompt, scene in scenes(0, 100):
        assert TRANSLATE(prompt).english in wordings(english_caption, *scene), prompt


@pytest.mark.parametrize(
    ("chinese", "english"),
    [
        ("一隻咬著紅蘋果的貓，水彩畫", "a cat biting a red apple, a watercolor painting"),
        ("一隻貓咬著紅色的蘋果", "a cat biting a red apple"),
        ("貓在藍色背景上", "a cat on a blue background"),
        ("以藍色為背景的貓", "a cat on a blue background"),
        ("貓，藍色的背景", "a cat, blue background"),
        ("貓，背景是寺廟", "a cat, a temple in the background"),
        ("復古相機放在木桌上", "a retro camera on a wooden table"),
        ("三隻狗和3隻貓", "three dogs and three cats"),
        ("12隻貓", "12 cats"),
        ("一群羊在草地上", "a group of sheep on a lawn"),
        ("桌上放著一杯咖啡和一本書", "a cup of coffee and a book on a table"),
        ("兩隻白色的貓的畫", "a painting of two white cats"),
        ("一張貓的美麗照片", "a beautiful photo of a cat"),
        ("兩張貓的照片", "two photos of a cat"),
        ("女孩看照片", "a girl looking at a photo"),
        ("戴帽子和圍巾的貓", "a cat wearing a hat and a scarf"),
        ("貓和狗之間的球", "a ball between a cat and a dog"),
        ("一群貓", "a group of cats"),
        ("天空城堡", "a sky castle"),
        ("在海邊的女孩", "a girl at the seaside"),
        ("花園裡有一隻貓", "a cat in a garden"),
        ("左邊是貓，右邊是狗", "a cat on the left, a dog on the right"),
        ("沒有帽子的雪人", "a snowman without a hat"),
        ("被雪覆蓋的山", "a mountain covered by snow"),
        ("頭髮很長的女孩", "a girl with long hair"),
        (
            "一個長髮的女孩坐在椅子上看書",
            "a girl with long hair sitting on a chair reading a book",
        ),
        ("坐在窗邊看雨的貓", "a cat sitting by a window looking at rain"),
        ("女孩抱著一隻戴帽子的貓", "a girl hugging a cat wearing a hat"),
        ("戴帽子的貓和穿裙子的狗", "a cat wearing a hat and a dog wearing a skirt"),
        ("穿西裝的狐狸在辦公室打電話", "a fox wearing a suit making a phone call in an office"),
        ("紅色和藍色的氣球", "a red and blue balloon"),
        ("梵谷風格的星空", "a Van Gogh style starry sky"),
        ("太空人騎在馬上", "an astronaut riding a horse"),
        ("一只戴着红帽子的猫", "a cat wearing a red hat"),
        ("女孩穿的衣服", "clothes worn by a girl"),
        ("紅色 背景 的 貓", "a cat on a red background"),
    ],
)
def test_words_stand_in_english_order(chinese, english):
    made = TRANSLATE(chinese)
    assert (made.english, made.left_out) == (english, ())


@pytest.mark.parametrize(
    "wording",
    ["{}", "請畫{}", "請幫我畫{}", "可以幫我畫{}嗎？謝謝", "畫{}，謝謝", "我想要{}", "请生成{}"],
)
def test_politeness_makes_no_difference(wording):
    assert TRANSLATE(wording.format("一隻貓")).english.rstrip("?, ") == "a cat"


@pytest.mark.parametrize(
    "text", ["要塞上的旗子", "能量球", "酒吧", "畫家在畫畫", "請柬", "可以吃的花"]
)
def test_words_that_only_begin_or_end_like_politeness_stay(text):
    assert plainly_chinese(text) == text


@pytest.mark.parametrize(
    ("typed", "english"),
    [
        ("貓:0.25 狗:0.75", "a cat:0.25 a dog:0.75"),
        ("（紅色的貓：1.2）", "(a red cat:1.2)"),
        ("<lora:中文:1> 貓, [狗], 8k", "<lora:中文:1> a cat, [a dog], 8k"),
        ("a photo of 貓 at 12:30", "a photo of a cat at 12:30"),
    ],
)
def test_weights_brackets_tags_and_latin_words_stay(typed, english):
    assert TRANSLATE(typed).english == english


def test_what_is_not_known_is_left_out_and_named_as_it_was_typed():
    made = TRANSLATE("红色的龘齉猫")
    assert made.english == "a red cat" and made.left_out == ("龘齉",)


def test_the_users_words_come_before_all_others():
    translate = Translator({"貓": ("n", "a Maine Coon")})
    assert translate("藍色背景的貓").english == "a Maine Coon on a blue background"


def test_a_model_is_asked_in_the_language_that_it_reads_and_in_no_other():
    for language, asked_in in (("zh", "龘齉的貓"), ("ja", "ヌヌヌの猫")):
        asked = []
        translate = Translator(None, lambda text, asked=asked: asked.append(text) or "x", language)
        translate("龘齉的貓"), translate("ヌヌヌの猫")
        assert asked == [asked_in]


@pytest.mark.parametrize(
    "text",
    [
        "貓\0狗",
        "的" * 300,
        "貓在" * 200,
        "背景的" * 200,
        "有" * 100,
        "一隻的和在被",
        "在被把是",
        "被的鞋",
        "位於之於",
    ],
)
def test_strange_prompts_are_translated_too(text):
    assert isinstance(TRANSLATE(text, "zh").english, str)


@pytest.mark.parametrize(
    ("chinese", "english"),
    [("二十隻貓", "20 cats"), ("十二隻狗", "12 dogs"), ("一張畫布", "a canvas")],
)
def test_numbers_above_ten_are_read_whole(chinese, english):
    made = Translator()(chinese, "zh")
    assert (made.english, made.left_out) == (english, ())
