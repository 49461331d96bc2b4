"""Repainting at the picture's own size: what is marked is new, all else is the file's own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from drawing import STEPS, draw
from PIL import Image, ImageDraw

from ldm.errors import UserError
from ldm.images.io import save_picture
from ldm.pipelines.infotext import read_picture
from ldm.pipelines.only_masked import Repaint, area_of, filled
from ldm.pipelines.progress import Notice
from ldm.settings.inpaint import InpaintSettings, LowMemoryInpaintSettings

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


def test_a_mask_that_is_white_all_over_leaves_nothing_once_it_is_inverted(pipeline):
    wanted, white = settings(invert_mask=True), Image.new("L", (64, 64), 255)
    with pytest.raises(UserError, match="white all over, and --invert_mask keeps what is white"):
        pipeline.prepare(wanted, image=noise((64, 64)), mask=white)


def test_a_mask_that_marks_nothing_is_refused():
    with pytest.raises(UserError, match="marks nothing"):
        Repaint.of(noise(), Image.new("L", SIZE), 4)


@pytest.mark.parametrize("size", [(1, 1), (1, 999), (999, 1), (3, 7)])
def test_pictures_of_any_proportions_are_repainted(size):
    whole = Image.new("L", size, 255)
    for blur in (0, 5):
        work = Repaint.of(noise(size), whole, blur).only_marked(2, (64, 48))
        assert [part.size for part in work.parts()] == [(64, 48)] * 2
        assert work.finish(red((64, 48))).getcolors() == [(size[0] * size[1], (255, 0, 0))]


# --- through a pipeline ---


def settings(schema=InpaintSettings, **changes):
    return schema(
        **{"prompt": "a cat", "ddim_steps": STEPS, "n_samples": 1, "n_iter": 1, **changes}
    )


def painted(pipeline, image, mask, chosen, **rest):
    (picture, *_), events = draw(pipeline, chosen, image=image, mask=mask, **rest)
    return picture, [event.text for event in events if isinstance(event, Notice)]


def far(mask, blur):
    """Return where a mask's soft edge does not reach."""
    return np.asarray(Repaint.of(Image.new("RGB", mask.size), mask, blur).soft) == 0


@pytest.mark.parametrize("schema", [InpaintSettings, LowMemoryInpaintSettings])
@pytest.mark.parametrize("size", [(90, 60), (37, 23), (7, 81)])
def test_only_masked_keeps_size_and_pixels_and_draws_at_the_models_size(pipeline, schema, size):
    image, mask = noise(size), marked((2, 9, 6, 15), size)
    chosen = settings(schema, only_masked=3)
    request = pipeline.prepare(chosen, image=image, mask=mask)
    height, width = request.size
    assert height * width == pytest.approx(16 * 16, rel=0.3)
    picture, said = painted(pipeline, image, mask, chosen)
    own = np.asarray(image)
    for pixels in (picture.plain, picture.pixels):
        assert pixels.shape == own.shape
        np.testing.assert_array_equal(pixels[far(mask, 4)], own[far(mask, 4)])
        assert not np.array_equal(pixels[9:15, 2:6], own[9:15, 2:6])
    assert any(f"is {size[0]}x{size[1]}, of which " in text for text in said)


def test_a_hard_edge_leaves_every_pixel_that_is_not_marked(pipeline):
    image, mask = noise(), marked(BOX)
    picture, _ = painted(pipeline, image, mask, settings(only_masked=0, mask_blur=0))
    kept = np.asarray(mask) == 0
    np.testing.assert_array_equal(picture.pixels[kept], np.asarray(image)[kept])


def test_what_lies_far_from_the_area_has_no_part_in_it(pipeline):
    mask = marked(BOX)
    one, other = noise(seed=1), noise(seed=2)
    other.paste(one.crop((15, 5, 65, 55)), (15, 5))
    chosen = settings(only_masked=2, mask_blur=0)
    drawn = [painted(pipeline, each, mask, chosen)[0].plain[20:40, 30:50] for each in (one, other)]
    np.testing.assert_array_equal(*drawn)


def test_a_soft_mask_works_without_an_area_too(pipeline):
    image, mask = noise((16, 12)), marked((5, 4, 9, 8), (16, 12))
    soft, _ = painted(pipeline, image, mask, settings(mask_blur=1))
    kept = far(mask, 1)
    assert kept.any() and not kept.all()
    np.testing.assert_array_equal(soft.plain[kept], np.asarray(image)[kept])
    edge = ~kept & (np.asarray(mask) == 0)
    assert not np.array_equal(soft.plain[edge], np.asarray(image)[edge])


def test_an_inverted_mask_repaints_the_rest(pipeline):
    image, mask = noise((16, 12)), marked((5, 4, 9, 8), (16, 12))
    picture, _ = painted(pipeline, image, mask, settings(invert_mask=True))
    opposite = Image.fromarray(255 - np.asarray(mask))
    expected, _ = painted(pipeline, image, opposite, settings())
    np.testing.assert_array_equal(picture.plain, expected.plain)


def test_where_a_picture_is_resized_all_goes_with_it(pipeline):
    image, mask = noise((20, 14)).convert("RGBA"), marked((5, 4, 9, 8), (20, 14))
    image.putalpha(100)
    for changes in ({"outpaint": "4,0,0,0"}, {"mask_blur": 1}, {"invert_mask": True}):
        chosen = settings(LowMemoryInpaintSettings, W=16, **changes)
        around = "outpaint" in changes
        picture, said = painted(pipeline, image, None if around else mask, chosen)
        assert picture.whole.shape == (12, 20 if around else 16, 4)
        assert picture.opacity.min() == 100
        assert any("resized to 16x12" in text for text in said)


