"""Chinese words, and a phrase cut into them.

The words are in Traditional letters; a spelling in Simplified ones is found by those. Classes:

    n noun  a adjective  v verb  adv adverb  num number
    kind of picture (畫)  bg (背景)  part of a body (頭髮)  wear (帽子)
    rel  what stands behind a thing and says where (上, 旁邊): "on|at the top", with it and alone
    at   a place or time by itself (海邊, 夜晚): "a seaside|at the seaside", as a noun and a place
    of   a measure that English has too (一杯): "cup of|", "group of|many" of what is counted
    de 的  zai 在  and 和  have 有  without 沒有  be 是  bei 被  p what has no English

The English of verbs and nouns is as in ``ldm.translation.lexicon``.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from functools import cache, partial

from ldm.translation.chinese_letters import traditional
from ldm.translation.lexicon import (
    FOLDER,
    LONGEST_WORD,
    Lexicon,
    SortedLines,
    Word,
    Words,
    read_table,
)
from ldm.translation.sentence import (
    FOREIGN,
    FOREIGN_WORD,
    OF_UNKNOWN,
    UNKNOWN,
    Token,
    cut,
    number_name,
)

SHIPPED = FOLDER / "chinese.tsv.gz"
OWN = FOLDER / "chinese_words.tsv"
# A word of the dictionary costs more than two of the project's, which the grammar knows better.
_COST = {0: 4, 1: 6, 2: 14}
_OF_A_LETTER = 6  # more, for a word of the dictionary that is one letter
PICTURE = "picture"
"""The form of a number that counts pictures: 一張."""
_COUNTED = re.compile(
    "(?P<number>[0-9]+|[一二三四五六七八九十百]+|[兩两])(?P<counter>[隻只個个匹頭头條条位名朵顆颗棵株輛辆架艘台臺部座"
    "間间棟栋把本件頂顶雙双支枝根塊块片杯碗盤盘尾口扇盞盏尊幢家所層层條种種輪轮面道枚列對对群張张幅幀帧])"
)
_PICTURES = "張张幅幀帧"


class ChineseLexicon(Lexicon):
    """Chinese words in layers: as they are spelled, then in Traditional letters."""

    def _find(self, spelling: str) -> Word | None:
        for rank, words in enumerate(self.layers):
            for alike in dict.fromkeys((spelling, traditional(spelling))):
                if alike in words:
                    return Word(*words[alike], rank=rank)
        return None


@cache
def chinese_words() -> dict[str, tuple[str, str]]:
    """Return the project's Chinese words."""
    return read_table(OWN.read_text(encoding="utf-8"))


@cache
def chinese_dictionary() -> Words:
    """Return the Chinese words of the dictionary that ships."""
    return SortedLines(gzip.decompress(SHIPPED.read_bytes()).decode())


def chinese_tokens(phrase: str, lexicon: Lexicon) -> list[Token]:
    """Cut a Chinese phrase into words.

    Args:
        phrase: After NFKC, without spaces; words in Latin letters and numbers are kept as one.
        lexicon: The words.
    """
    return cut(phrase, partial(_candidates, lexicon=lexicon))


def _candidates(phrase: str, start: int, lexicon: Lexicon) -> Iterator[tuple[int, int, Token]]:
    """Yield what could begin at a place: its end, what it costs, and the token."""
    if counted := _COUNTED.match(phrase, start):
        form = PICTURE if counted["counter"] in _PICTURES else "base"
        word = Word("num", number_name(counted["number"]), form)
        yield counted.end(), 7, Token(counted[0], word)
    elif foreign := FOREIGN_WORD.match(phrase, start):
        yield foreign.end(), 1, Token(foreign[0], Word(FOREIGN, foreign[0]))
    for length in range(1, min(LONGEST_WORD, len(phrase) - start) + 1):
        text = phrase[start : start + length]
        if word := lexicon.find(text):
            cost = _COST[word.rank] + (word.rank == 2 and length == 1) * _OF_A_LETTER
            yield start + length, cost, Token(text, word)
    yield start + 1, OF_UNKNOWN, Token(phrase[start], Word(UNKNOWN, ""))
