"""Make the dictionary that ships, from Debian's package edict and PyPI's package emoji.

    apt-get download edict && dpkg -x edict_*.deb edict
    pip download --no-deps emoji && unzip emoji-*.whl -d emoji
    python -m ldm.translation.compile_dictionary \
        edict/usr/share/edict/edict emoji/emoji/unicode_codes

Each word gets one English rendering that suits a prompt for pictures: the first gloss of its first
sense, without "to", articles and what stands in parentheses. Common words are taken with their
spelling in kana, others as they are written with kanji or in katakana alone: a rare word in
hiragana would be found inside of others. The same files give the same dictionary, to the byte.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ldm.errors import UserError
from ldm.paths import ERRORS, reason
from ldm.translation.letters import CJK, has_cjk, is_kana
from ldm.translation.lexicon import SHIPPED

_LINE = re.compile(r"(?P<word>\S+) (?:\[(?P<kana>[^\]]+)\] )?/(?P<senses>.*)/")
_ASIDE = re.compile(r"\([^()]*\)|\{[^{}]*\}|\[[^\[\]]*\]")
_LEADING = re.compile(r"\s*\(([^()]*)\)")
_ARTICLE = re.compile(r"^(?:to|a|an|the) ", re.IGNORECASE)
# 馬に乗る is three words, which the grammar understands.
_IDIOM = re.compile(f".を|[{CJK}][にがでの][{CJK}]")
_PLAIN = re.compile(r"[A-Za-z][A-Za-z' \-]*")
# Words that are no longer used, wrong, or nothing to be drawn unasked.
_LEFT_OUT = {"arch", "obs", "obsc", "rare", "X", "vulg", "derog", "iK", "io", "oK", "ok", "ik"}
_LONGEST_GLOSS = 4  # words; a longer one explains and does not name
_WORD_LENGTHS = range(1, 13)
# The first that an entry has decides: a noun that is also an adjective is drawn as the noun.
_CLASSES = (
    ("v1", re.compile("v1(-s)?")),
    ("v5", re.compile("v5.*")),
    ("a", re.compile("adj-ix?")),
    ("na", re.compile("adj-(na|f|t)")),
    ("vs", re.compile("vs")),
    ("n", re.compile("n|n-t|n-pr|pn")),
    ("na", re.compile("adj-no|adj-pn")),
    ("adv", re.compile("adv(-to)?")),
)


@dataclass(frozen=True, order=True)
class Entry:
    """One rendering of a word; the smallest of several is the one that counts.

    Attributes:
        rank: 0 for a common word as it is usually written, more for others.
        glosses: Minus how many its source gives: of two words that are written alike, the one with
            more to say is the more usual.
        number: Where it stands in its source.
        word: How the word is written.
        kind: Its class, see ``ldm.translation.lexicon``.
        english: The rendering.
    """

    rank: int
    glosses: int
    number: int
    word: str
    kind: str
    english: str


def entries_of_edict(lines: Sequence[str]) -> Iterator[Entry]:
    """Yield the entries of EDICT's lines, with each spelling that they are to be found by."""
    for number, line in enumerate(lines):
        found = _LINE.fullmatch(line.strip())
        if found is None or found["word"].startswith(("　", "？")):
            continue
        senses = found["senses"]
        common = "(P)" in senses
        tags = _tags(senses)
        kind, english = _kind(tags), gloss(senses.split("/")[:3])
        if kind is None or english is None or tags & _LEFT_OUT:
            continue
        if kind in ("v1", "v5") and _IDIOM.search(found["word"]):
            continue
        word, kana = found["word"], found["kana"]
        place = (-senses.count("/"), number)
        alone = kana is None
        if _is_wanted(word, common=common, alone=alone):
            yield Entry(0 if common else 3, *place, word, kind, english)
        if common and kana is not None and len(kana) > 1:
            yield Entry(1 if "uk" in tags else 2, *place, kana, kind, english)
        elif kana is not None and "uk" in tags and _is_wanted(kana, common=False, alone=True):
            yield Entry(3, *place, kana, kind, english)


def _is_wanted(word: str, *, common: bool, alone: bool) -> bool:
    if len(word) not in _WORD_LENGTHS or not has_cjk(word):
        return False
    if common:
        return len(word) > 1 or not is_kana(word)
    hiragana = any("ぁ" <= letter <= "ゖ" for letter in word)
    return not is_kana(word) or (len(word) > 1 and alone and not hiragana)


