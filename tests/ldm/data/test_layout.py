"""Layouts as tokens: three an object, two for the part that is seen."""

from __future__ import annotations

import json

import numpy as np
import pytest
from small_pictures import noise, save

from ldm.data.layout import LayoutFolder
from ldm.data.layout_tokens import LayoutTokens
from ldm.errors import UserError

CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
WHOLE = np.array([0.0, 0.0, 1.0, 1.0])
RNG = np.random.default_rng


@pytest.fixture
def annotated(tmp_path):
    """One picture of 40 x 20 pixels with a dog on its left half and a cat in its right corner."""
    save(tmp_path / "pictures" / "a.jpg", noise(20, 40))
    content = {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "alone.jpg"}],
        "categories": CATEGORIES,
        "annotations": [
            {"image_id": 1, "category_id": 7, "bbox": [0, 0, 20, 20]},
            {"image_id": 1, "category_id": 3, "bbox": [30, 10, 10, 10]},
        ],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    return tmp_path


def make(folder, **options):
    options = {"size": 16, "max_objects": 3, "no_tokens": 100, **options}
    return LayoutFolder(str(folder / "pictures"), str(folder / "boxes.json"), **options)


def objects(tokens) -> set[tuple[int, ...]]:
    return {tuple(tokens[k : k + 3]) for k in range(0, len(tokens) - 2, 3)}


def test_the_tokens_are_those_of_the_reference():
    """By hand: 100 tokens are a grid of 10 x 10; (x, y) is round(9 y) * 10 + round(9 x)."""
    tokens = LayoutTokens(categories=2, max_objects=2, no_tokens=100)
    boxes = np.array([[0.0, 0.0, 0.5, 1.0]])
    row = tokens.encode(np.array([1]), boxes, WHOLE, False, RNG(0))
    assert row.tolist() == [1, 0, 94, 99, 99, 99, 0, 99]
    assert LayoutTokens(600, 30, 8192).length == 92  # what layout2img-openimages256 was trained on
    assert LayoutTokens(600, 30, 8192).place(1.0, 1.0) == 90 * 90 - 1


def test_a_picture_has_its_boxes_in_any_order_and_its_crop(annotated):
    item = make(annotated)[0]
    tokens = item["coordinates_bbox"]
    assert (tokens.shape, tokens.dtype) == ((11,), np.int64)
    assert item["image"].shape == (16, 16, 3)
    # Categories by identifier: cat 0, dog 1. The middle square is x from 10 to 30 of 40 pixels.
    place = LayoutTokens(2, 3, 100).place
    assert tokens[-2:].tolist() == [place(0.25, 0), place(0.75, 1)]
    assert objects(tokens) == {(1, place(0, 0), place(0.5, 1)), (99, 99, 99)}


def test_objects_outside_the_crop_are_left_out_and_mirrored_boxes_change_sides(annotated):
    place = LayoutTokens(2, 3, 100).place
    wide = make(annotated, size=[8, 16], flip_p=1.0)[0]["coordinates_bbox"]
    assert objects(wide) == {
        (1, place(0.5, 0), place(1, 1)),
        (0, place(0, 0.5), place(0.25, 1)),
        (99, 99, 99),
    }
    assert wide[-2:].tolist() == [0, 99]


def test_of_too_many_objects_some_are_drawn_anew_each_time(annotated):
    data = make(annotated, size=[8, 16], max_objects=1)
    assert {data[0]["coordinates_bbox"][0] for _ in range(30)} == {0, 1}


def test_pictures_without_objects_and_boxes_without_area_do_not_count(annotated, caplog):
    path = annotated / "boxes.json"
    content = json.loads(path.read_text())
    content["annotations"] += [
        {"image_id": 2, "category_id": 3, "bbox": [0, 0, 0, 5]},
        {"image_id": 2, "category_id": 99, "bbox": [0, 0, 5, 5]},
    ]
    path.write_text(json.dumps(content))
    assert len(make(annotated)) == 1
    assert "2 of 4 annotations are left out" in caplog.text


def test_files_that_are_no_annotations_are_refused(annotated):
    (annotated / "boxes.json").write_text("[]")
    with pytest.raises(UserError, match="cannot be read as COCO annotations"):
        make(annotated)
    (annotated / "boxes.json").write_text('{"images": [], "categories": [], "annotations": []}')
    with pytest.raises(UserError, match="has no picture with an object"):
        make(annotated)


def test_more_categories_than_tokens_are_refused():
    with pytest.raises(UserError, match="600 categories and 100 tokens"):
        LayoutTokens(600, 30, 100)


def test_a_row_is_decoded_to_what_was_encoded():
    tokens = LayoutTokens(categories=5, max_objects=4, no_tokens=8100)
    boxes = np.array([[0.1, 0.2, 0.5, 0.9], [0.3, 0.0, 1.0, 0.4]])
    frame = np.array([0.0, 0.0, 0.75, 1.0])
    row = tokens.encode(np.array([4, 0]), boxes, frame, False, RNG(0))
    objects, seen = tokens.decode(row)
    found = dict(objects)
    assert set(found) == {4, 0}
    np.testing.assert_allclose(found[4], boxes[0], atol=0.5 / 89)
    np.testing.assert_allclose(found[0], boxes[1], atol=0.5 / 89)
    np.testing.assert_allclose(seen, frame, atol=0.5 / 89)


def test_the_data_set_names_its_categories_and_draws_a_row(annotated):
    data = make(annotated)
    names = [data.get_textual_label(data.get_category_id(number)) for number in (0, 1)]
    assert names == ["cat", "dog"]
    asked = []
    plot = data.conditional_builders["coordinates_bbox"].plot
    row = data[0]["coordinates_bbox"]
    picture = plot(row, lambda number: asked.append(number) or "a", (60, 40))
    assert picture.shape == (3, 40, 60) and -1 <= picture.min() < 0 and picture.max() == 1
    assert asked == [1]
