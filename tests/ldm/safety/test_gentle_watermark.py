"""The watermark that is not seen."""

from __future__ import annotations

import io
import logging
import sys

import numpy as np
import pytest
from PIL import Image

from ldm.images.io import after_saving
from ldm.safety.dwt_dct import read_payload
from ldm.safety.gentle_watermark import CAP, INVISIBLE, GentleWatermarker, psnr
from ldm.safety.watermark import TEXT, Watermarker, read_watermark


def landscape(seed, height=256, width=256, contrast=45.0):
    """A picture with a photograph's spectrum: amplitudes fall with frequency, colours are tied."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    frequency[0, 0] = 1
    noise = np.fft.fft2(rng.standard_normal((3, height, width)))
    layers = np.real(np.fft.ifft2(noise / frequency))
    layers /= layers.std(axis=(1, 2), keepdims=True)
    luma, red, blue = layers * contrast
    rgb = [luma + 0.3 * red, luma - 0.1 * red - 0.1 * blue, luma + 0.3 * blue]
    return (128 + np.stack(rgb, -1)).clip(0, 255).astype(np.uint8)


def flat(level, side=256):
    return np.full((side, side, 3), level, np.uint8)


def noise(side=256):
    return np.random.default_rng(3).integers(0, 256, (side, side, 3), dtype=np.uint8)


def on_white(side=256):
    y, x = np.mgrid[:side, :side] / side - 0.5
    return np.where((np.hypot(x, y) < 0.2)[..., None], [200, 60, 30], 255).astype(np.uint8)


def jpeg(picture, quality=90, subsampling=2):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    return np.array(Image.open(buffer))


def largest_change(a, b):
    return np.abs(a.astype(int) - b).max()


@pytest.mark.parametrize("seed", range(4))
def test_it_is_not_seen_on_a_natural_picture_and_outlives_jpeg(seed):
    plain = landscape(seed)
    marked, method = GentleWatermarker().apply(plain)
    assert method == "dwtDct"
    assert psnr(marked, plain) >= 41
    assert largest_change(marked, plain) <= 16
    for copy in (marked, jpeg(marked, subsampling=0), jpeg(marked, subsampling=2)):
        assert read_watermark(copy) == TEXT


def test_photographs_keep_41_db_where_the_references_own_costs_more():
    pytest.importorskip("imwatermark")
    images = pytest.importorskip("sklearn.datasets").load_sample_images().images
    for photograph in images:
        plain = np.ascontiguousarray(photograph[:384, :384])
        marked, _ = GentleWatermarker().apply(plain)
        reference, _ = Watermarker().apply(plain)
        assert psnr(marked, plain) >= 41 > psnr(reference, plain)
        assert largest_change(marked, plain) <= 16 < largest_change(reference, plain)
        assert read_watermark(jpeg(marked)) == TEXT


PICTURES = {
    "black": flat(0),
    "white": flat(255),
    "grey": flat(128),
    "red": flat([255, 0, 0]),
    "green": flat([0, 255, 0]),
    "blue": flat([0, 0, 255]),
    "yellow": flat([255, 255, 0]),
    "cyan": flat([0, 255, 255]),
    "magenta": flat([255, 0, 255]),
    "noise": noise(),
    "an object on white": on_white(),
    "odd sides": landscape(5, 301, 290),
    "a long strip": landscape(6, 64, 1100),
    "little contrast": landscape(7, contrast=2),
    "much contrast": landscape(8, contrast=200),
}


@pytest.mark.parametrize("name", PICTURES)
def test_other_programs_read_it_from_any_picture(name):
    imwatermark = pytest.importorskip("imwatermark")
    plain = PICTURES[name]
    marked, method = GentleWatermarker().apply(plain)
    assert method == "dwtDct" and marked.dtype == np.uint8
    decoder = imwatermark.WatermarkDecoder("bytes", 136)
    bgr = np.ascontiguousarray(marked[..., ::-1])
    assert decoder.decode(bgr, "dwtDct").decode() == TEXT
    assert largest_change(marked, plain) <= CAP
    assert psnr(marked, plain) > 30


@pytest.mark.parametrize("name", ["yellow", "grey", "white", "red", "an object on white", "noise"])
def test_blocks_that_vote_right_already_stay_where_they_are(name):
    assert psnr(GentleWatermarker().apply(PICTURES[name])[0], PICTURES[name]) >= INVISIBLE


@pytest.mark.parametrize("name", ["black", "green", "grey", "odd sides", "noise"])
def test_it_outlives_jpeg_where_the_references_own_does(name):
    imwatermark = pytest.importorskip("imwatermark")
    encoder = imwatermark.WatermarkEncoder()
    encoder.set_watermark("bytes", TEXT.encode())
    bgr = np.ascontiguousarray(PICTURES[name][..., ::-1])
    reference = encoder.encode(bgr, "dwtDct")[..., ::-1]
    marked, _ = GentleWatermarker().apply(PICTURES[name])
    for subsampling in (0, 2):
        theirs, ours = (jpeg(each, 90, subsampling) for each in (reference, marked))
        if read_payload(theirs, 17) == TEXT.encode():
            assert read_payload(ours, 17) == TEXT.encode()


@pytest.mark.parametrize("picture", [landscape(1), noise(), on_white(), flat(0)])
def test_it_can_be_read_from_the_saved_jpeg(picture):
    marked, method = GentleWatermarker().apply(
        picture, after_saving=lambda each: after_saving(each, "jpg")
    )
    assert method == "dwtDct"
    assert read_watermark(after_saving(marked, "jpg")) == TEXT


def test_only_the_part_that_may_change_does():
    plain, part = landscape(2), np.zeros((256, 256), bool)
    part[13:, 30:250] = True
    marked, method = GentleWatermarker().apply(plain, part=part)
    assert method == "dwtDct" and read_watermark(marked) == TEXT
    assert np.array_equal(marked[~part], plain[~part])
    assert not np.array_equal(marked, plain)


@pytest.mark.parametrize("lost", [np.zeros_like, lambda each: 255 - each])
def test_a_picture_that_cannot_be_marked_stays_as_it_is_and_that_is_told(lost, caplog):
    with caplog.at_level(logging.WARNING):
        marked, method = GentleWatermarker().apply(landscape(3), after_saving=lost)
    assert method is None and np.array_equal(marked, landscape(3))
    assert "no watermark could be read back" in caplog.text


@pytest.mark.parametrize("side", [16, 64])
def test_a_part_too_small_for_a_majority_is_told_before_anything_is_tried(side, monkeypatch):
    plain, part = landscape(1), np.zeros((256, 256), bool)
    part[:side, :side] = True
    monkeypatch.setattr("ldm.safety.gentle_watermark._Embedding", None)
    marked, method = GentleWatermarker().apply(plain, part=part)
    assert method is None and np.array_equal(marked, plain)


@pytest.mark.parametrize("shape", [(64, 64), (256, 255), (4, 20000)])
def test_a_picture_that_is_too_small_stays_as_it_is(shape):
    plain = np.full((*shape, 3), 100, np.uint8)
    assert GentleWatermarker().apply(plain)[1] is None
    assert np.array_equal(GentleWatermarker().apply(plain)[0], plain)


@pytest.mark.parametrize("text", ["StableDiffusionV2", "SDV2", "絵です。作りました"])
def test_another_text_is_read_back_too(text):
    marked, _ = GentleWatermarker(text).apply(landscape(4, 512, 512))
    assert read_watermark(marked, text) == text


def test_marking_needs_no_package_modifies_nothing_and_is_the_same_each_time(monkeypatch):
    monkeypatch.setitem(sys.modules, "imwatermark", None)
    monkeypatch.setitem(sys.modules, "cv2", None)
    plain = landscape(9)
    first, second = (GentleWatermarker().apply(plain)[0] for _ in range(2))
    assert GentleWatermarker().unavailable() is None
    assert np.array_equal(first, second) and np.array_equal(plain, landscape(9))
    assert read_watermark(first) == TEXT


def test_psnr_is_20_log10_of_255_for_a_difference_of_1_and_infinite_for_none():
    assert psnr(flat(7), flat(8)) == pytest.approx(20 * np.log10(255))
    assert psnr(flat(7), flat(7)) == np.inf > INVISIBLE
