"""The dictionary that ships, and how it is made."""

from __future__ import annotations

import gzip
import json

import pytest

from ldm.data.demo.scene_vocabulary import NOUNS
from ldm.translation import compile_dictionary
from ldm.translation.compile_dictionary import compiled, entries_of_edict, main
from ldm.translation.inflection import base_forms
from ldm.translation.lexicon import SHIPPED, Lexicon, SortedLines, dictionary, own_words

EDICT = """\
猫 [ねこ] /(n) (1) cat (esp. the domestic cat (Felis catus))/(n) (2) shamisen/(P)/
空 [から] /(n,adj-no) emptiness/vacuum/(P)/
空 [そら] /(n) (1) sky/the air/(n) (2) weather/(n) (3) far-off place/(P)/
走る [はしる] /(v5r,vi) (1) to run/(P)/
壊れる [こわれる] /(v1,vi) to be broken/to break/(P)/
欧羅巴 [ヨーロッパ] /(n) (uk) Europe (por: Europa)/
馬に乗る [うまにのる] /(exp,v5r) to ride a horse/
かみ /(n) (arch) upstream/
"""


def words_of(text):
    data = gzip.decompress(compiled(entries_of_edict(text.splitlines()))).decode()
    return dict(line.split("\t", 1) for line in data.splitlines())


def test_each_word_gets_one_clean_rendering():
    words = words_of(EDICT)
    assert words["猫"] == "n\tcat"
    assert words["空"] == "n\tsky"  # of two words that are written alike the one with more to say
    assert words["走る"] == words["はしる"] == "v5\trun"
    assert words["壊れる"] == "v1\tbe broken"
    assert words["ヨーロッパ"] == "n\tEurope"
    assert not {"馬に乗る", "かみ"} & words.keys()


def test_the_same_sources_give_the_same_file(tmp_path, monkeypatch, capsys):
    (tmp_path / "edict").write_text(EDICT, encoding="euc_jp")
    names = {"emoji.json": {"🥇": {"en": ":Gold_medal:"}}, "emoji_ja.json": {"🥇": ":金メダル:"}}
    for name, content in names.items():
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    made = []
    for name in ("a.gz", "b.gz"):
        monkeypatch.setattr(compile_dictionary, "SHIPPED", tmp_path / name)
        assert main([str(tmp_path / "edict"), str(tmp_path)]) == 0
        made.append((tmp_path / name).read_bytes())
    assert made[0] == made[1]
    assert "金メダル\tn\tgold medal" in gzip.decompress(made[0]).decode()
    assert main([str(tmp_path / "none"), str(tmp_path)]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_what_ships_is_small_sorted_and_plain():
    assert SHIPPED.stat().st_size <= 3_000_000
    lines = gzip.decompress(SHIPPED.read_bytes()).decode().splitlines()
    assert lines == sorted(lines) and len(lines) == len(dictionary()) > 100_000
    for line in lines[::97]:
        word, kind, english = line.split("\t")
        assert dictionary()[word] == (kind, english)
        assert (
            kind in ["n", "a", "na", "v1", "v5", "vs", "adv"]
            and english.isascii()
            and ":" not in english
        )


def test_a_word_that_is_no_line_is_not_found():
    assert "猫" in (table := SortedLines("犬\tn\tdog\n猫\tn\tcat\n猫耳\tn\tcat ears\n"))
    assert list(table) == ["犬", "猫", "猫耳"]
    for word in ("", "ねこ", "猫耳耳", "龍"):
        assert word not in table


def test_the_things_of_the_bundled_model_are_called_what_it_knows():
    words = own_words()
    for noun in NOUNS.values():
        assert words[noun.japanese][1].split(" ", 1)[1] == noun.english


@pytest.mark.parametrize(
    ("word", "english"),
    [
        ("お面", "a mask"),
        ("お抹茶", "matcha"),
        ("お猫", "a cat"),
        ("着物姿", "a kimono"),
        ("スーツ姿", "a suit"),
    ],
)
def test_a_noun_is_known_with_its_polite_letter_and_as_what_somebody_is_in(word, english):
    assert Lexicon([{}, own_words(), dictionary()]).find(word).english == english


@pytest.mark.parametrize("word", ["お走る", "おあい", "お"])
def test_a_polite_letter_makes_no_word_of_what_is_no_noun(word):
    assert Lexicon([{}, own_words(), {}]).find(word) is None


@pytest.mark.parametrize(
    ("word", "base", "form"),
    [
        ("走っている", "走る", "ing"),
        ("走りました", "走る", "ta"),
        ("読んで", "読む", "te"),
        ("泳いでいる", "泳ぐ", "ing"),
        ("食べない", "食べる", "not"),
        ("描かれた", "描く", "done"),
        ("笑っていない", "笑う", "not"),
        ("散歩していない", "散歩", "not"),
        ("行った", "行く", "ta"),
        ("赤く", "赤い", "base"),
        ("赤くない", "赤い", "not"),
        ("散歩している", "散歩", "ing"),
    ],
)
def test_endings_are_undone(word, base, form):
    assert (base, form) in {(found, as_form) for found, _, as_form in base_forms(word)}
    assert Lexicon([{}, own_words(), dictionary()]).find(word).form == form
