"""Hints of tones and places: tile, invert, threshold, shuffle, regions, normals."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ldm.hints.make import make_hint
from ldm.hints.palette import PALETTE


def noise(width=48, height=32, seed=1):
    return Image.fromarray(
        np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    )


def scene():
    picture = Image.new("RGB", (60, 40), (30, 60, 200))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((5, 5, 30, 30), fill=(220, 30, 30))
    draw.rectangle((38, 10, 55, 35), fill=(240, 230, 60))
    return picture


def test_inverting_twice_is_the_picture():
    assert make_hint("invert", make_hint("invert", noise())) == noise()


@pytest.mark.parametrize("kind", ["threshold", "grey", "segmentation"])
def test_a_second_time_changes_nothing(kind):
    once = make_hint(kind, noise())
    assert make_hint(kind, once) == once


def test_a_threshold_is_a_brightness():
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None]).convert("RGB")
    white = np.asarray(make_hint("threshold", ramp, threshold=99.0))[0, :, 0]
    assert white.tolist() == 100 * [0] + 156 * [255]


def test_a_tile_hint_keeps_colours_and_loses_what_is_finer():
    fine = np.indices((32, 32)).sum(axis=0) % 2 * 200
    fine = Image.fromarray(np.repeat(fine[..., None], 3, 2).astype(np.uint8))
    flat = np.asarray(make_hint("tile", fine), float)
    assert flat.std() < 1 and flat.mean() == pytest.approx(100, abs=1)
    assert make_hint("tile", fine, factor=1.0) == fine


def test_shuffled_pictures_have_the_same_colours_elsewhere_and_seeds_tell_them_apart():
    picture = scene()
    first, other = (make_hint("shuffle", picture, grain=16, seed=seed) for seed in (0, 1))
    assert first != picture and first != other
    low, high = np.asarray(picture).min(axis=(0, 1)), np.asarray(picture).max(axis=(0, 1))
    shown = np.asarray(first)
    assert (shown >= low).all() and (shown <= high).all()


def test_regions_are_where_the_colours_are_and_have_colours_of_the_palette():
    regions = np.asarray(make_hint("segmentation", scene()))
    codes = regions @ np.array([65536, 256, 1])
    assert {tuple(c) for c in regions.reshape(-1, 3)} <= {tuple(c) for c in PALETTE}
    assert len(np.unique(codes)) == 3
    places = [(17, 17), (46, 22), (2, 38)]
    codes_there = [codes[row, column] for column, row in places]
    assert len(set(codes_there)) == 3
    inside = np.asarray(scene()) @ np.array([65536, 256, 1])
    for (column, row), code in zip(places, codes_there, strict=True):
        truth = inside == inside[row, column]
        assert (truth & (codes == code)).sum() / (truth | (codes == code)).sum() > 0.9


def test_there_are_at_most_as_many_regions_as_asked_for():
    regions = np.asarray(make_hint("segmentation", noise(), colours=2))
    assert len(np.unique(regions.reshape(-1, 3), axis=0)) <= 2


def test_a_segmentation_in_the_palettes_colours_is_used_as_it_is():
    given = Image.fromarray(PALETTE.reshape(10, 15, 3).repeat(3, 0).repeat(3, 1))
    assert make_hint("segmentation", given) == given


def test_the_palette_has_ade20ks_150_classes():
    assert PALETTE.shape == (150, 3) and PALETTE[2].tolist() == [6, 230, 230]  # the sky
    assert len(np.unique(PALETTE, axis=0)) == 149


def test_a_flat_depth_faces_the_viewer_and_slopes_turn_to_their_side():
    flat = np.asarray(make_hint("normal", Image.new("RGB", (9, 9), "grey")))
    assert (np.abs(flat.astype(int) - [128, 128, 255]) <= 1).all()
    ramp = np.tile(np.arange(60, dtype=np.uint8) * 4, (60, 1))
    nearer_right = np.asarray(make_hint("normal", Image.fromarray(ramp)))[30, 30]
    nearer_below = np.asarray(make_hint("normal", Image.fromarray(ramp.T)))[30, 30]
    # Red is left: a surface that comes nearer to the right shows its face to the left.
    assert nearer_right[0] > 200 and abs(int(nearer_right[1]) - 128) <= 1
    assert nearer_below[1] > 200 and abs(int(nearer_below[0]) - 128) <= 1
    length = np.linalg.norm(nearer_right.astype(float) / 127.5 - 1)
    assert length == pytest.approx(1, abs=0.02)
