"""The Chinese dictionary that ships, and how it is made."""

from __future__ import annotations

import gzip
import json

from ldm.translation import compile_chinese
from ldm.translation.chinese import SHIPPED, chinese_dictionary, chinese_words
from ldm.translation.compile_chinese import entries_of_cedict, main
from ldm.translation.compile_dictionary import compiled

CEDICT = """\
# CC-CEDICT
貓 猫 [mao1] /cat/CL:隻|只[zhi1]/
蘋果 苹果 [ping2 guo3] /apple/
燈籠果 灯笼果 [deng1 long2 guo3] /cape gooseberry/
走路草 走路草 [zou3 lu4 cao3] /to walk on grass/to stroll/
國畫家 国画家 [guo2 hua4 jia1] /a painter in the traditional style of China/
阿黃 阿黄 [A1 Huang2] /surname A/
胡思 胡思 [hu2 si1] /variant of 胡絲/silly thought (idiom)/
大熊 大熊 [Da4 Xiong2] /Ursa Major/
大熊 大熊 [da4 xiong2] /great bear/
"""


def words_of(text):
    data = gzip.decompress(compiled(entries_of_cedict(text.splitlines()))).decode()
    return dict(line.split("\t", 1) for line in data.splitlines())


def test_each_word_gets_one_clean_rendering_in_both_kinds_of_letters():
    assert words_of(CEDICT) == {
        "蘋果": "n\tapple",
        "燈籠果": "n\tcape gooseberry",
        "走路草": "v\twalk on grass",
        "大熊": "n\tgreat bear",  # no name
    }
    assert words_of("饂麵 饂面 [x] /udon/") == {"饂麵": "n\tudon", "饂面": "n\tudon"}


def test_the_same_sources_give_the_same_file(tmp_path, monkeypatch, capsys):
    (tmp_path / "cedict").write_text(CEDICT, encoding="utf-8")
    names = {
        "emoji.json": {"🥇": {"en": ":Gold_medal:"}, "🐈": {"en": ":cat:"}},
        "emoji_zh.json": {"🥇": ":金牌:", "🐈": ":猫咪:"},
    }
    for name, content in names.items():
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    made = []
    for name in ("a.gz", "b.gz"):
        monkeypatch.setattr(compile_chinese, "SHIPPED", tmp_path / name)
        assert main([str(tmp_path / "cedict"), str(tmp_path)]) == 0
        made.append((tmp_path / name).read_bytes())
    assert made[0] == made[1]
    text = gzip.decompress(made[0]).decode()
    assert "金牌\tn\tgold medal" in text and "猫咪" not in text  # the project's own word
    assert main([str(tmp_path / "none"), str(tmp_path)]) == 2
    assert "cannot be read" in capsys.readouterr().err
    assert main([]) == 2


def test_what_ships_is_small_sorted_and_plain():
    assert SHIPPED.stat().st_size <= 1_500_000
    lines = gzip.decompress(SHIPPED.read_bytes()).decode().splitlines()
    assert lines == sorted(lines) and len(lines) == len(chinese_dictionary()) > 50_000
    for line in lines[::97]:
        word, kind, english = line.split("\t")
        assert chinese_dictionary()[word] == (kind, english)
        assert kind in ("n", "v") and english.isascii() and word not in chinese_words()


def test_each_of_the_projects_words_stands_once():
    text = (SHIPPED.parent / "chinese_words.tsv").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line and not line.startswith("#")]
    spellings = [word for row in rows for word in row.split("\t")[0].split("|")]
    twice = {word for word in spellings if spellings.count(word) > 1}
    assert not twice and len(chinese_words()) == len(spellings)
