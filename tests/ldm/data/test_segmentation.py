"""A class for every pixel, in step with its picture."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from small_pictures import noise, save

from ldm.data.segmentation import SegmentationPairs
from ldm.errors import UserError


def stripes(height=20, width=30, n=3):
    """Return labels 0, 1, 2 from left to right, and a picture that shows them as red."""
    labels = np.repeat(np.arange(n, dtype=np.uint8), width // n)[None].repeat(height, 0)
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0] = labels * 100
    return labels, picture


@pytest.fixture
def pairs(tmp_path):
    labels, picture = stripes()
    save(tmp_path / "images" / "deep" / "a.png", picture)
    save(tmp_path / "labels" / "deep" / "a.png", labels)
    return tmp_path


def make(folder, **options):
    options = {"size": 10, "n_labels": 3, **options}
    return SegmentationPairs(str(folder / "images"), str(folder / "labels"), **options)


def test_labels_are_one_hot_and_as_large_as_the_picture(pairs):
    item = make(pairs)[0]
    assert item["image"].shape == (10, 10, 3)
    assert (item["segmentation"].shape, item["segmentation"].dtype) == ((10, 10, 3), np.float32)
    assert (item["segmentation"].sum(-1) == 1).all()


def test_crops_and_mirror_images_are_those_of_the_picture(pairs):
    data = make(pairs, size=20, random_crop=True, flip_p=0.5)
    for _ in range(10):
        item = data[0]
        red = np.rint((item["image"][..., 0] + 1) * 127.5 / 100)
        assert (item["segmentation"].argmax(-1) == red).all()


def test_a_palettes_labels_are_its_indices(pairs):
    labels, _ = stripes()
    image = Image.fromarray(labels).convert("P")
    image.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
    image.save(pairs / "labels" / "deep" / "a.png")
    assert set(make(pairs)[0]["segmentation"].argmax(-1).ravel()) == {0, 1, 2}


def test_sixteen_bit_labels_are_read_as_they_are(pairs):
    labels, _ = stripes()
    save(pairs / "labels" / "deep" / "a.png", labels.astype(np.uint16) * 150)
    segmentation = make(pairs, n_labels=301)[0]["segmentation"]
    assert set(segmentation.argmax(-1).ravel()) == {0, 150, 300}


def test_pixels_without_a_label_are_zero_everywhere(pairs):
    labels, _ = stripes()
    save(pairs / "labels" / "deep" / "a.png", np.where(labels == 1, 255, labels).astype(np.uint8))
    totals = make(pairs, size=20)[0]["segmentation"].sum(-1)
    assert set(totals.ravel()) == {0.0, 1.0}
    with pytest.raises(UserError, match="has the label 255 of 3"):
        make(pairs, ignore_label=None)


def test_pictures_without_a_map_and_maps_that_do_not_fit_are_left_out(pairs, caplog):
    save(pairs / "images" / "b.png")
    save(pairs / "images" / "c.png", noise(20, 30))
    save(pairs / "labels" / "c.png", noise(20, 30))  # colours are no labels
    save(pairs / "images" / "d.png", noise(40, 40))
    save(pairs / "labels" / "d.png", np.zeros((20, 30), np.uint8))
    data = make(pairs)
    assert len(data) == 3
    assert "1 of 4 pictures have no label map" in caplog.text
    assert all(item["segmentation"].shape == (10, 10, 3) for item in data)
    assert data.bad_items.count == 2


def test_folders_that_do_not_belong_together_are_refused(pairs):
    (pairs / "labels" / "deep" / "a.png").rename(pairs / "labels" / "other.png")
    with pytest.raises(UserError, match="has a label map for none of the 1 pictures"):
        make(pairs)
