"""Which language a text is taken for."""

from __future__ import annotations

import pytest

from ldm.data.demo.scene_captions import japanese_caption
from ldm.data.demo.scene_vocabulary import COLOURS, NOUNS
from ldm.translation.chinese_letters import traditional
from ldm.translation.detect import is_japanese, language_of
from tests.chinese_scenes import scenes

CHINESE = (
    "藍色背景的貓 一隻羊 红花 美麗的花 小狗 三只猫 一個女孩 在海邊 高畫質 台北101的夜景 "
    "穿著和服 没有文字"
)
JAPANESE = (
    "赤い猫 ﾈｺ 猫 花 山 水彩 幻想的風景 神秘的森林 林檎一個 軍艦二隻 天狗 存在感 日本庭園 浮世絵 "
    "高品質 写実的肖像 宇宙飛行士 春の貓 金魚 頰 渡辺 在日外国人 著者近影"
)


@pytest.mark.parametrize("text", CHINESE.split())
def test_what_chinese_alone_writes_is_chinese(text):
    assert language_of(text) == "zh" and not is_japanese(text)
    assert language_of(f"<lora:a:1> ({text}:1.2), 8k") == "zh"


@pytest.mark.parametrize("text", JAPANESE.split())
def test_kana_and_what_both_write_are_japanese(text):
    assert language_of(text) == "ja" and is_japanese(text)


def test_what_both_write_is_what_is_said():
    assert language_of("山", "zh") == "zh" and language_of("赤い山", "zh") == "ja"


@pytest.mark.parametrize("text", ["", "a cat", "naïve 🐈", "한국어", "кот"])
def test_other_texts_are_not_translated(text):
    assert language_of(text) is None


def test_prompts_of_the_demo_scenes_are_told_apart():
    for noun in NOUNS:
        for colour in COLOURS:
            caption = japanese_caption([noun], "medium", None, colour, lambda options: options[0])
            assert language_of(caption) == "ja"
    wrong = [prompt for prompt, _ in scenes(1, 300) if language_of(prompt) != "zh"]
    assert len(wrong) <= 3, wrong  # 魚，灰色背景 is Japanese too


def test_simplified_letters_are_read_as_traditional_ones():
    assert traditional("红色的猫和长颈鹿") == "紅色的貓和長頸鹿"
    assert traditional("a 紅色的貓") == "a 紅色的貓"
