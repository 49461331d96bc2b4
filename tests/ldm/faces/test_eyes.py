from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from ldm.faces.eyes import EYE_APART, EYE_LINE, disc_centre, eyes_in


def test_the_centre_of_a_dark_disc_is_found():
    grey = Image.new("L", (40, 27), 200)
    ImageDraw.Draw(grey).ellipse((21, 8, 31, 18), fill=30)
    assert np.abs(disc_centre(np.asarray(grey, np.float64)) - (26, 13)).max() <= 1


def test_the_glass_of_spectacles_is_no_eye_though_its_frame_is_a_larger_circle():
    grey = Image.new("L", (46, 27), 200)
    ImageDraw.Draw(grey).ellipse((3, 4, 21, 22), outline=30, width=2)
    ImageDraw.Draw(grey).ellipse((29, 8, 39, 18), fill=30)
    assert np.abs(disc_centre(np.asarray(grey, np.float64)) - (34, 13)).max() <= 1


def drawn(eyes, side=120):
    grey = Image.new("L", (side, side), 190)
    for x, y in eyes:
        ImageDraw.Draw(grey).ellipse((x - 6, y - 6, x + 6, y + 6), fill=20)
    return grey


def test_eyes_are_found_where_they_are_also_in_a_tilted_face():
    for eyes in ([(40, 46), (82, 46)], [(38, 52), (80, 42)]):
        found = eyes_in(drawn(eyes), (0, 0, 120, 120))
        assert np.abs(found - np.array(eyes)).max() <= 2


def test_what_cannot_be_eyes_gives_the_places_that_eyes_usually_have():
    usual = [[60 - 120 * EYE_APART / 2, 120 * EYE_LINE], [60 + 120 * EYE_APART / 2, 120 * EYE_LINE]]
    close_together = drawn([(52, 44), (66, 44)])
    assert np.allclose(eyes_in(close_together, (0, 0, 120, 120)), usual)
    assert disc_centre(np.full((9, 11), 7.0)).tolist() == [5.0, 4.0]
