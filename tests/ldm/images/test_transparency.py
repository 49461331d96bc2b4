"""What is behind transparent parts shows through them, and opaque pictures stay as they are."""

from __future__ import annotations

import pytest
from PIL import Image

from ldm.images.transparency import over


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
@pytest.mark.parametrize(("colour", "shown"), [("white", 255), ("black", 0)])
def test_the_colour_shows_where_nothing_else_does(mode, colour, shown):
    image = Image.new("RGBA", (2, 1), (9, 9, 9, 0))
    image.putpixel((1, 0), (9, 9, 9, 255))
    image = image.convert(mode)
    assert list(over(image, colour).getdata()) == [(shown,) * 3, (9, 9, 9)]


def test_half_transparent_parts_are_mixed():
    mixed = over(Image.new("RGBA", (1, 1), (0, 0, 0, 128)), "white").getpixel((0, 0))
    assert all(abs(value - 127) <= 1 for value in mixed)


def test_an_opaque_picture_stays_the_same_object_and_others_are_converted():
    plain = Image.new("RGB", (1, 1), (1, 2, 3))
    assert over(plain, "white") is plain
    assert over(Image.new("L", (1, 1), 7), "white").getpixel((0, 0)) == (7, 7, 7)
