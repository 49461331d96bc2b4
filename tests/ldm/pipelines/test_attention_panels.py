"""Heat maps of words over pictures, with the words beneath."""

from __future__ import annotations

import numpy as np
import pytest

from ldm.images import lettering
from ldm.modules.attention_control.words import Word
from ldm.pipelines.attention_panels import TILE, label, overlay, panel, sheet, word_maps

GREY = np.full((64, 64, 3), 128, np.uint8)
WORDS = [Word("a", (1,)), Word("big", (2, 3)), Word("cat", (4,))]
RNG = np.random.default_rng(0)


def maps(h: int = 4, w: int = 4) -> np.ndarray:
    return RNG.random((h, w, 77)).astype(np.float32)


def test_the_map_of_a_word_is_the_mean_of_its_tokens():
    given = maps()
    found = word_maps(given, WORDS)
    assert found.shape == (3, 4, 4)
    np.testing.assert_allclose(found[1], (given[..., 2] + given[..., 3]) / 2, rtol=1e-6)
    steps = np.stack([given, 2 * given])
    np.testing.assert_allclose(word_maps(steps, WORDS)[:, 1], 2 * found, rtol=1e-6)


def test_heat_is_lighter_where_the_map_is_larger_and_lies_where_the_map_says():
    heat = np.zeros((8, 8), np.float32)
    heat[:, 4:] = 1.0
    laid = overlay(GREY, heat).astype(float).mean(-1)
    assert laid[:, 48:].min() > laid[:, :16].max() + 50


def test_the_picture_shows_through_the_heat():
    picture = GREY.copy()
    picture[16:48, 16:48] = 255
    for value in (0.0, 0.5, 1.0):
        laid = overlay(picture, np.full((4, 4), value)).astype(float)
        assert np.abs(laid[32, 32] - laid[4, 4]).max() >= 15
    assert (picture[0, 0] == 128).all()


def test_a_map_is_scaled_by_its_largest_value():
    given = maps()
    np.testing.assert_array_equal(panel(GREY, given, WORDS), panel(GREY, given / 64, WORDS))
    assert panel(GREY, np.zeros_like(given), WORDS).dtype == np.uint8  # no division by zero


@pytest.mark.parametrize("size", [(64, 64), (512, 512), (48, 96), (768, 128), (8, 512), (1, 1)])
def test_small_and_large_pictures_of_any_shape_make_panels_of_one_scale(size):
    picture = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
    shown = panel(picture, maps(), WORDS)
    assert shown.dtype == np.uint8 and shown.ndim == 3
    assert shown.shape[1] < 5 * TILE and shown.shape[0] <= TILE + 80
    by_steps = sheet(picture, {0: maps(), 4: maps()}, WORDS)
    assert by_steps.shape[2] == 3


def test_there_is_a_tile_for_the_picture_and_for_each_word():
    assert panel(GREY, maps(), WORDS).shape[1] == 4 * TILE + 5 * 8
    many = [Word(f"w{k}", (k,)) for k in range(1, 60)]
    wide = panel(GREY, maps(), many)
    assert wide.shape[1] == 6 * TILE + 7 * 8
    assert wide.shape[0] // (TILE + 8) >= 10


def test_the_first_tile_is_the_picture_itself():
    picture = RNG.integers(0, 256, (TILE, TILE, 3), dtype=np.uint8)
    shown = panel(picture, maps(), WORDS)
    np.testing.assert_array_equal(shown[8 : 8 + TILE, 8 : 8 + TILE], picture)


def test_a_row_of_steps_is_scaled_as_one():
    low, high = np.full((4, 4, 77), 0.1), np.full((4, 4, 77), 1.0)
    shown = sheet(GREY, {0: low, 1: high}, WORDS[:1])
    row = shown[-60, -220:].astype(float).mean(-1)  # through both tiles
    assert row[20:100].mean() + 50 < row[-100:-20].mean()


def test_a_word_that_no_font_can_write_is_named_by_its_tokens(monkeypatch):
    monkeypatch.setattr(lettering, "_fonts", lambda: iter([lettering._PillowFont(None)]))
    assert label(Word("cat", (5,))) == "cat"
    assert label(Word("猫", (5,))) == "token 5"
    assert label(Word("背景", (5, 6, 7))) == "tokens 5-7"
    assert panel(GREY, maps(), [Word("猫", (5,))]).any()


def test_a_long_word_is_made_to_fit_its_tile():
    long = Word("m" * 90, (1,))
    assert panel(GREY, maps(), [long]).shape == panel(GREY, maps(), WORDS[:1]).shape
    assert sheet(GREY, {0: maps()}, [long]).shape[1] < 500
