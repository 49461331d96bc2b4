"""What a tab's fields send becomes a picture, and a mask of what is painted over."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("gradio", reason="needs gradio: pip install -e '.[web]'")

from apps.studio.pictures import BRUSH, painted_of, picture_of  # noqa: E402
from ldm.errors import UserError  # noqa: E402
from ldm.pipelines.masks import HALF_GREY  # noqa: E402


@pytest.fixture
def held(tmp_path):
    """What the editor sends: a picture with a clear corner, and a stroke of the brush over it."""
    pixels = np.full((8, 12, 4), 255, np.uint8)
    pixels[..., 0] = 40
    pixels[:2, :2, 3] = 0
    stroke = np.zeros((8, 12, 4), np.uint8)
    stroke[3:5, 4:8] = (230, 0, 126, round(BRUSH[1] * 255))
    return {
        "background": saved(tmp_path / "b.png", pixels),
        "layers": [saved(tmp_path / "l.png", stroke)],
        "composite": None,
    }


def saved(path, pixels):
    Image.fromarray(pixels).save(path)
    return {"path": str(path)}


def test_the_brush_marks_and_can_be_seen_through():
    assert HALF_GREY / 255 < BRUSH[1] < 1


def test_what_the_brush_went_over_is_marked(held):
    image, mask = painted_of(held, None, needs_mask=True, transparent=False)
    assert (image.mode, image.size) == ("RGB", (12, 8))
    assert image.getpixel((0, 0)) == (255, 255, 255)
    rows, columns = np.nonzero(mask.marked)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (3, 4, 4, 7)


def test_transparency_is_kept_where_it_can_be(held):
    image, _ = painted_of(held, None, needs_mask=True, transparent=True)
    assert image.mode == "RGBA"
    assert image.getpixel((0, 0))[3] == 0


def test_an_uploaded_mask_is_joined_with_what_is_painted(held, tmp_path):
    uploaded = np.zeros((8, 12), np.uint8)
    uploaded[0, 11] = 255
    mask = saved(tmp_path / "m.png", uploaded)
    _, found = painted_of(held, mask, needs_mask=True, transparent=False)
    assert found.marked[0, 11]
    assert found.marked[3, 4]
    assert not found.marked[7, 0]


def test_nothing_painted_is_a_mistake_unless_the_picture_is_drawn_on_around(held):
    held["layers"] = []
    with pytest.raises(UserError, match="nothing is painted over"):
        painted_of(held, None, needs_mask=True, transparent=False)
    assert painted_of(held, None, needs_mask=False, transparent=False)[1] is None


@pytest.mark.parametrize("value", [None, {"background": None, "layers": [], "composite": None}])
def test_no_picture_is_one_line(value):
    with pytest.raises(UserError, match="there is no picture"):
        painted_of(value, None, needs_mask=True, transparent=False)
    with pytest.raises(UserError, match="there is no picture"):
        picture_of(None)
