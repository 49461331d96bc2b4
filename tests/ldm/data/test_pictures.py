"""Whatever a picture is stored as, it is read as 8-bit RGB, upright; the unreadable is said."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from small_pictures import break_files, noise, save

from ldm.data.pictures import read_picture, to_model_range
from ldm.data.skipping import BadItem

RED, WHITE = (255, 0, 0), (255, 255, 255)


def written(image: Image.Image, format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("colours", [None, 4])
def test_white_shows_through_transparent_parts(colours):
    picture = Image.new("RGBA", (8, 4), (255, 0, 0, 255))
    picture.paste((0, 255, 0, 0), (4, 0, 8, 4))  # green that nobody is to see
    read = read_picture(written(picture.quantize(colours) if colours else picture))
    assert read.mode == "RGB"
    assert read.getpixel((0, 0)) == RED
    assert read.getpixel((7, 3)) == WHITE


def test_a_transparent_colour_of_a_palette_is_white():
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.putpixel((0, 0), 0)
    read = read_picture(written(palette, transparency=0))
    assert read.getpixel((0, 0)) == WHITE
    assert read.getpixel((1, 1)) == (10, 20, 30)


def test_grey_with_alpha_one_bit_and_cmyk_pictures_become_rgb():
    grey = Image.merge("LA", (Image.new("L", (4, 4), 7), Image.new("L", (4, 4), 255)))
    assert read_picture(written(grey)).getpixel((0, 0)) == (7, 7, 7)
    assert read_picture(written(Image.new("1", (4, 4), 1))).getpixel((0, 0)) == WHITE
    cmyk = read_picture(written(Image.new("RGB", (8, 8), RED).convert("CMYK"), "JPEG"))
    assert cmyk.mode == "RGB"
    assert np.abs(np.subtract(cmyk.getpixel((0, 0)), RED)).max() < 20


def test_sixteen_bits_are_brought_to_eight_and_not_cut_off():
    values = np.linspace(0, 65535, 16).astype(np.uint16).reshape(4, 4)
    read = np.asarray(read_picture(written(Image.fromarray(values))))
    assert (read[..., 0] == values // 257).all()


def test_a_sideways_photo_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter to the right
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:, :15] = RED
    read = read_picture(save(tmp_path / "a.png", pixels, exif=exif))
    assert read.size == (20, 30)
    assert read.getpixel((10, 2)) == RED
    assert read.getpixel((10, 28)) == (0, 0, 0)


def test_every_kind_of_broken_file_is_a_bad_item_that_names_it(tmp_path):
    for path in break_files(tmp_path):
        with pytest.raises(BadItem, match=path.name):
            read_picture(path)
    with pytest.raises(BadItem, match=r"nothing.png cannot be read \(No such file"):
        read_picture(tmp_path / "nothing.png")
    with pytest.raises(BadItem, match="row 3 cannot be read"):
        read_picture(b"", "row 3")


def test_a_decompression_bomb_is_a_bad_item(monkeypatch):
    data = written(Image.new("1", (100, 100)))
    monkeypatch.setenv("LDM_MAX_PIXELS", "9999")
    with pytest.raises(BadItem, match=r"too large \(100x100.* --max_pixels"):
        read_picture(data)


def test_a_large_jpeg_is_decoded_small_but_never_below_what_is_needed():
    data = written(Image.fromarray(noise(480, 640)), "JPEG")
    assert read_picture(data, at_least=60).size == (80, 60)
    assert read_picture(data, at_least=61).size == (160, 120)
    assert read_picture(data, at_least=300).size == (640, 480)
    assert read_picture(data).size == (640, 480)


def test_decoding_small_shows_the_same_picture():
    smooth = Image.radial_gradient("L").resize((512, 512)).convert("RGB")
    data = written(smooth, "JPEG", quality=95)
    whole = read_picture(data).resize((64, 64), Image.Resampling.BICUBIC)
    small = read_picture(data, at_least=128).resize((64, 64), Image.Resampling.BICUBIC)
    assert np.abs(np.asarray(whole, int) - np.asarray(small, int)).max() <= 3


def test_eight_bit_values_map_to_minus_one_to_one_rounded_as_by_the_reference():
    values = np.arange(256, dtype=np.uint8)
    x = to_model_range(values)
    assert x.dtype == np.float32
    assert (x == (values / 127.5 - 1.0).astype(np.float32)).all()
    assert (x[0], x[255]) == (-1.0, 1.0)
