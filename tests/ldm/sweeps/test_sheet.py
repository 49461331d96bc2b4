"""The sheet: each picture in its place to the bit, labels that never lie over anything."""

from __future__ import annotations

import numpy as np
import pytest

from ldm.settings.generation import Txt2ImgSettings
from ldm.sweeps.axes import read_axis
from ldm.sweeps.plan import plan_sweep
from ldm.sweeps.sheet import Sheet

BASE = Txt2ImgSettings(prompt="a cat", n_samples=1, n_iter=1)
LONG = "a very long text that goes on and on until nobody reads it any more and then on again " * 3


def sweep(*axes):
    return plan_sweep(BASE, [read_axis(text, Txt2ImgSettings) for text in axes])


def fill(sheet, planned, size):
    rng = np.random.default_rng(0)
    pictures = {cell.place: rng.integers(1, 250, (*size, 3), np.uint8) for cell in planned.cells}
    before = sheet.pixels.copy()
    for place, picture in pictures.items():
        sheet.put(place, picture)
    return pictures, before


def found(sheet, picture):
    """Return where a picture stands in the sheet, by its first row."""
    height, width = picture.shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(sheet.pixels, (1, width, 3))
    tops, lefts = np.nonzero((windows[:, :, 0, 0] == picture[0]).all((2, 3)))
    assert len(tops) == 1
    top, left = tops[0], lefts[0]
    assert np.array_equal(sheet.pixels[top : top + height, left : left + width], picture)
    return top, left


def test_pictures_stand_in_rows_and_columns_and_blocks():
    planned = sweep("scale: 1-3", "seed: 1, 2", "sampler: ddim, plms")
    sheet = Sheet(planned, (16, 24))
    pictures, _ = fill(sheet, planned, (16, 24))
    at = {place: found(sheet, picture) for place, picture in pictures.items()}
    assert len({at[x, 0, 0][0] for x in range(3)}) == 1  # one row
    assert at[0, 0, 0][1] < at[1, 0, 0][1] < at[2, 0, 0][1]
    assert at[0, 0, 0][0] < at[0, 1, 0][0] < at[0, 0, 1][0] < at[0, 1, 1][0]


def test_no_label_is_covered_by_a_picture_nor_by_another_label():
    """Even four lines beside a picture that is lower than they are."""
    planned = sweep(f"prompt: cat, {LONG}", f"negative_prompt: {LONG}, x", "seed: 1, 2")
    sheet = Sheet(planned, (8, 8))
    _, before = fill(sheet, planned, (8, 8))
    dark = (before < 128).any(2)
    assert dark.any()
    assert np.array_equal(sheet.pixels[dark], before[dark])


def test_a_smaller_picture_stands_in_the_middle_of_its_place():
    planned = sweep("W: 16, 32")
    sheet = Sheet(planned, (16, 32))
    small = np.full((8, 16, 3), (7, 90, 11), np.uint8)
    sheet.put((0, 0, 0), small)
    there = (sheet.pixels == (7, 90, 11)).all(2)
    top, left = np.argwhere(there)[0]
    assert there.sum() == 8 * 16
    sheet.put((1, 0, 0), np.full((16, 32, 3), (11, 90, 7), np.uint8))
    assert np.argwhere((sheet.pixels == (11, 90, 7)).all(2))[0][0] == top - 4
    assert (sheet.pixels[top - 1, left] == 255).all()


def test_a_sheet_of_many_large_pictures_is_made_smaller_and_says_so(monkeypatch):
    monkeypatch.setattr("ldm.sweeps.sheet.PIXELS", 2_000_000)
    planned = sweep("seed: 1-4", "scale: 1-8")
    sheet = Sheet(planned, (512, 512))
    assert sheet.scale < 1 and sheet.pixels.shape[0] * sheet.pixels.shape[1] <= 2_000_000
    assert "the sheet shows pictures at" in sheet.notices[0]
    sheet.put((3, 7, 0), np.full((512, 512, 3), (7, 90, 11), np.uint8))
    side = 512 * sheet.scale
    assert abs((sheet.pixels == (7, 90, 11)).all(2).sum() - side**2) <= 2 * side


def test_a_character_that_no_font_has_is_said_and_stands_as_an_escape():
    sheet = Sheet(sweep("prompt: cat, \U0010fffe"), (32, 32))
    assert any("no font here has all characters" in text for text in sheet.notices)


@pytest.mark.parametrize("letters", [8, 40])
def test_labels_are_as_high_as_asked(letters):
    plain = Sheet(sweep("seed: 1, 2"), (64, 400), letters)
    rows = np.nonzero((plain.pixels < 128).any((1, 2)))[0]
    assert 0.4 * letters < rows[-1] - rows[0] < 1.2 * letters
