"""Repainting around the model: nothing outside the mask changes, and what is drawn lies on it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from apps.server.front.values import Unfit
from apps.server.sdapi.area import Repaint, area_of, filled, read_mask, resized

SIZE = (90, 60)


def noise(size: tuple[int, int] = SIZE, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8)
    return Image.fromarray(pixels)


def marked(box: tuple[int, int, int, int], size: tuple[int, int] = SIZE) -> Image.Image:
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=255)
    return mask


BOX = (30, 20, 50, 40)


def red(size: tuple[int, int]) -> Image.Image:
    return Image.new("RGB", size, (255, 0, 0))


@pytest.mark.parametrize("blur", [0, 2])
@pytest.mark.parametrize("alone", [False, True])
def test_inside_the_mask_all_is_new_and_far_outside_nothing(blur, alone):
    picture = noise()
    work = Repaint.of(picture, marked(BOX), blur)
    work = work.only_marked(8, (64, 64)) if alone else work
    done = np.asarray(work.finish(red(work.size)))
    assert (done[20:40, 30:50] == (255, 0, 0)).all()
    outside = np.ones(SIZE[::-1], bool)
    edge = 4 * blur
    outside[20 - edge : 40 + edge, 30 - edge : 50 + edge] = False
    np.testing.assert_array_equal(done[outside], np.asarray(picture)[outside])


def test_a_soft_edge_fades_and_a_hard_one_does_not():
    black = Image.new("RGB", SIZE)
    values = {
        blur: np.unique(np.asarray(Repaint.of(black, marked(BOX), blur).finish(red(SIZE)))[..., 0])
        for blur in (0, 3)
    }
    assert values[0].tolist() == [0, 255]
    assert len(values[3]) > 10


def test_the_model_is_shown_all_that_the_soft_edge_will_show():
    work = Repaint.of(noise(), marked(BOX), 3)
    _, mask = work.parts()
    assert (np.asarray(mask)[np.asarray(work.soft) > 0] == 255).all()


@pytest.mark.parametrize("size", [(64, 64), (128, 64), (64, 128)])
@pytest.mark.parametrize("box", [BOX, (0, 0, 5, 5), (80, 50, 90, 60), (0, 10, 90, 20)])
def test_an_area_holds_its_mask_and_lies_in_the_picture_in_the_drawn_proportions(box, size):
    left, top, right, bottom = area_of(marked(box), 4, size)
    assert 0 <= left <= box[0] and box[2] <= right <= SIZE[0]
    assert 0 <= top <= box[1] and box[3] <= bottom <= SIZE[1]
    whole = right - left == SIZE[0] or bottom - top == SIZE[1]
    assert whole or (right - left) / (bottom - top) == pytest.approx(size[0] / size[1], rel=0.1)


def test_padding_widens_an_area():
    plain, wide = (area_of(marked(BOX), padding, (64, 64)) for padding in (0, 7))
    assert plain == BOX
    assert wide == (23, 13, 57, 47)


def test_a_hole_is_filled_with_the_colours_around_it():
    picture = Image.new("RGB", SIZE, (10, 200, 30))
    picture.paste((255, 0, 255), BOX)
    pixels = np.asarray(filled(picture, marked(BOX))).astype(int)
    assert abs(pixels - (10, 200, 30)).max() <= 6  # blurs are rounded to 8 bits


def test_a_hole_is_filled_on_each_side_from_that_side():
    picture = Image.new("RGB", SIZE, (255, 0, 0))
    picture.paste((0, 0, 255), (45, 0, 90, 60))
    row = np.asarray(filled(picture, marked((25, 10, 65, 50)))).astype(int)[30]
    assert row[26, 0] > row[26, 2] and row[63, 2] > row[63, 0]


def test_what_is_known_stays_when_a_hole_is_filled():
    picture, mask = noise(), marked(BOX)
    outside = np.asarray(mask) == 0
    np.testing.assert_array_equal(
        np.asarray(filled(picture, mask))[outside], np.asarray(picture)[outside]
    )


def test_a_picture_of_which_all_is_marked_has_nothing_to_fill_it_with():
    assert filled(noise(), Image.new("L", SIZE, 255)).tobytes() == noise().tobytes()


def test_a_mask_that_marks_nothing_is_refused():
    with pytest.raises(Unfit, match="marks nothing") as caught:
        Repaint.of(noise(), Image.new("L", SIZE), 4)
    assert caught.value.field == "mask"


def test_the_ways_to_resize_differ_in_what_becomes_of_the_proportions():
    picture = Image.new("RGB", (40, 20), (0, 255, 0))
    picture.paste((255, 0, 0), (0, 0, 10, 20))
    for mode, reds in ((0, 0.25), (1, 0.0), (2, 0.25)):
        made = resized(picture, (64, 64), mode)
        assert made.size == (64, 64)
        share = (np.asarray(made)[..., 0] > 128).mean()
        assert share == pytest.approx(reds, abs=0.02), mode
    # Filled above and below by what is at the edge.
    rows = np.asarray(resized(picture, (64, 64), 2))
    np.testing.assert_array_equal(rows[0], rows[10])


@pytest.mark.parametrize("mode", [0, 1, 2])
@pytest.mark.parametrize("size", [(1, 1), (1, 999), (999, 1), (3, 7)])
def test_pictures_of_any_proportions_are_resized_and_repainted(mode, size):
    picture = noise(size)
    made = resized(picture, (64, 48), mode)
    assert made.size == (64, 48)
    whole = Image.new("L", size, 255)
    for blur in (0, 5):
        work = Repaint.of(picture, whole, blur).only_marked(2, (64, 48))
        assert [part.size for part in work.parts()] == [(64, 48)] * 2
        assert work.finish(red((64, 48))).getcolors() == [(size[0] * size[1], (255, 0, 0))]


def test_a_masks_white_is_marked_and_so_are_its_opaque_parts():
    grey = Image.new("L", (3, 1))
    grey.putdata([0, 127, 128])
    assert np.asarray(read_mask(grey)).tolist() == [[0, 0, 255]]
    clear = Image.new("RGBA", (2, 1), (0, 0, 0, 255))
    clear.putpixel((0, 0), (255, 255, 255, 0))
    assert np.asarray(read_mask(clear)).tolist() == [[0, 255]]
