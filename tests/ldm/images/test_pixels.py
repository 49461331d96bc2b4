"""Pixels are read whatever is wrong with the metadata; no deep picture is silently black."""

from __future__ import annotations

import io
import logging
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from ldm.data.pictures import read_picture
from ldm.data.skipping import BadItem
from ldm.errors import UserError
from ldm.images.io import load_image, lost_as_rgb, open_image
from ldm.images.metadata import read_parameters
from ldm.images.pixels import eight_bit, open_pixels, over, without_faults

ROWS, COLUMNS = np.mgrid[0:16, 0:24]
PIXELS = np.stack([ROWS * 15, COLUMNS * 10, ROWS + COLUMNS], axis=-1).astype(np.uint8)
LONG = b"a" * (PngImagePlugin.MAX_TEXT_CHUNK + 1)
GOOD = b"parameters\0a cat"


def chunk(kind: bytes, body: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + body))
    return struct.pack(">I", len(body)) + kind + body + checksum


def damaged(kind: bytes, body: bytes) -> bytes:
    return chunk(kind, body)[:-4] + bytes(4)


def png(before: bytes = b"", after: bytes = b"") -> bytes:
    """Return a picture's file with chunks before and after its pixels."""
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "PNG")
    plain = buffer.getvalue()
    begin, end = plain.index(b"IDAT") - 4, plain.index(b"IEND") - 4
    return plain[:begin] + before + plain[begin:end] + after + plain[end:]


def international(text: bytes) -> bytes:
    return chunk(b"iTXt", b"parameters\0\1\0en\0\0" + zlib.compress(text))


ONE_OF_MANY = zlib.compress(b"a" * 1_000_000)
MANY = b"".join(chunk(b"zTXt", b"k%d\0\0" % number + ONE_OF_MANY) for number in range(68))
# What is beside the pixels, and what is said of it.
FAULTS = {
    "a compressed text": (png(chunk(b"zTXt", b"parameters\0\0" + zlib.compress(LONG))), "MB"),
    "an international text": (png(international(LONG)), "'parameters' is longer than 1 MB"),
    "a text after the pixels": (png(after=international(LONG)), "'parameters' is longer"),
    "a colour profile": (png(chunk(b"iCCP", b"x\0\0" + zlib.compress(LONG))), "colour profile"),
    "many texts": (png(MANY), "is too long with the others"),
    "a damaged text": (png(damaged(b"tEXt", GOOD)), "its text 'parameters' is damaged"),
    "a damaged profile": (png(damaged(b"iCCP", b"x\0\0")), "its colour profile is damaged"),
    "a damaged time": (png(damaged(b"tIME", bytes(7))), "its tIME chunk is damaged"),
    "a text cut short": (png(after=chunk(b"tEXt", GOOD))[:-18], "'parameters' is cut short"),
}


@pytest.fixture(autouse=True)
def pillows_own_opener(monkeypatch):
    """Undo what a page's program may have registered in this process."""
    own = (PngImagePlugin.PngImageFile, PngImagePlugin._accept)
    monkeypatch.setitem(Image.OPEN, "PNG", own)


@pytest.mark.parametrize("fault", FAULTS)
def test_pixels_are_read_beside_metadata_that_cannot_be(tmp_path, caplog, fault):
    data, words = FAULTS[fault]
    path = tmp_path / "x.png"
    path.write_bytes(data)
    with pytest.raises(Exception):  # noqa: B017, PT011 - else the case would prove nothing
        Image.open(path).load()
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(load_image(path), PIXELS)
    assert words in caplog.text and str(path) in caplog.text
    assert np.array_equal(read_picture(path), PIXELS)
    assert np.array_equal(read_picture(data, "x"), PIXELS)
    assert lost_as_rgb(open_image(path)) is None and read_parameters(path) is None


