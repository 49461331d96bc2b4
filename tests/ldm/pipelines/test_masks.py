"""Masks: nothing that was painted over stays, and nothing else is touched."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.errors import UserError
from ldm.pipelines.masks import Mask


def dots(width, height, share, seed=0):
    marked = np.random.default_rng(seed).random((height, width)) < share
    marked[height // 2, width // 2] = True
    return Mask(marked)


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 1.0])
def test_a_latent_cell_is_repainted_exactly_if_a_marked_pixel_is_in_it(factor, share):
    mask = dots(64, 32, share)
    cells = mask.cells(factor)
    assert cells.shape == (32 // factor, 64 // factor)
    for (y, x), repainted in np.ndenumerate(cells):
        rows, columns = (slice(at * factor, (at + 1) * factor) for at in (y, x))
        assert repainted == mask.marked[rows, columns].any()


@pytest.mark.parametrize("fitted", [(64, 64), (96, 64), (64, 32), (192, 128)])
def test_a_mask_of_the_given_pictures_size_is_resized_with_it_and_loses_no_dot(fitted):
    given = (100, 70)
    mask = dots(*given, 0.01)
    resized = mask.fit(given, fitted)
    assert resized.size == fitted
    assert resized.notice is None
    for y, x in zip(*np.nonzero(mask.marked), strict=True):
        row, column = (y + 0.5) * fitted[1] / given[1], (x + 0.5) * fitted[0] / given[0]
        assert resized.marked[int(row), int(column)]


def test_resizing_leaves_what_lies_apart_from_the_dots_alone():
    marked = np.zeros((70, 100), bool)
    marked[20:30, 40:60] = True
    resized = Mask(marked).fit((100, 70), (64, 64)).marked
    ys, xs = np.nonzero(resized)
    assert (ys.min(), ys.max()) == (20 * 64 // 70, -(-30 * 64 // 70) - 1)
    assert (xs.min(), xs.max()) == (40 * 64 // 100, -(-60 * 64 // 100) - 1)


def test_a_mask_that_fits_already_is_left_alone():
    mask = dots(64, 64, 0.2)
    assert mask.fit((100, 70), (64, 64)) is mask


def test_a_mask_of_the_same_proportions_is_resized_with_a_remark():
    resized = dots(50, 35, 0.1).fit((100, 70), (64, 64))
    assert resized.size == (64, 64)
    assert "50x35" in resized.notice
    assert "100x70" in resized.notice


def test_a_mask_of_other_proportions_is_refused():
    with pytest.raises(UserError, match=r"64x64, the picture 100x70; expected .*proportions"):
        dots(64, 64, 0.1).fit((100, 70), (96, 64))


def test_an_empty_mask_is_refused():
    with pytest.raises(UserError, match="marks nothing; expected some white"):
        Mask.of(Image.new("L", (8, 8), 127)).fit((8, 8), (8, 8))


@pytest.mark.parametrize(
    ("mode", "colour", "repainted"),
    [
        ("L", 255, True),
        ("L", 128, True),
        ("L", 127, False),
        ("1", 1, True),
        ("RGB", (255, 255, 255), True),
        ("RGB", (90, 0, 0), False),
        ("RGBA", (255, 255, 255, 255), True),
        ("RGBA", (255, 255, 255, 0), False),
        ("LA", (255, 40), False),
    ],
)
def test_white_that_can_be_seen_is_repainted(mode, colour, repainted):
    assert (Mask.of(Image.new(mode, (4, 4), colour)).marked == repainted).all()


def test_a_masks_file_is_remembered_with_its_hash(tmp_path):
    path = str(tmp_path / "mask.png")
    Image.new("L", (4, 4), 255).save(path)
    mask = Mask.read(path)
    assert mask.path == path
    assert len(mask.sha256) == 64


@pytest.mark.parametrize("given", [None, "missing.png", "text.png"])
def test_a_mask_that_cannot_be_read_is_one_line(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UserError) as caught:
        Mask.read(given)
    assert "\n" not in str(caught.value)
    assert (given or "--mask") in str(caught.value)


def test_restoring_keeps_every_unmarked_pixel_and_no_other():
    mask, rng = dots(16, 12, 0.3), np.random.default_rng(1)
    original = rng.integers(0, 128, (12, 16, 3), dtype=np.uint8)
    drawn = rng.integers(128, 256, (2, 12, 16, 3), dtype=np.uint8)
    restored = mask.restore(drawn, original)
    for row, picture in zip(drawn, restored, strict=True):
        assert np.array_equal(picture[mask.marked], row[mask.marked])
        assert np.array_equal(picture[~mask.marked], original[~mask.marked])


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_a_sample_of_the_mask_is_torchs_nearest_interpolation(factor):
    mask = dots(64, 32, 0.3)
    whole = torch.from_numpy(mask.marked).float()[None, None]
    nearest = torch.nn.functional.interpolate(whole, size=(32 // factor, 64 // factor))
    assert np.array_equal(mask.samples(factor), nearest[0, 0].numpy() > 0.5)


def test_a_padded_mask_is_cut_back_to_itself():
    mask = dots(21, 13, 0.3)
    padded = mask.pad((32, 16))
    assert padded.size == (32, 16)
    assert np.array_equal(padded.crop(mask.size).marked, mask.marked)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16", "CMYK"])
def test_a_mask_of_any_mode_marks_the_same(tmp_path, mode):
    white = np.zeros((4, 6), np.uint8)
    white[1:3, 2:5] = 255
    if mode == "I;16":
        image = Image.fromarray(white.astype(np.uint16) * 257)
    else:
        image = Image.fromarray(white).convert(mode)
    path = tmp_path / ("mask.tif" if mode == "CMYK" else "mask.png")
    image.save(path)
    assert np.array_equal(Mask.read(str(path)).marked, white > 0)