def _tags(senses: str) -> set[str]:
    """Return the marks before the first gloss: word classes, and notes on usage."""
    found, at = set(), 0
    while mark := _LEADING.match(senses, at):
        found.update(part.strip() for part in mark[1].split(","))
        at = mark.end()
    return found


def _kind(tags: set[str]) -> str | None:
    for kind, pattern in _CLASSES:
        if any(pattern.fullmatch(tag) for tag in tags):
            return kind
    return None


def gloss(glosses: Sequence[str]) -> str | None:
    """Return the first gloss that names the thing in a few plain words; None if there is none."""
    for text in glosses:
        while (shorter := _ASIDE.sub(" ", text)) != text:
            text = shorter
        text = _ARTICLE.sub("", " ".join(text.replace("...", " ").split()).rstrip(".!"))
        text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
        if _PLAIN.fullmatch(text) and len(text.split()) <= _LONGEST_GLOSS:
            return text
    return None


def entries_of_emoji(folder: Path, language: str = "ja") -> Iterator[Entry]:
    """Yield the names of emoji, as Unicode's CLDR has them in English and another language."""
    english, other = (
        json.loads(read_source(folder / name)) for name in ("emoji.json", f"emoji_{language}.json")
    )
    for number, (sign, entry) in enumerate(english.items()):
        ours = entry["en"].strip(":").replace("_", " ")
        theirs = other.get(sign, "").strip(":")
        plain = _PLAIN.fullmatch(ours) and re.fullmatch(r"[^_:()]{2,12}", theirs)
        if plain and has_cjk(theirs):
            ours = ours if any(map(str.isupper, ours[1:])) else ours[0].lower() + ours[1:]
            yield Entry(4, 0, number, theirs, "n", ours)


def compiled(entries: Iterator[Entry]) -> bytes:
    """Return the file: a line for each word, sorted, and compressed.

    A spelling in kana that stands for several common words is left out, unless one of them is
    usually written so.
    """
    best: dict[str, Entry] = {}
    meanings: dict[str, set[str]] = {}
    for entry in entries:
        if entry.rank == 2:
            meanings.setdefault(entry.word, set()).add(entry.english)
        if entry.word not in best or entry < best[entry.word]:
            best[entry.word] = entry
    kept = [
        entry
        for word, entry in best.items()
        if entry.rank != 2 or (len(meanings[word]) == 1 and len(word) > 2)
    ]
    lines = sorted(f"{each.word}\t{each.kind}\t{each.english}\n" for each in kept)
    return gzip.compress("".join(lines).encode(), 9, mtime=0)


def read_source(path: Path, encoding: str = "utf-8") -> str:
    """Return the text of a file that a dictionary is made from.

    Raises:
        UserError: It cannot be read.
    """
    try:
        return path.read_text(encoding=encoding)
    except (*ERRORS, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} cannot be read ({reason(error)}); expected a file of Debian's edict, "
            "CC-CEDICT or PyPI's emoji; see the head of ldm/translation/compile_dictionary.py and "
            "of compile_chinese.py"
        ) from error


def main(argv: Sequence[str]) -> int:
    """Write the dictionary, and say how large it is.

    Args:
        argv: EDICT's file, and the folder with emoji.json and emoji_ja.json.
    """

    def make(edict: Path, emoji: Path) -> bytes:
        lines = read_source(edict, "euc_jp").splitlines()
        return compiled(iter([*entries_of_edict(lines), *entries_of_emoji(emoji)]))

    usage = "python -m ldm.translation.compile_dictionary EDICT EMOJI_FOLDER"
    return compile_from(argv, usage, make, SHIPPED)


def compile_from(
    argv: Sequence[str], usage: str, make: Callable[[Path, Path], bytes], path: Path
) -> int:
    """Make a dictionary of a file and a folder; return the program's exit code.

    Args:
        argv: The two.
        usage: What is said if they are others.
        make: Compiles them.
        path: Where the dictionary is written.
    """
    if len(argv) != 2:
        sys.stderr.write(f"usage: {usage}\n")
        return 2
    try:
        data = make(*map(Path, argv))
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    write(path, data)
    return 0


def write(path: Path, data: bytes) -> None:
    """Write a compiled dictionary, and say how large it is."""
    path.write_bytes(data)
    words = gzip.decompress(data).count(b"\n")
    sys.stdout.write(f"{path}: {words:,} words, {len(data):,} bytes\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
