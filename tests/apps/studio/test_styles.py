"""Styles: AUTOMATIC1111's table is read, words are put around the prompt, faults are one line."""

from __future__ import annotations

import pytest

from apps.studio.styles import MOST, Style, names_of, read_styles, with_styles
from ldm.errors import UserError


def written(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "styles.csv"
    path.write_bytes(text.encode(encoding))
    return str(path)


def test_a_table_of_automatic1111_is_read(tmp_path):
    text = (
        'name,prompt,negative_prompt\nNone,,\nInk,"ink, {prompt}, (fine:1.2)",colour\nワビ,静か,\n'
    )
    for encoding in ("utf-8", "utf-8-sig"):
        found = read_styles(written(tmp_path, text, encoding))
        assert found == {
            "Ink": Style("ink, {prompt}, (fine:1.2)", "colour"),
            "ワビ": Style("静か", ""),
        }


def test_an_older_table_without_negative_prompts_is_read(tmp_path):
    assert read_styles(written(tmp_path, "name,prompt\nInk,ink\n")) == {"Ink": Style("ink")}


def test_those_that_ship_are_read_and_ones_own_come_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "Watercolour" in read_styles()
    written(tmp_path, "name,prompt,negative_prompt\nMine,my own,\n")
    assert list(read_styles()) == ["Mine"]


def test_styles_go_around_the_prompt_in_their_order():
    styles = {"a": Style("an {prompt} in ink", "blurry"), "b": Style("fine"), "c": Style("", "x")}
    assert with_styles("cat", "dog", ["a", "b", "c"], styles) == (
        "an cat in ink, fine",
        "dog, blurry, x",
    )
    assert with_styles("cat", "", [], styles) == ("cat", "")


def test_braces_of_the_prompt_stay_as_they_are():
    assert with_styles("{x} {0}", "", ["a"], {"a": Style("an {prompt}")})[0] == "an {x} {0}"


def test_what_a_page_sends_in_place_of_names_is_refused():
    assert names_of(None) == [] and names_of(["Ink"]) == ["Ink"]
    for value in (5, True, 0.5, "Ink", ["Ink", None], {"Ink": 1}):
        with pytest.raises(UserError, match="no such styles"):
            names_of(value)


def test_a_style_that_is_not_there_is_named():
    with pytest.raises(UserError, match="no style 'Ink'"):
        with_styles("cat", "", ["Ink"], {})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a,b\n1,2\n", "has the columns 'a, b'"),
        ("this is no table\n", "has the columns 'this is no table'"),
        ("name,prompt\n" + "x,y\n" * (MOST + 1), "more than"),
        ('name,prompt\nx,"never closed\n', "cannot be read"),
    ],
)
def test_what_is_no_table_is_one_line(text, told, tmp_path):
    with pytest.raises(UserError, match=told) as raised:
        read_styles(written(tmp_path, text))
    assert "\n" not in str(raised.value)


def test_a_file_that_is_missing_or_no_text_is_one_line(tmp_path):
    with pytest.raises(UserError, match="--styles"):
        read_styles(str(tmp_path / "missing.csv"))
    with pytest.raises(UserError, match=r"is not UTF-8 \(byte 0\)"):
        read_styles(written(tmp_path, "name,prompt\n猫,x\n", "utf-16"))