def test_an_inverted_black_mask_repaints_all_and_one_that_is_not_there_nothing(pipeline):
    image, black = noise((16, 12)), Image.new("L", (16, 12))
    picture, _ = painted(pipeline, image, black, settings(invert_mask=True))
    assert (picture.plain != np.asarray(image)).any(-1).mean() > 0.9
    chosen = settings(invert_mask=True, outpaint="4,0,0,0", mask_blur=0)
    picture, _ = painted(pipeline, image, None, chosen)
    np.testing.assert_array_equal(picture.plain[:, 4:], np.asarray(image))


def test_transparency_is_kept_and_what_is_painted_is_opaque(pipeline):
    image, mask = noise().convert("RGBA"), marked(BOX)
    image.putalpha(Image.linear_gradient("L").resize(SIZE))
    picture, _ = painted(pipeline, image, mask, settings(only_masked=4))
    alpha, kept = picture.whole[..., 3], far(mask, 4)
    assert picture.whole.shape == (60, 90, 4)
    np.testing.assert_array_equal(alpha[kept], np.asarray(image)[kept][:, 3])
    assert (alpha[20:40, 30:50] == 255).all()


@pytest.mark.parametrize("margins", ["8,0,0,0", "0,4,12,0", "4,4,4,4", "3,1,0,7"])
@pytest.mark.parametrize("area", [None, 6])
def test_a_picture_is_drawn_on_to_any_side(pipeline, margins, area):
    image = noise((20, 16))
    chosen = settings(outpaint=margins, only_masked=area, mask_blur=0)
    picture, _ = painted(pipeline, image, None, chosen)
    left, top, right, bottom = map(int, margins.split(","))
    assert picture.plain.shape == (16 + top + bottom, 20 + left + right, 3)
    inner = picture.plain[top : top + 16, left : left + 20]
    np.testing.assert_array_equal(inner, np.asarray(image))


def test_a_mask_is_repainted_as_well_as_what_lies_around(pipeline):
    image, mask = noise((16, 12)), marked((5, 4, 9, 8), (16, 12))
    picture, _ = painted(pipeline, image, mask, settings(outpaint="4,0,0,0", mask_blur=0))
    changed = (picture.plain[:, 4:] != np.asarray(image)).any(-1)
    assert changed[4:8, 5:9].mean() > 0.9
    assert not changed[np.asarray(mask) == 0].any()


def test_the_marked_part_begins_with_what_is_asked_for(pipeline):
    image, mask = noise((16, 12)), marked((4, 4, 12, 8), (16, 12))
    drawn = {
        fill: painted(pipeline, image, mask, settings(fill=fill, strength=0.5))[0].plain
        for fill in (None, "original", "fill", "noise", "nothing")
    }
    np.testing.assert_array_equal(drawn[None], drawn["original"])
    found = [each.tobytes() for name, each in drawn.items() if name is not None]
    assert len({*found}) == 4


def test_nothing_of_what_was_under_the_mask_is_left_by_the_colours_around_it(pipeline):
    size = (16, 12)
    mask, one, other = marked((4, 4, 12, 8), size), noise(size, 1), noise(size, 1)
    other.paste((255, 0, 255), (4, 4, 12, 8))
    chosen = settings(fill="fill", strength=0.5)
    drawn = [painted(pipeline, each, mask, chosen)[0].plain for each in (one, other)]
    np.testing.assert_array_equal(*drawn)


def test_a_filling_that_has_no_effect_is_named(pipeline):
    image, mask = noise((16, 12)), marked((4, 4, 12, 8), (16, 12))
    _, said = painted(pipeline, image, mask, settings(fill="noise", strength=1.0))
    assert any("--fill noise has no effect at --strength 1" in text for text in said)


@pytest.mark.parametrize(
    "changes",
    [
        {"only_masked": 5, "mask_blur": 2, "invert_mask": True},
        {"only_masked": 0, "fill": "nothing", "strength": 0.5},
        {"outpaint": "4,0,8,0", "only_masked": 8},
        {"outpaint": "0,4,0,4"},
    ],
)
def test_a_picture_is_drawn_again_from_what_its_file_says(pipeline, tmp_path, changes):
    files = {"init_img": tmp_path / "in.png", "mask": tmp_path / "mask.png"}
    noise((20, 16)).save(files["init_img"])
    marked((5, 4, 9, 8), (20, 16)).save(files["mask"])
    if "outpaint" in changes:
        files.pop("mask")
    chosen = settings(**{name: str(path) for name, path in files.items()}, **changes)
    (picture, *_), _ = draw(pipeline, chosen)
    path = save_picture(picture.whole, tmp_path / "out.png", metadata=picture.parameters)
    recorded = read_picture(str(path), InpaintSettings)
    assert not [text for text in recorded.notices if "not" in text], recorded.notices
    values, place = recorded.rerun({})
    (again, *_), _ = draw(pipeline, InpaintSettings(**values), place=place)
    np.testing.assert_array_equal(again.pixels, picture.pixels)


def test_a_canvas_that_is_too_large_is_refused(pipeline):
    with pytest.raises(UserError, match="--outpaint 900,0,0,0 .* at most 9000"):
        pipeline.prepare(settings(outpaint="900,0,0,0", max_pixels=9000), image=noise((20, 16)))


@pytest.mark.parametrize("given", ["1,2,3", "1,2,3,-4", "a", "1;2;3;4", "123456,0,0,0", "0,0,0,0"])
def test_margins_are_four_numbers(given):
    with pytest.raises(UserError, match="--outpaint .* four whole numbers"):
        replace(settings(init_img="a.png"), outpaint=given).validate()
