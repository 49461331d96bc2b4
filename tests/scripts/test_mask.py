"""The program that makes masks, and the repainting that they are for."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image, ImageDraw
from running import load_program

from ldm.images.io import load_image


@pytest.fixture(scope="module")
def program():
    return load_program("scripts/mask.py")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with two pictures of a red ball, which is the present one."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.jpg"):
        picture = Image.new("RGB", (64, 64), "navy")
        ImageDraw.Draw(picture).ellipse((20, 20, 44, 44), fill="red")
        picture.save(name)
    return tmp_path


def test_masks_lie_beside_their_pictures_where_inpainting_looks(program, here, capsys):
    assert program.main(["a.png", "b.jpg", "--kind", "colour", "--colour", "red"]) == 0
    said = capsys.readouterr().out
    assert "a.png -> a_mask.png (colour, 1" in said and "b.jpg -> b_mask.png" in said
    with Image.open("a_mask.png") as mask:
        assert not mask.info  # no mark of a picture that a model has drawn
        assert np.unique(np.asarray(mask)).tolist() == [0, 255]
    inpaint = load_program("scripts/inpaint.py")
    drawing = ["--prompt", "a pear", "--ddim_steps", "2", "--outdir", "out", "--n_samples", "1"]
    assert inpaint.main(["--indir", ".", *drawing]) == 0
    kept = np.asarray(load_image("a_mask.png"))[..., 0] < 128
    before, after = (np.asarray(load_image(path)) for path in ("a.png", "out/a.png"))
    assert np.array_equal(before[kept], after[kept]) and not np.array_equal(before, after)


def test_of_an_animation_the_first_picture_is_marked_and_that_is_said(program, here, capsys):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "navy")]
    frames[0].save("c.gif", save_all=True, append_images=frames[1:])
    assert program.main(["c.gif", "--kind", "colour", "--colour", "red"]) == 0
    assert "c.gif holds several pictures: the first one is used" in capsys.readouterr().err


def test_a_dash_prints_the_path_alone_for_other_programs(program, here, capsys):
    assert program.main(["a.png", "--kind", "subject", "--out", "-"]) == 0
    assert capsys.readouterr().out == "a_mask.png\n"
    assert load_image("a_mask.png").size == (64, 64)
    assert program.main(["a.png", "--kind", "subject", "--out", "-"]) == 0  # the same once more
    assert capsys.readouterr().out == "a_mask.png\n"
    assert program.main(["a.png", "--kind", "background", "--out", "-"]) == 2
    said = capsys.readouterr()
    assert "a_mask.png already exists and holds another mask" in said.err and said.out == ""


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["a.png", "--colour", "lime"], "the mask of a.png marks nothing; .* raise --tolerance"),
        (["a.png", "--colour", "red", "--out", "m.jpg"], "ends in .png, or -"),
        (["a.png", "b.jpg", "--colour", "red", "--out", "m.png"], "for 2 pictures"),
        (["a.png", "./a.png", "--colour", "red"], "same mask's file"),
        (["a.png", "none.png", "--colour", "red"], "none.png does not exist"),
        (["a.png", "--colour", "red", "--out", "a.png"], "a.png already exists"),
        (["a.png", "--kind", "hue"], "--kind hue was given"),
        (["a.png", "--colour", "reddish"], "image a.png: --colour 'reddish' was given"),
        (["a.png", "--colour", "red", "--device", "cuda"], "--device cuda was given with --kind c"),
    ],
)
def test_a_users_error_is_one_line_and_nothing_is_written(program, here, capsys, given, words):
    assert program.main(["--kind", "colour", *given]) == 2
    said = capsys.readouterr()
    assert re.search(words, said.err) and said.err.count("\n") == 1 and said.out == ""
    assert sorted(path.name for path in here.iterdir()) == ["a.png", "b.jpg"]
