"""The program that shows hints."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from running import load_program

from ldm.hints.make import make_hint


@pytest.fixture(scope="module")
def program():
    return load_program("scripts/hint.py")


@pytest.fixture
def shown(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (21, 34, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_the_hint_is_written_with_the_options_given(program, shown, tmp_path, capsys):
    out = tmp_path / "new" / "edges.png"
    given = [str(shown), "--kind", "canny", "--low", "300", "--high", "900", "--out", str(out)]
    assert program.main(given) == 0
    with Image.open(out) as written, Image.open(shown) as picture:
        assert written.convert("RGB") == make_hint("canny", picture, low=300.0, high=900.0)
        assert written.convert("RGB") != make_hint("canny", picture)
        assert not written.info  # no mark of a picture that a model has drawn
    assert "(canny, 34x21)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--kind", "cany"], "hint 'cany'"),
        (["--sigma", "2"], "has no option sigma"),
        (["--low", "much"], "--low"),
        (["--kind", "depth"], "--model FOLDER"),
        (["--kind", "depth", "--model", "nowhere"], "nowhere does not exist"),
        (["--kind", "inpaint", "--mask", "nowhere.png"], "nowhere.png"),
        (["--out", "a.bmp"], "--out a.bmp was given; expected a file name that ends in .png"),
        (["--device", "abacus"], "--device abacus"),
    ],
)
def test_a_users_error_is_one_line_and_exit_code_2(
    program, shown, tmp_path, monkeypatch, capsys, change, words
):
    monkeypatch.chdir(tmp_path)
    assert program.main([str(shown), "--kind", "canny", "--out", "b.png", *change]) == 2
    said = capsys.readouterr()
    assert words in said.err and said.err.count("\n") == 1 and said.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
