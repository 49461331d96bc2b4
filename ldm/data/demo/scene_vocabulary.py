"""Words of the demo scenes: nouns with their emoji, background colours, sizes and relations.

Each entry carries its English and its Japanese wording. The nouns are chosen so that no two of
their emoji look alike at 30 pixels; text-like emoji (keycaps, clock faces, zodiac squares) and
gender variants are left out.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Noun:
    """A thing that can be drawn.

    Attributes:
        english: singular English noun, the key under which the noun is known everywhere.
        japanese: Japanese noun.
        emoji: the character sequence that the emoji font draws as one glyph.
    """

    english: str
    japanese: str
    emoji: str


@dataclass(frozen=True)
class Colour:
    """A background colour.

    Attributes:
        english: English adjective, the key under which the colour is known everywhere.
        japanese: Japanese form that stands directly before a noun (with its particle).
        rgb: red, green, blue in 0..255.
    """

    english: str
    japanese: str
    rgb: tuple[int, int, int]


_NOUN_TABLE = """
astronaut 宇宙飛行士 🧑‍🚀 | robot ロボット 🤖 | ghost お化け 👻 | snowman 雪だるま ⛄
horse 馬 🐎 | cat 猫 🐈 | dog 犬 🐕 | cow 牛 🐄 | pig 豚 🐖 | elephant 象 🐘
rabbit うさぎ 🐇 | monkey 猿 🐒 | lion ライオン 🦁 | fox 狐 🦊 | panda パンダ 🐼
frog 蛙 🐸 | penguin ペンギン 🐧 | owl 梟 🦉 | rooster 鶏 🐓 | flamingo フラミンゴ 🦩
turtle 亀 🐢 | snake 蛇 🐍 | dinosaur 恐竜 🦖 | dragon 竜 🐉 | giraffe キリン 🦒
fish 魚 🐠 | whale 鯨 🐳 | octopus 蛸 🐙 | crab 蟹 🦀 | snail かたつむり 🐌
butterfly 蝶 🦋 | bee 蜂 🐝 | ladybug てんとう虫 🐞
apple りんご 🍎 | banana バナナ 🍌 | strawberry いちご 🍓 | watermelon 西瓜 🍉
pineapple パイナップル 🍍 | carrot 人参 🥕 | mushroom きのこ 🍄 | pizza ピザ 🍕
hamburger ハンバーガー 🍔 | cake ケーキ 🎂 | donut ドーナツ 🍩
tree 木 🌳 | palm_tree ヤシの木 🌴 | cactus サボテン 🌵 | sunflower ひまわり 🌻
tulip チューリップ 🌷 | rainbow 虹 🌈 | moon 月 🌙 | star 星 ⭐ | sun 太陽 ☀️
house 家 🏠 | castle 城 🏰 | tent テント ⛺
car 車 🚗 | bus バス 🚌 | bicycle 自転車 🚲 | train 汽車 🚂 | airplane 飛行機 ✈️
helicopter ヘリコプター 🚁 | rocket ロケット 🚀 | sailboat ヨット ⛵
guitar ギター 🎸 | umbrella 傘 ☂️ | balloon 風船 🎈 | crown 王冠 👑 | key 鍵 🔑
camera カメラ 📷 | soccer_ball サッカーボール ⚽ | gift プレゼント 🎁
"""


def _parse_nouns(table: str) -> dict[str, Noun]:
    cells = (cell.split() for line in table.strip().splitlines() for cell in line.split("|"))
    nouns = (Noun(english.replace("_", " "), ja, emoji) for english, ja, emoji in cells)
    return {noun.english: noun for noun in nouns}


NOUNS: dict[str, Noun] = _parse_nouns(_NOUN_TABLE)

COLOURS: dict[str, Colour] = {
    colour.english: colour
    for colour in (
        Colour("red", "赤い", (214, 40, 40)),
        Colour("orange", "オレンジ色の", (250, 140, 20)),
        Colour("yellow", "黄色い", (250, 222, 60)),
        Colour("green", "緑の", (50, 160, 70)),
        Colour("light blue", "水色の", (125, 205, 245)),
        Colour("blue", "青い", (40, 75, 205)),
        Colour("purple", "紫の", (130, 45, 165)),
        Colour("pink", "ピンクの", (250, 155, 195)),
        Colour("brown", "茶色の", (120, 72, 38)),
        Colour("gray", "灰色の", (135, 135, 135)),
        Colour("white", "白い", (244, 244, 244)),
        Colour("black", "黒い", (20, 20, 20)),
    )
}


@dataclass(frozen=True)
class Size:
    """How large a lone object is drawn.

    Attributes:
        english, japanese: the adjective in a caption; empty for the default size.
        extent: longer side of the glyph as a fraction of the picture's side.
        share: fraction of the one-object scenes that have this size.
    """

    english: str
    japanese: str
    extent: float
    share: float


SIZES: dict[str, Size] = {
    "small": Size("small", "小さな", 0.47, 0.2),
    "medium": Size("", "", 0.62, 0.5),
    "large": Size("large", "大きな", 0.81, 0.3),
}


@dataclass(frozen=True)
class Relation:
    """How the first-named object A is placed relative to the second, B.

    Attributes:
        layout: the arrangement, which also sets the order of the objects: ``beside`` lists left
            then right, ``stacked`` upper then lower, ``riding`` rider then mount.
        swapped: whether the layout's first object is B instead of A.
        english: wordings; ``{a}`` and ``{b}`` are noun phrases with their articles.
        japanese: wordings; ``{a}`` and ``{b}`` are bare noun phrases.
        share: fraction of the two-object scenes that have this relation.
    """

    layout: str
    swapped: bool
    english: tuple[str, ...]
    japanese: tuple[str, ...]
    share: float


RELATIONS: dict[str, Relation] = {
    "next to": Relation(
        "beside", False, ("{a} next to {b}", "{a} and {b}"), ("{a}と{b}", "{b}の隣の{a}"), 0.17
    ),
    "left of": Relation(
        "beside", False, ("{a} to the left of {b}",), ("{b}の左の{a}", "{b}の左側の{a}"), 0.09
    ),
    "right of": Relation(
        "beside", True, ("{a} to the right of {b}",), ("{b}の右の{a}", "{b}の右側の{a}"), 0.09
    ),
    "above": Relation("stacked", False, ("{a} above {b}",), ("{b}の上の{a}",), 0.16),
    "below": Relation("stacked", True, ("{a} below {b}", "{a} under {b}"), ("{b}の下の{a}",), 0.16),
    "riding": Relation(
        "riding",
        False,
        ("{a} riding {b}", "{a} riding {b}", "{a} on top of {b}"),
        ("{b}に乗っている{a}", "{b}に乗った{a}"),
        0.33,
    ),
}
