"""The invisible watermark."""

from __future__ import annotations

import logging
import sys
from functools import partial
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from ldm.errors import UserError
from ldm.images.io import after_saving
from ldm.safety.watermark import TEXT, Watermarker, read_watermark, why_unavailable

imwatermark = pytest.importorskip("imwatermark")


def flat(level, side=256):
    return np.full((side, side, 3), level, np.uint8)


def waves(side=256):
    """Smooth colours: dwtDct cannot be read back from them."""
    y, x = np.mgrid[:side, :side] / side
    turns = np.stack([9 * x + 3 * y, 20 * x * y, 7 * y - 2 * x], -1)
    return (127 + 100 * np.sin(6 * turns)).astype(np.uint8)


def on_white(side=256):
    """A coloured disc on pure white, which leaves the usual methods no room."""
    y, x = np.mgrid[:side, :side] / side - 0.5
    return np.where((np.hypot(x, y) < 0.2)[..., None], [200, 60, 30], 255).astype(np.uint8)


def stock_decode(picture, method):
    """Read with the package itself, as other programs do."""
    bgr = np.ascontiguousarray(picture[..., ::-1])
    return imwatermark.WatermarkDecoder("bytes", 8 * len(TEXT)).decode(bgr, method)


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (flat(0), "dwtDct"),
        (flat(128), "dwtDct"),
        (waves(), "dwtDctSvd"),
        (flat(255), "dwtDctSvd"),
        (flat([0, 0, 255]), "dwtDctSvd"),
        (on_white(), "dwtDctSvd"),
        (flat(90)[:200, :], None),
    ],
)
def test_the_method_told_is_the_one_that_other_programs_can_read(picture, expected):
    marked, method = Watermarker().apply(picture)
    assert method == expected
    if method is not None:
        assert stock_decode(marked, method).decode() == TEXT
        assert read_watermark(marked) == TEXT
        assert psnr(marked, picture) > 28


def test_where_the_references_method_works_the_pixels_are_the_references():
    encoder = imwatermark.WatermarkEncoder()
    encoder.set_watermark("bytes", TEXT.encode())
    reference = encoder.encode(flat([90, 120, 150])[..., ::-1].copy(), "dwtDct")[..., ::-1]
    marked, method = Watermarker().apply(flat([90, 120, 150]))
    assert method == "dwtDct"
    assert np.array_equal(marked, reference)


@pytest.mark.parametrize("picture", [flat(0), waves(), on_white()])
def test_the_watermark_is_still_there_in_a_saved_jpeg(picture):
    through_jpeg = partial(after_saving, file_format="jpg")
    marked, method = Watermarker().apply(picture, after_saving=through_jpeg)
    assert method is not None
    assert read_watermark(through_jpeg(marked)) == TEXT


def test_a_lossy_format_brings_in_the_method_that_survives_it():
    def strong_jpeg(picture):
        buffer = BytesIO()
        Image.fromarray(picture).save(buffer, "JPEG", quality=75, subsampling=0)
        return np.array(Image.open(buffer))

    assert Watermarker().apply(flat(128))[1] == "dwtDct"
    marked, method = Watermarker().apply(flat(128), after_saving=strong_jpeg)
    assert method == "dwtDctSvd"
    assert stock_decode(strong_jpeg(marked), method).decode() == TEXT


def test_a_picture_that_no_method_can_mark_is_returned_unchanged_with_a_warning(caplog):
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    with caplog.at_level(logging.WARNING):
        marked, method = Watermarker().apply(noise, after_saving=np.zeros_like)
    assert method is None
    assert np.array_equal(marked, noise)
    assert "without" in caplog.text


def test_neither_marking_nor_reading_modifies_the_picture():
    picture = waves()
    read_watermark(picture)
    Watermarker().apply(picture)
    assert np.array_equal(picture, waves())


@pytest.mark.parametrize("shape", [(256, 255), (64, 64), (4, 20000)])
def test_a_picture_that_is_too_small_carries_none_and_none_is_read(shape):
    picture = np.full((*shape, 3), 100, np.uint8)
    marked, method = Watermarker().apply(picture)
    assert not Watermarker().fits(*shape)
    assert method is None
    assert np.array_equal(marked, picture)
    assert read_watermark(picture) is None


@pytest.mark.parametrize("picture", [flat(0), flat(255), flat(77), waves(), on_white()])
def test_an_unmarked_picture_has_no_watermark(picture):
    assert read_watermark(picture) is None


def test_sizes_that_are_not_multiples_of_8_can_be_marked():
    marked, method = Watermarker().apply(flat(120, 301)[:, :290])
    assert marked.shape == (301, 290, 3)
    assert method is not None and read_watermark(marked) == TEXT


@pytest.mark.parametrize("text", ["StableDiffusionV2", "絵です。作りました"])
def test_another_text_is_read_back_too(text):
    marked, _ = Watermarker(text).apply(flat(120, 512))
    assert read_watermark(marked, text) == text


def test_a_text_of_the_same_length_is_found_without_being_expected():
    marked, _ = Watermarker("StableDiffusionXL").apply(flat(120))
    assert read_watermark(marked) == "StableDiffusionXL"


def test_without_the_package_the_line_says_what_to_install(monkeypatch):
    assert why_unavailable() is None
    monkeypatch.setitem(sys.modules, "imwatermark", None)
    assert "pip install invisible-watermark" in why_unavailable()
    with pytest.raises(UserError, match="pip install invisible-watermark"):
        Watermarker().apply(flat(120))


def test_an_opencv_that_cannot_be_imported_is_one_line_too(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "imwatermark"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert "cv2" in why_unavailable()
    assert "\n" not in why_unavailable()