def test_a_text_beside_a_faulty_chunk_is_kept(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(png(chunk(b"tEXt", GOOD) + damaged(b"tIME", bytes(7))))
    assert read_parameters(path) == "a cat"


def test_transparency_is_kept_where_other_chunks_are_left_out(tmp_path):
    (tmp_path / "x.png").write_bytes(png(chunk(b"tRNS", bytes(6)) + damaged(b"tIME", bytes(7))))
    assert lost_as_rgb(open_image(tmp_path / "x.png")) == "its transparency"


def test_a_file_without_faults_is_passed_through_to_the_byte():
    data = png(chunk(b"tEXt", GOOD) + chunk(b"pHYs", bytes(9)))
    assert without_faults(data) == (data, [])
    assert open_pixels(data)[1] == []


def test_damaged_pixels_stay_an_error_with_the_first_reason(tmp_path):
    path = tmp_path / "x.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:6000])
    with pytest.raises(UserError, match="cannot be read .*truncated"):
        load_image(path)


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP"])
def test_broken_exif_data_cost_neither_pixels_nor_a_traceback(tmp_path, file_format):
    path = tmp_path / "x"
    Image.fromarray(PIXELS).save(path, file_format, exif=b"Exif\0\0garbage")
    assert load_image(path).size == read_picture(path).size == (24, 16)
    assert read_parameters(path) is None


def test_pillow_itself_can_be_made_as_tolerant():
    """As the pages do, for gradio opens what is uploaded by itself. In a process of its own."""
    program = (
        "import sys, io; from PIL import Image; from ldm.images.pixels import tolerate_faults\n"
        "tolerate_faults(); Image.open(io.BytesIO(sys.stdin.buffer.read())).load()"
    )
    for data, _ in FAULTS.values():
        subprocess.run([sys.executable, "-c", program], input=data, check=True)


RAMP = np.linspace(0.0, 1.0, 256, dtype=np.float32).reshape(16, 16)
SHADES = np.arange(256, dtype=np.uint8).reshape(16, 16)
DEEP = {
    "floats to 1": RAMP,
    "floats to 255": RAMP * 255,
    "floats to 65535": RAMP * 65535,
    "16 bits": (RAMP * 65535).astype(np.uint16),
    "16 bits that use 8": SHADES.astype(np.uint16),
    "32 bits that use 8": SHADES.astype(np.int32),
    "32 bits that use 16": SHADES.astype(np.int32) * 257,
}


@pytest.mark.parametrize("kind", DEEP)
def test_a_deep_ramp_from_black_to_white_is_one_in_8_bits(tmp_path, kind):
    path = tmp_path / "x.tif"
    Image.fromarray(DEEP[kind]).save(path)
    for picture in (load_image(path), read_picture(path)):
        assert np.abs(np.asarray(picture)[..., 0].astype(int) - SHADES).max() <= 1


def test_white_overshot_by_resampling_stays_white():
    assert np.asarray(eight_bit(Image.fromarray(RAMP * 1.02 - 0.01))).max() == 255


@pytest.mark.parametrize(
    "values",
    [
        *(RAMP * 3.5, RAMP * 1000, RAMP * 1e6, RAMP * 2 - 1, np.full_like(RAMP, np.inf)),
        *((RAMP * 1000).astype(np.int32), (RAMP * 1e9).astype(np.int32), -SHADES.astype(np.int32)),
    ],
    ids=["hdr", "1000", "1e6", "-1 to 1", "infinite", "int 1000", "int 1e9", "negative"],
)
def test_numbers_whose_white_is_not_known_are_refused_in_one_line(tmp_path, values):
    path = tmp_path / "x.tif"
    Image.fromarray(values).save(path)
    with pytest.raises(UserError, match=r"image .*x\.tif holds .* expected"):
        load_image(path)
    with pytest.raises(BadItem, match="holds"):
        read_picture(path)


def test_one_value_that_is_no_number_is_called_so():
    with pytest.raises(UserError, match="holds NaN or infinite values"):
        eight_bit(Image.fromarray(np.where(RAMP == 0, np.float32(np.nan), RAMP)))


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK"])
def test_other_modes_keep_their_light_and_dark(tmp_path, mode):
    path = tmp_path / "x.tif"
    halves = np.zeros((8, 8, 3), np.uint8)
    halves[:, 4:] = 255
    Image.fromarray(halves).convert(mode).save(path)
    for picture in (load_image(path), read_picture(path)):
        assert np.array_equal(np.asarray(picture), halves)


# --- what is behind transparent parts ---


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
