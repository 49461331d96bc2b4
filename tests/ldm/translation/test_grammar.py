"""Faults that prompts as people type them brought up, a kind each."""

from __future__ import annotations

import pytest

from ldm.translation.translate import Translator

TRANSLATE = Translator()


def check(japanese, english):
    made = TRANSLATE(japanese)
    assert (made.english, made.left_out) == (english, ())


@pytest.mark.parametrize(
    ("japanese", "english"),
    [
        ("人のいない海岸", "a coast without people"),
        ("テレビのない部屋", "a room without television"),
        ("文字なし", "no text"),
        ("背景なし", "no background"),
        ("笑っていない少女", "a girl not smiling"),
        ("傘を差していない人", "a person not holding an umbrella"),
        ("赤くない車", "a not red car"),
    ],
)
def test_what_is_not_there_or_not_done_is_said(japanese, english):
    check(japanese, english)


@pytest.mark.parametrize(
    ("japanese", "english"),
    [
        ("目が大きい子猫", "a kitten with large eyes"),
        ("髪の長い女性", "a woman with long hair"),
        ("体の大きい熊", "a bear with large body"),
        ("ほっぺたの赤い男の子", "a boy with red cheeks"),
        ("少女の長い髪", "long hair of a girl"),
        ("空が青い", "blue sky"),
        ("翼を持つ天使", "an angel with wings"),
        ("剣を持つ天使", "an angel holding a sword"),
        ("背の高い男", "a tall man"),
    ],
)
def test_a_quality_belongs_to_the_part_that_it_is_said_of(japanese, english):
    check(japanese, english)


@pytest.mark.parametrize(
    ("japanese", "english"),
    [
        ("箱に入った子猫", "a kitten in box"),
        ("リボンのついた箱", "box with a ribbon"),
        ("苺の入ったケーキ", "a cake with a strawberry"),
        ("宝石でできた蝶", "a butterfly made of gem"),
        ("木で作られた家", "a wooden house"),
        ("猫の形をした雲", "clouds in the shape of a cat"),
        ("カーテン越しの光", "light through curtain"),
        ("空からの光", "light from sky"),
        ("花でいっぱいの部屋", "a room full of flowers"),
        ("夕日に照らされた塔", "a tower lit by a setting sun"),
        ("満月に向かって吠える狼", "a wolf howling toward a full moon"),
        ("赤い背景の中の猫", "a cat on a red background"),
    ],
)
def test_small_words_of_place_and_matter_have_their_preposition(japanese, english):
    check(japanese, english)


@pytest.mark.parametrize(
    ("japanese", "english"),
    [
        ("水面に浮かぶ花", "flowers floating on the surface of the water"),
        ("海辺に立つ少女", "a girl standing on a beach"),
        ("森に立つ少女", "a girl standing in a forest"),
    ],
)
def test_things_are_on_a_surface_and_in_a_room(japanese, english):
    check(japanese, english)


@pytest.mark.parametrize(
    ("japanese", "english"),
    [
        ("公園でサッカーをしている子供たち", "children playing soccer in a park"),
        ("剣道をする女の子", "a girl doing kendo"),
        ("散歩をする犬", "a dog walking"),
        ("マスクをした医者", "a doctor wearing a mask"),
        ("街を破壊する怪獣", "a monster destroying a town"),
        ("真珠のネックレスをした貴婦人", "lady wearing a pearl necklace"),
        ("緑色の目をした黒猫", "a black cat with green eyes"),
        ("楽しそうに笑う子供", "a child smiling cheerfully"),
        ("踊る人々", "people dancing"),
    ],
)
def test_what_somebody_does_is_a_verb(japanese, english):
    check(japanese, english)


@pytest.mark.parametrize(
    ("japanese", "english"),
    [
        ("鉛筆で描いた猫", "a cat drawn in pencil"),
        ("宇宙から見た地球", "the Earth seen from outer space"),
        ("絵を描いた少女", "a girl drawing a painting"),
    ],
)
def test_what_was_made_did_not_make_itself(japanese, english):
    check(japanese, english)


@pytest.mark.parametrize(
    ("japanese", "english"),
    [
        ("一輪の薔薇", "a rose"),
        ("三本の花", "three flowers"),
        ("三枚の葉", "three leaves"),
        ("数匹の犬", "several dogs"),
        ("ふたつの月", "two moons"),
        ("二人", "two people"),
        ("たくさんの風船", "a lot of balloons"),
        ("たくさんの雪", "a lot of snow"),
        ("無数の星", "countless stars"),
        ("五歳の女の子", "a five-year-old girl"),
        ("20代の女性", "a 20-something woman"),
    ],
)
def test_numbers_amounts_and_ages_count(japanese, english):
    check(japanese, english)


@pytest.mark.parametrize(
    ("japanese", "english"),
    [
        ("水彩画風の街", "a watercolor painting style town"),
        ("ジブリっぽい森", "a Studio Ghibli style forest"),
        ("ケルト風の模様の竜", "a Celtic style pattern dragon"),
        ("ゴッホ調の海", "Van Gogh style sea"),
    ],
)
def test_a_style_stands_in_front(japanese, english):
    check(japanese, english)


@pytest.mark.parametrize(
    ("japanese", "english"),
    [
        ("帽子をかぶった魔女と猫", "a witch wearing a hat, and a cat"),
        ("帽子をかぶった魔女と猫と犬", "a witch wearing a hat, and a cat and a dog"),
        ("泣いている女の子の横顔", "a profile of a girl crying"),
        ("本を読む女性の手", "a hand of a woman reading a book"),
        ("着物姿の女性", "a woman in a kimono"),
        ("とても美しい夕日", "a very beautiful setting sun"),
        ("カメラと古い写真", "a camera and an old photo"),
        ("猫と犬の古い写真", "an old photo of a cat and a dog"),
        ("赤・青・黄色の抽象画", "a red blue yellow abstract painting"),
        ("雨の夜", "rainy night"),
        ("雨の中の猫", "a cat in rain"),
        ("背景は黄色、猫", "a cat, yellow background"),
        ("赤い背景、大きな猫、高画質", "a large cat, red background, high quality"),
        ("赤い背景、(猫:1.2)", "red background, (a cat:1.2)"),
        ("大きなﾂｷの絵", "a painting of a large moon"),
        ("猫，青い　背景", "a cat, blue background"),
    ],
)
def test_words_go_with_what_they_are_said_of(japanese, english):
    check(japanese, english)


@pytest.mark.parametrize(
    ("japanese", "english"),
    [
        ("一つのレンズ", "a lens"),
        ("三枚のキャンバス", "three canvases"),
        ("五匹の狐", "five foxes"),
        ("一個の眼鏡", "a pair of glasses"),
        ("二個の眼鏡", "two pairs of glasses"),
        ("二十匹の猫", "20 cats"),
        ("百二十匹の猫", "120 cats"),
        ("二十歳の女性", "a 20-year-old woman"),
    ],
)
def test_one_of_a_thing_and_many_are_told_apart(japanese, english):
    assert Translator()(japanese, "ja").english == english
