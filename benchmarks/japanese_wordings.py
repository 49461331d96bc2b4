"""Word the demo's scenes in Japanese as people type them, also as no caption of training does.

Five kinds: the captions that the bundled model was trained on; other orders of the words; half- and
full-width letters; nouns and colours in another spelling (kana for kanji and the other way about);
politeness around a caption. ``wordings`` gives each scene one, by a seed.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ldm.data.demo.scene_captions import japanese_caption
from ldm.data.demo.scene_vocabulary import COLOURS, NOUNS, RELATIONS, SIZES

if TYPE_CHECKING:
    from ldm.data.demo.scenes import Scene

KINDS = ("captions", "word order", "widths", "spellings", "politeness")

# Noun, then how else it is written; a reading in kana comes first.
_SPELLINGS = """
astronaut うちゅうひこうし 宇宙ひこうし | robot ろぼっと | ghost おばけ オバケ 幽霊
snowman ゆきだるま 雪ダルマ | horse うま ウマ | cat ねこ ネコ | dog いぬ イヌ | cow うし ウシ
pig ぶた ブタ | elephant ぞう ゾウ | rabbit ウサギ 兎 | monkey さる サル | lion らいおん
fox きつね キツネ | panda ぱんだ | frog かえる カエル | penguin ぺんぎん | owl ふくろう フクロウ
rooster にわとり ニワトリ | flamingo ふらみんご | turtle かめ カメ | snake へび ヘビ
dinosaur きょうりゅう | dragon りゅう 龍 ドラゴン | giraffe きりん 麒麟 | fish さかな サカナ
whale くじら クジラ | octopus たこ タコ | crab かに カニ | snail カタツムリ 蝸牛
butterfly ちょう ちょうちょ | bee はち ハチ ミツバチ | ladybug テントウムシ てんとうむし
apple リンゴ 林檎 | banana ばなな | strawberry イチゴ 苺 | watermelon すいか スイカ
pineapple ぱいなっぷる | carrot にんじん ニンジン | mushroom キノコ 茸 | pizza ぴざ
hamburger はんばーがー | cake けーき | donut どーなつ ドーナッツ | tree 樹
palm_tree やしの木 椰子の木 | cactus さぼてん 仙人掌 | sunflower ヒマワリ 向日葵
tulip ちゅーりっぷ | rainbow にじ | moon つき お月様 | star ほし お星様 | sun たいよう お日様
house いえ おうち | castle しろ お城 | tent てんと | car くるま 自動車 | bus ばす
bicycle じてんしゃ | train きしゃ 電車 | airplane ひこうき | helicopter へりこぷたー
rocket ろけっと | sailboat よっと 帆船 | guitar ぎたー | umbrella かさ カサ | balloon ふうせん
crown おうかん 冠 | key かぎ カギ | camera かめら | soccer_ball さっかーぼーる
gift ぷれぜんと 贈り物
"""
SPELLINGS = {
    words[0].replace("_", " "): tuple(words[1:])
    for line in _SPELLINGS.strip().splitlines()
    for words in (cell.split() for cell in line.split("|"))
}
# The colour in front of a noun, otherwise written; then as a noun.
_COLOURS = {
    "red": ("あかい 赤色の", "赤"),
    "orange": ("オレンジの だいだい色の", "オレンジ色"),
    "yellow": ("きいろい 黄色の", "黄色"),
    "green": ("みどりの 緑色の", "緑"),
    "light blue": ("みずいろの 空色の", "水色"),
    "blue": ("あおい 青色の", "青"),
    "purple": ("むらさきの 紫色の", "紫"),
    "pink": ("ぴんくの ピンク色の", "ピンク"),
    "brown": ("ちゃいろの 茶色い", "茶色"),
    "gray": ("はいいろの グレーの", "灰色"),
    "white": ("しろい 白色の", "白"),
    "black": ("くろい 黒色の", "黒"),
}
_ORDERS = (
    "{colour}背景、{x}",
    "{colour}背景、{x}の絵",
    "{x}、背景は{noun}",
    "背景は{noun}、{x}",
    "{noun}を背景にした{x}",
    "{noun}を背景に{x}",
    "{x}の写真、{noun}の背景",
)
_RELATED = {
    "next to": ("{b}と{a}", "{a}と{b}が並んでいる", "{b}の横の{a}", "{a}が{b}の隣にいる"),
    "left of": ("{b}の左に{a}", "{a}が{b}の左にいる", "左に{a}、右に{b}"),
    "right of": ("{b}の右に{a}", "{a}が{b}の右にいる", "右に{a}、左に{b}"),
    "above": ("{b}の上に{a}", "{a}が{b}の上にある", "上に{a}、下に{b}"),
    "below": ("{b}の下に{a}", "{a}が{b}の下にある", "下に{a}、上に{b}"),
    "riding": ("{a}が{b}に乗っている", "{b}の上に乗った{a}", "{b}に{a}が乗っている"),
}
_POLITE = (
    "{x}を描いてください",
    "{x}をお願いします",
    "{x}です",
    "{x}が見たいです",
    "{x}を描いてもらえますか",
    "すみません、{x}を描いてほしいです",
)
Pick = Callable[[Sequence], object]


def wordings(scenes: Sequence[Scene], seed: int) -> list[tuple[str, str]]:
    """Return a kind and a Japanese prompt for each scene; the kinds take turns.

    Args:
        scenes: Their own captions are not used; every prompt names the background.
        seed: Of the choice among a kind's wordings.
    """
    made = []
    for k, scene in enumerate(scenes):
        kind = KINDS[k % len(KINDS)]
        pick = random.Random(f"{seed} {k}").choice
        made.append((kind, _WORD[kind](scene, pick)))
    return made


def half_width(text: str) -> str:
    """Write katakana in half width.

    Example:
        >>> half_width("ピンクのパンダ")
        'ﾋﾟﾝｸのﾊﾟﾝﾀﾞ'
    """
    parts = unicodedata.normalize("NFD", text)
    return "".join(_HALF.get(letter, letter) for letter in parts)


_HALF = {unicodedata.normalize("NFKC", chr(code)): chr(code) for code in range(0xFF65, 0xFF9E)}
# Marks of voice stand behind their letter, in half width as letters of their own.
_HALF |= {"\u3099": "\uff9e", "\u309a": "\uff9f"}


def _katakana(text: str) -> str:
    return "".join(chr(ord(letter) + 0x60) if "ぁ" <= letter <= "ゖ" else letter for letter in text)


def _nouns(scene: Scene) -> tuple[str, ...]:
    """Return the nouns in the order in which a caption names them."""
    swapped = scene.relation is not None and RELATIONS[scene.relation].swapped
    return scene.objects[::-1] if swapped else scene.objects


def _caption(scene: Scene, pick: Pick) -> str:
    size = scene.size or "medium"
    return japanese_caption(_nouns(scene), size, scene.relation, scene.background, pick)


def _word_order(scene: Scene, pick: Pick) -> str:
    words = [NOUNS[noun].japanese for noun in _nouns(scene)]
    if scene.relation is None:
        orders = _ORDERS
        phrase = SIZES[scene.size].japanese + words[0]
    else:
        # What is a sentence of its own takes no more behind it.
        orders = (
            "{colour}背景、{x}",
            "背景は{noun}、{x}",
            "{x}、背景は{noun}",
            "{x}、{colour}背景",
        )
        phrase = pick(_RELATED[scene.relation]).format(a=words[0], b=words[1])
    colour = COLOURS[scene.background].japanese
    return pick(orders).format(x=phrase, colour=colour, noun=_COLOURS[scene.background][1])


def _widths(scene: Scene, pick: Pick) -> str:
    caption = _caption(scene, pick)
    if pick((True, False)):
        for noun in scene.objects:
            reading = _katakana(SPELLINGS[noun][0])
            caption = caption.replace(NOUNS[noun].japanese, reading)
        return half_width(caption).replace("、", "､")
    spaced = caption.replace("背景", "　背景").replace("、", "，")
    return spaced if "，" in spaced else spaced.replace("の写真", "　の　写真")


def _spellings(scene: Scene, pick: Pick) -> str:
    caption = _caption(scene, pick)
    for noun in scene.objects:
        caption = caption.replace(NOUNS[noun].japanese, pick(SPELLINGS[noun]), 1)
    if pick((True, False)):
        other = pick(_COLOURS[scene.background][0].split())
        caption = caption.replace(COLOURS[scene.background].japanese, other)
    return caption


def _politeness(scene: Scene, pick: Pick) -> str:
    return pick(_POLITE).format(x=_caption(scene, pick))


_WORD = dict(zip(KINDS, (_caption, _word_order, _widths, _spellings, _politeness), strict=True))
