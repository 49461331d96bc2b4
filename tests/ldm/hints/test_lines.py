"""Edges: where they are, how strong, and that they equal OpenCV's."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ldm.hints.filters import blurred, thickened, thinned
from ldm.hints.make import make_hint


def step(left=40, right=200, at=12, size=(24, 10)):
    pixels = np.full((size[1], size[0], 3), left, np.uint8)
    pixels[:, at:] = right
    return Image.fromarray(pixels)


def channel(picture):
    return np.asarray(picture)[..., 0]


def disc(size=41, radius=12, ground=230, colour=20):
    picture = Image.new("RGB", (size, size), 3 * (ground,))
    middle = size // 2
    box = (middle - radius, middle - radius, middle + radius, middle + radius)
    ImageDraw.Draw(picture).ellipse(box, fill=3 * (colour,))
    return picture


@pytest.mark.parametrize("thresholds", [(100, 200), (30, 30), (250, 60), (0, 500)])
@pytest.mark.parametrize("kind", ["noise", "smooth", "disc"])
def test_canny_equals_opencvs_to_the_pixel(kind, thresholds):
    cv2 = pytest.importorskip("cv2")
    random = np.random.default_rng(3)
    pixels = {
        "noise": random.integers(0, 256, (37, 53, 3), np.uint8),
        "smooth": (blurred(random.random((60, 45, 3), np.float32), 2.0) * 400 % 256).astype(
            np.uint8
        ),
        "disc": np.asarray(disc()),
    }[kind]
    low, high = map(float, thresholds)
    made = make_hint("canny", Image.fromarray(pixels), low=low, high=high)
    assert (channel(made) == cv2.Canny(pixels, *thresholds)).all()


def test_a_step_gives_one_line_at_its_place():
    edges = channel(make_hint("canny", step()))
    assert set(np.flatnonzero(edges[5])) == {11}
    assert (edges == edges[:1]).all()


def test_a_transposed_picture_has_transposed_edges():
    picture = disc()
    made = make_hint("canny", picture.transpose(Image.Transpose.TRANSPOSE))
    assert made == make_hint("canny", picture).transpose(Image.Transpose.TRANSPOSE)


def test_a_weak_edge_is_kept_only_where_a_strong_one_continues_it():
    pixels = np.full((40, 20, 3), 100, np.uint8)
    pixels[:20, 10:] = 130  # strength 4 x 30 = 120
    weak = channel(make_hint("canny", Image.fromarray(pixels), low=100.0, high=200.0))
    pixels[:4, 10:] = 200
    joined = channel(make_hint("canny", Image.fromarray(pixels), low=100.0, high=200.0))
    assert not weak.any() and joined[10, 9]


@pytest.mark.parametrize(("contrast", "strength"), [(255, 245), (128, 172), (64, 118)])
def test_a_soft_edges_height_tells_its_contrast_whatever_its_width(contrast, strength):
    for sigma in (1.5, 3.0):
        edge = channel(make_hint("softedge", step(0, contrast, 24, (48, 4)), sigma=sigma))
        assert int(edge[2].max()) == pytest.approx(strength, abs=8)
        assert set(np.flatnonzero(edge[2] == edge[2].max())) <= {23, 24}


def test_a_scribble_of_a_disc_is_one_closed_line_of_the_pens_width():
    for width in (1, 3):
        line = channel(make_hint("scribble", disc(), width=width)) > 0
        across = line[20]
        # The line is crossed twice on the way from rim to rim, about at the disc's edge.
        begins = np.flatnonzero(across[1:] & ~across[:-1]) + 1
        assert len(begins) == 2 and across.sum() == 2 * width
        assert abs(begins[0] + width // 2 - 8) <= 1 and abs(begins[1] + width // 2 - 32) <= 1


def test_thin_lines_stay_and_thick_ones_are_thinned_for_good():
    mask = np.zeros((30, 30), bool)
    mask[4:12, 3:27] = True
    mask[12:26, 10:15] = True
    mask[27:29, 27:29] = True  # a dot of two by two is a dot
    thin = thinned(mask)
    assert (thinned(thin) == thin).all() and not (thin & ~mask).any()
    assert thin[27:29, 27:29].any()
    blocks = thin[:-1, :-1] & thin[1:, :-1] & thin[:-1, 1:] & thin[1:, 1:]
    assert not blocks.any() and 20 < thin.sum() < 60


def test_a_pen_draws_round_dots():
    mask = np.zeros((9, 9), bool)
    mask[4, 4] = True
    assert thickened(mask, 1).sum() == 1 and thickened(mask, 3).sum() == 5 + 4
    wide = thickened(mask, 7)
    assert (wide == wide.T).all() and wide[1, 4] and not wide[1, 1]


@pytest.mark.parametrize("kind", ["lineart", "lineart_anime"])
def test_a_dark_line_on_white_becomes_white_on_black(kind):
    picture = Image.new("RGB", (40, 40), "white")
    ImageDraw.Draw(picture).line((0, 20, 39, 20), fill="black", width=2)
    rows = channel(make_hint(kind, picture))[:, 20]
    assert rows.max() >= 120 and {*np.flatnonzero(rows > 100)} <= {18, 19, 20, 21, 22}
    assert rows[5] == rows[35] == 0
    inverse = make_hint("invert", picture)
    assert not channel(make_hint(kind, inverse))[channel(inverse) == 255].any()


def test_a_blur_keeps_the_sum_and_has_the_width_asked_for():
    dot = np.zeros((61, 61), np.float32)
    dot[30, 30] = 1
    spread = blurred(dot, 4.0)
    rows = np.arange(61) - 30
    assert spread.sum() == pytest.approx(1, abs=1e-5)
    assert (spread.sum(axis=1) * rows**2).sum() == pytest.approx(16, rel=0.03)
