"""Texts of any script as pictures, with whichever font has them."""

from __future__ import annotations

import numpy as np
import pytest

from ldm.images import lettering
from ldm.images.lettering import draw_text

ONLY_PILLOWS = staticmethod(lambda: iter([lettering._PillowFont(None)]))


def test_a_text_is_twice_as_high_as_its_font_and_as_wide_as_its_letters():
    short, long = draw_text("cat", 20), draw_text("cat cat", 20)
    assert short.shape[0] == long.shape[0] == 40
    assert short.dtype == np.uint8 and short.max() > 200
    assert short[:, 0].any() and short[:, -1].any()
    assert long.shape[1] > 2 * short.shape[1]


def test_letters_stand_on_one_line_whatever_else_the_text_holds():
    baselines = {np.flatnonzero(draw_text(text, 30).any(1))[-1] for text in ("x", "xX", "mixed")}
    assert max(baselines) - min(baselines) <= 1


def test_a_character_that_no_font_has_is_not_written_as_a_box(monkeypatch):
    monkeypatch.setattr(lettering, "_fonts", ONLY_PILLOWS)
    assert draw_text("猫", 20) is None
    assert draw_text("a 猫", 20) is None
    assert draw_text("a cat", 20) is not None


def test_japanese_is_written_with_what_is_installed():
    cv2 = pytest.importorskip("cv2")
    if not hasattr(cv2, "FontFace") and draw_text("猫", 20) is None:
        pytest.skip("this machine has no Japanese font and an OpenCV before 5")
    cat, dog = draw_text("猫", 30), draw_text("犬", 30)
    assert cat.shape[0] == dog.shape[0] == 60
    assert not np.array_equal(cat, dog)


def test_the_fonts_of_the_machine_come_after_pillows_own_and_before_opencvs(monkeypatch):
    asked = []
    monkeypatch.setattr(lettering, "_has", lambda font, text: asked.append(font) is not None)
    assert draw_text("x", 20) is None
    assert getattr(asked[0], "file", "") is None
    opencv = [k for k, font in enumerate(asked) if not hasattr(font, "file")]
    assert opencv in ([], [len(asked) - 1])


def test_an_absent_font_is_passed_over(monkeypatch):
    monkeypatch.setattr(lettering, "_FILES", ("no such font.ttf",))
    lettering._found.cache_clear()
    try:
        assert lettering._found(1) is None
        assert draw_text("cat", 20) is not None
    finally:
        lettering._found.cache_clear()


def test_a_blank_text_is_an_empty_stretch():
    assert not draw_text(" ", 20).any()
