"""Chinese wordings of the bundled model's scenes."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from ldm.data.demo.scene_vocabulary import COLOURS, NOUNS, RELATIONS, SIZES

# A measure word; the noun in Taiwan's words, and behind a slash in Simplified letters.
_TABLE = """
astronaut 位 太空人/宇航员 | robot 個 機器人/机器人 | ghost 個 鬼/幽靈 | snowman 個 雪人/雪人
horse 匹 馬/马 | cat 隻 貓/猫咪 | dog 隻 狗/狗狗 | cow 頭 牛/乳牛 | pig 隻 豬/猪
elephant 頭 大象/大象 | rabbit 隻 兔子/兔子 | monkey 隻 猴子/猴子 | lion 頭 獅子/狮子
fox 隻 狐狸/狐狸 | panda 隻 熊貓/大熊猫 | frog 隻 青蛙/青蛙 | penguin 隻 企鵝/企鹅
owl 隻 貓頭鷹/猫头鹰 | rooster 隻 公雞/公鸡 | flamingo 隻 紅鶴/火烈鸟 | turtle 隻 烏龜/乌龟
snake 條 蛇/蛇 | dinosaur 隻 恐龍/恐龙 | dragon 條 龍/龙 | giraffe 隻 長頸鹿/长颈鹿
fish 條 魚/鱼 | whale 頭 鯨魚/鲸鱼 | octopus 隻 章魚/章鱼 | crab 隻 螃蟹/螃蟹
snail 隻 蝸牛/蜗牛 | butterfly 隻 蝴蝶/蝴蝶 | bee 隻 蜜蜂/蜜蜂 | ladybug 隻 瓢蟲/瓢虫
apple 顆 蘋果/苹果 | banana 根 香蕉/香蕉 | strawberry 顆 草莓/草莓 | watermelon 個 西瓜/西瓜
pineapple 個 鳳梨/菠萝 | carrot 根 紅蘿蔔/胡萝卜 | mushroom 朵 蘑菇/蘑菇 | pizza 個 披薩/披萨
hamburger 個 漢堡/汉堡包 | cake 個 蛋糕/蛋糕 | donut 個 甜甜圈/甜甜圈 | tree 棵 樹/树木
palm_tree 棵 棕櫚樹/棕榈树 | cactus 棵 仙人掌/仙人掌 | sunflower 朵 向日葵/向日葵
tulip 朵 鬱金香/郁金香 | rainbow 道 彩虹/彩虹 | moon 個 月亮/月亮 | star 顆 星星/星星
sun 個 太陽/太阳 | house 間 房子/房屋 | castle 座 城堡/城堡 | tent 頂 帳篷/帐篷
car 輛 汽車/车子 | bus 輛 公車/巴士 | bicycle 輛 腳踏車/自行车 | train 列 火車/火车
airplane 架 飛機/飞机 | helicopter 架 直升機/直升机 | rocket 枚 火箭/火箭 | sailboat 艘 帆船/帆船
guitar 把 吉他/吉他 | umbrella 把 雨傘/雨伞 | balloon 個 氣球/气球 | crown 頂 皇冠/王冠
key 把 鑰匙/钥匙 | camera 台 相機/相机 | soccer_ball 個 足球/足球 | gift 個 禮物/礼物
"""
WORDS = {
    english.replace("_", " "): (measure, words.split("/"))
    for line in _TABLE.strip().splitlines()
    for english, measure, words in (cell.split() for cell in line.split("|"))
}
COLOUR_WORDS = {
    "red": ["紅色", "红色"],
    "orange": ["橘色", "橙色"],
    "yellow": ["黃色", "黄色"],
    "green": ["綠色", "绿色"],
    "light blue": ["淺藍色", "水蓝色"],
    "blue": ["藍色", "蓝色"],
    "purple": ["紫色", "紫色"],
    "pink": ["粉紅色", "粉红色"],
    "brown": ["棕色", "咖啡色"],
    "gray": ["灰色", "灰色"],
    "white": ["白色", "白色"],
    "black": ["黑色", "黑色"],
}
RELATION_WORDS = {
    "next to": ["{a}和{b}", "{b}旁邊的{a}", "{a}在{b}旁邊"],
    "left of": ["{b}左邊的{a}", "{a}在{b}的左邊"],
    "right of": ["{b}右邊的{a}", "{a}在{b}的右側"],
    "above": ["{b}上方的{a}", "{a}在{b}的上面"],
    "below": ["{b}下面的{a}", "{a}在{b}下方"],
    "riding": ["騎著{b}的{a}", "{a}騎{b}", "騎在{b}上的{a}"],
}
SIZE_WORDS = {"small": ["小", "小小的"], "medium": [""], "large": ["大", "巨大的"]}
KINDS = ("{x}", "{x}的照片", "{x}的畫", "一張{x}的圖片", "請畫{x}")
BACKGROUNDS = ("{c}背景的{x}", "{x}，{c}背景", "{c}背景上的{x}", "{x}，背景是{c}")


def prompt_of(
    nouns: Sequence[str], size: str, relation: str | None, colour: str, choose: random.Random
) -> str:
    """Word a scene in Chinese; the arguments are those of ``english_caption``."""
    form = choose.randrange(2)
    named = [WORDS[noun][1][form] for noun in nouns]
    if relation is None:
        one = choose.choice(("", f"一{WORDS[nouns[0]][0]}"))
        phrase = f"{one}{choose.choice(SIZE_WORDS[size])}{named[0]}"
    else:
        phrase = choose.choice(RELATION_WORDS[relation]).format(a=named[0], b=named[1])
    kind, background = choose.choice(KINDS), choose.choice(BACKGROUNDS)
    word = COLOUR_WORDS[colour][form]
    if background.startswith("{x}"):
        return background.format(x=kind.format(x=phrase), c=word)
    return kind.format(x=background.format(x=phrase, c=word))


def scenes(seed: int, count: int) -> Iterator[tuple[str, tuple]]:
    """Yield Chinese prompts, each with its scene as captions take it; half have two objects."""
    choose = random.Random(seed)
    for number in range(count):
        relation = choose.choice(list(RELATIONS)) if number % 2 else None
        nouns = choose.sample(list(NOUNS), 1 if relation is None else 2)
        size = choose.choice(list(SIZES)) if relation is None else "medium"
        scene = (nouns, size, relation, choose.choice(list(COLOURS)))
        yield prompt_of(*scene, choose), scene
