"""Every kind of hint: its size, its options, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ldm.errors import UserError
from ldm.hints.make import HINTS, make_hint
from ldm.settings.hints import HintOptions
from ldm.settings.option import options_of

LOADED = ("depth", "hed", "openpose")
PLAIN = [kind for kind in HINTS if kind not in (*LOADED, "inpaint")]
LINES = ["canny", "softedge", "scribble", "lineart", "lineart_anime"]


def noise(width=41, height=29, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1), (3, 2), (33, 17)])
@pytest.mark.parametrize("kind", PLAIN)
def test_a_hint_is_rgb_of_the_pictures_size(kind, size):
    made = make_hint(kind, noise(*size))
    assert (made.mode, made.size) == ("RGB", size)


@pytest.mark.parametrize("mode", ["RGBA", "L", "P", "1", "CMYK"])
@pytest.mark.parametrize("kind", PLAIN)
def test_a_picture_of_any_mode_is_taken_as_its_colours(kind, mode):
    picture = noise().convert(mode)
    assert make_hint(kind, picture) == make_hint(kind, picture.convert("RGB"))


@pytest.mark.parametrize("kind", PLAIN)
def test_the_picture_itself_stays_as_it_was_and_the_same_hint_comes_twice(kind):
    picture = noise()
    first = make_hint(kind, picture)
    assert picture == noise() and make_hint(kind, picture) == first


@pytest.mark.parametrize("kind", LINES)
@pytest.mark.parametrize("level", [0, 37, 255])
def test_a_plain_picture_has_no_lines(kind, level):
    made = make_hint(kind, Image.new("RGB", (20, 15), (level, level // 2, 90)))
    assert not np.asarray(made).any()


@pytest.mark.parametrize("turn", [Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_90])
@pytest.mark.parametrize(
    "kind", ["softedge", "lineart", "lineart_anime", "blur", "invert", "grey", "threshold"]
)
def test_a_turned_picture_has_the_turned_hint(kind, turn):
    picture = noise(36, 24)
    made = np.asarray(make_hint(kind, picture.transpose(turn)), int)
    wanted = np.asarray(make_hint(kind, picture).transpose(turn), int)
    assert np.abs(made - wanted).max() <= 1


def test_each_default_is_allowed_and_each_option_belongs_to_a_kind():
    known = {each.name: each for each in options_of(HintOptions)}
    used = {}
    for kind in HINTS.values():
        used |= kind.defaults
        for name, value in kind.defaults.items():
            if value is not None and name != "device":
                known[name].check(value)
    assert set(known) == set(used) - {"device"}


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("cany", {}, "hint 'cany'"),
        ("canny", {"sigma": 2.0}, "hint canny has no option sigma; it has low and high"),
        ("invert", {"low": 1.0}, "it has none"),
        ("canny", {"low": -1.0}, "--low -1.0"),
        ("blur", {"sigma": float("nan")}, "--sigma nan"),
        ("scribble", {"width": 2.5}, "--width 2.5"),
        ("inpaint", {}, "hint inpaint needs mask"),
        ("depth", {}, "add --model FOLDER"),
        ("inpaint", {"mask": "nowhere.png"}, "nowhere.png"),
        ("inpaint", {"mask": Image.new("L", (2, 2))}, "a mask of 2x2"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(kind, options, words):
    with pytest.raises(UserError) as caught:
        make_hint(kind, noise(), **options)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_picture_without_pixels_is_refused():
    with pytest.raises(UserError, match="0x3"):
        make_hint("canny", Image.new("RGB", (0, 3)))


@pytest.mark.parametrize(("level", "seen"), [(255, False), (128, False), (127, True)])
def test_what_the_mask_hides_is_black_and_the_rest_is_the_picture(tmp_path, level, seen):
    picture, mask = noise(4, 3), Image.new("L", (4, 3))
    mask.putpixel((2, 1), level)
    mask.save(tmp_path / "mask.png")
    wanted = np.array(picture)
    assert wanted[1, 2].any()
    wanted[1, 2] *= seen
    for given in (mask, str(tmp_path / "mask.png")):
        assert (np.asarray(make_hint("inpaint", picture, mask=given)) == wanted).all()
