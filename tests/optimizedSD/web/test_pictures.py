"""The value of the browser's editor becomes a picture and its mask."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ldm.errors import UserError
from optimizedSD.web.pictures import mask_of, opened, painted_picture, plain_picture


def test_the_mask_is_the_painted_pixels(painted):
    expected = np.zeros((12, 16), bool)
    expected[4:8, 6:12] = True
    assert np.array_equal(mask_of(painted, None).marked, expected)


def test_what_of_an_uploaded_file_is_not_used_is_told(tmp_path, picture, caplog):
    deep, clear = Image.fromarray(np.zeros((12, 16), np.uint16)), picture.convert("RGBA")
    clear.putalpha(0)
    files = [
        (picture, "plain.png", {}, ""),
        (clear, "clear.png", {}, ""),
        (deep, "deep.png", {}, ": what it has beyond 8 bits is dropped"),
        (picture.convert("CMYK"), "print.tif", {}, ": its colour space (CMYK) is dropped"),
        (picture, "moving.gif", {"append_images": [deep]}, " holds several pictures: the first"),
    ]
    for image, name, more, text in files:
        image.save(tmp_path / name, **({"save_all": True} | more if more else {}))
        caplog.clear()
        opened({"background": {"path": str(tmp_path / name)}, "layers": []})
        told = [record.getMessage() for record in caplog.records]
        assert len(told) == bool(text)
        assert all(each.startswith(f"the picture {tmp_path / name}{text}") for each in told)


def test_inpainting_starts_from_the_picture_without_the_paint(painted, picture):
    assert np.array_equal(plain_picture(painted), picture)


def test_image_to_image_starts_from_the_picture_with_the_paint(painted, picture):
    pixels = np.asarray(painted_picture(painted))
    assert (pixels[4:8, 6:12] == 255).all()
    assert np.array_equal(pixels[:4], np.asarray(picture)[:4])


def test_an_uploaded_mask_is_joined_with_the_paint(painted):
    uploaded = np.zeros((12, 16), np.uint8)
    uploaded[0, 0] = 255
    marked = mask_of(painted, Image.fromarray(uploaded)).marked
    assert marked[0, 0]
    assert marked.sum() == 4 * 6 + 1


def test_an_uploaded_mask_is_enough(painted):
    unpainted = painted | {"layers": [Image.new("RGBA", (16, 12))]}
    assert mask_of(unpainted, Image.new("L", (8, 6), 255)).marked.all()


def test_an_uploaded_mask_of_other_proportions_is_refused(painted):
    with pytest.raises(UserError, match="proportions"):
        mask_of(painted, Image.new("L", (16, 16), 255))


@pytest.mark.parametrize("layers", [[], None, [Image.new("RGBA", (16, 12))]])
def test_without_paint_or_mask_there_is_nothing_to_redraw(painted, layers):
    with pytest.raises(UserError, match="nothing is painted over; expected"):
        mask_of(painted | {"layers": layers}, None)


@pytest.mark.parametrize(
    "value", [None, {"background": None, "layers": [], "composite": None}, "blank"]
)
@pytest.mark.parametrize("read", [painted_picture, plain_picture])
def test_a_missing_picture_is_an_error(read, value):
    if value == "blank":  # what the editor sends for an untouched canvas
        blank = Image.new("RGBA", (8, 8))
        value = {"background": blank, "layers": [blank], "composite": blank}
    with pytest.raises(UserError, match="there is no picture; expected one"):
        read(value)


def test_transparent_pixels_become_white():
    half = Image.new("RGBA", (2, 1))
    half.putpixel((0, 0), (10, 20, 30, 255))
    pixels = np.asarray(plain_picture({"background": half}))
    assert pixels.tolist() == [[[10, 20, 30], [255, 255, 255]]]
