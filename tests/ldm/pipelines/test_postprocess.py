from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.images.io import to_uint8
from ldm.pipelines.batches import plan
from ldm.pipelines.infotext import Source
from ldm.pipelines.init_image import InitImage
from ldm.pipelines.masks import Mask
from ldm.pipelines.postprocess import PostProcessor, Watermark, telling
from ldm.programs.output import OutputFolder
from ldm.safety import watermark
from ldm.safety.checker import Checked, Finding, SafetyChecker
from ldm.safety.watermark import read_watermark
from ldm.settings.generation import WATERMARKS, Txt2ImgSettings


class _Fingerprint:
    short = "0123456789"


def finish(decoded, settings):
    """Finish a decoded batch; return its pictures and what was told."""
    events = []
    source = Source("tiny", _Fingerprint(), "cpu", tuple(decoded.shape[2:]))
    checker = SafetyChecker(policy="off")
    marker = Watermark.of(settings.watermark, settings.format)
    post_processor = PostProcessor(settings, source, checker, marker, events.append)
    post_processor.prepare()
    (batch,) = plan(settings, ["a cat"] * len(decoded))
    return list(post_processor.pictures(batch, decoded)), [event.text for event in events]


@pytest.fixture(scope="module")
def decoded():
    """Two smooth pictures (2, 3, 256, 256) in [-1, 1]."""
    noise = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 1.6 - 0.8
    return torch.nn.functional.interpolate(noise, size=(256, 256), mode="bicubic").clamp(-1, 1)


@pytest.mark.parametrize("format", ["png", "jpg"])
def test_saved_pictures_carry_the_watermark_in_either_format(decoded, tmp_path, format):
    settings = Txt2ImgSettings(n_iter=1, format=format, n_samples=2)
    pictures, told = finish(decoded, settings)
    assert not any("watermark" in text for text in told)
    assert np.array_equal(np.stack([p.plain for p in pictures]), to_uint8(decoded))
    output = OutputFolder(tmp_path, format)
    for picture in pictures:
        output.take(picture, keep=True)
    output.save_grids(2, Watermark(format))
    for path in [*output.saved, *output.grids]:
        assert read_watermark(np.asarray(Image.open(path))) == "StableDiffusionV1"


@pytest.mark.parametrize("format", ["png", "jpg"])
def test_the_watermark_has_to_outlive_the_file_format(decoded, format):
    asked = []

    class Noting(watermark.Watermarker):
        def apply(self, picture, *, after_saving=None, part=None):
            asked.append(picture if after_saving is None else after_saving(picture))
            return picture, None

    (plain, _) = to_uint8(decoded)
    Watermark(format, Noting())(plain)
    lossless = np.array_equal(asked[0], plain)
    assert lossless is (format == "png")
    assert np.abs(asked[0].astype(int) - plain).max() < 16


def test_small_pictures_carry_none_but_their_grid_may(decoded):
    small = decoded[:, :, :64, :64]
    pictures, told = finish(small, Txt2ImgSettings(n_iter=1, n_samples=2))
    assert [text for text in told if "64x64 are too small for the watermark" in text]
    assert np.array_equal(pictures[0].pixels, pictures[0].plain)


def test_a_missing_package_is_told_and_pictures_are_made_all_the_same(decoded, monkeypatch):
    def missing():
        raise watermark.UserError("the package invisible-watermark cannot be imported")

    monkeypatch.setattr(watermark, "_package", missing)
    pictures, told = finish(decoded, Txt2ImgSettings(n_iter=1, n_samples=2))
    assert sum("without a watermark" in text for text in told) == 1
    assert np.array_equal(pictures[0].pixels, pictures[0].plain)


@pytest.mark.parametrize(("mode", "seeds"), [("compvis", [7, 7]), ("per-image", [7, 8])])
def test_a_picture_has_the_seed_that_draws_it_again(decoded, mode, seeds):
    settings = Txt2ImgSettings(n_iter=1, n_samples=2, seed=7, seed_mode=mode)
    pictures, _ = finish(decoded[:, :, :64, :64], settings)
    assert [picture.seed for picture in pictures] == seeds
    assert all(f"Seed: {p.seed}," in p.parameters for p in pictures)


def test_a_picture_that_is_blacked_out_is_marked_beyond_its_mask_too(decoded):
    class FlagsAll(SafetyChecker):
        def check(self, pictures, *, seen=None):
            black = np.zeros_like(pictures)
            return Checked(black, [True] * len(black), [Finding()] * len(black))

    marked = np.zeros((256, 256), bool)
    marked[:64, :64] = True
    image = InitImage(Image.new("RGB", (256, 256), "white"), mask=Mask(marked))
    source = Source("tiny", _Fingerprint(), "cpu", (256, 256), image)
    settings = Txt2ImgSettings(n_iter=1, n_samples=2)
    ways = settings, source, FlagsAll(policy="off"), Watermark("png"), lambda event: None
    (batch,) = plan(settings, ["a cat"] * 2)
    for picture in PostProcessor(*ways).pictures(batch, decoded):
        assert picture.flagged and not picture.plain.any()
        assert read_watermark(picture.pixels) == "StableDiffusionV1"


@pytest.mark.parametrize("kind", WATERMARKS)
def test_each_kind_of_watermark_does_what_it_says_and_is_noted_in_the_picture(decoded, kind):
    pytest.importorskip("imwatermark")
    settings = Txt2ImgSettings(n_iter=1, n_samples=2, watermark=kind)
    pictures, told = finish(decoded, settings)
    for picture in pictures:
        text = None if kind == "off" else "StableDiffusionV1"
        assert read_watermark(picture.pixels) == text
        assert np.array_equal(picture.pixels, picture.plain) is (kind == "off")
        # Pictures from before there was a choice are the reference's, and say nothing.
        assert (f"Watermark: {kind}" in picture.parameters) is (kind != "reference")
    assert any("--watermark off" in text for text in told) is (kind == "off")


def test_the_gentle_watermark_changes_less_and_needs_no_package(decoded, monkeypatch):
    pytest.importorskip("imwatermark")
    plain = to_uint8(decoded)[0]
    changes = [Watermark.of(kind)(plain) - plain.astype(int) for kind in ("reference", "gentle")]
    assert np.abs(changes[1]).max() <= 16
    assert np.square(changes[1]).mean() < np.square(changes[0]).mean() / 2
    monkeypatch.setitem(sys.modules, "imwatermark", None)
    assert "--watermark gentle" in Watermark.of("reference").obstacle(256, 256).text
    assert Watermark.of("gentle").obstacle(256, 256) is None
    assert np.array_equal(Watermark.of("gentle")(plain), plain + changes[1])


@pytest.mark.parametrize(
    ("kind", "side", "words"), [("off", 256, "--watermark off"), ("gentle", 64, "too small")]
)
def test_what_leaves_pictures_unmarked_is_told_once(kind, side, words):
    events = []
    mark = telling(Watermark.of(kind), events.append)
    plain = np.full((side, side, 3), 90, np.uint8)
    assert all(mark(plain) is plain for _ in range(3))
    assert [words in event.text for event in events] == [True]
