"""What is done to a drawn picture leaves it the watermark that the operator chose."""

from __future__ import annotations

import json

import numpy as np
import pytest
from flat_server import asked, flat_service, opened, sent
from PIL import Image, ImageDraw

from apps.server.front.drawing import UNMARKED
from ldm.safety.watermark import TEXT, read_watermark

DRAWN = {"width": 256, "height": 256, "steps": 2, "seed": 5}


@pytest.fixture(scope="module")
def client():
    service, _ = flat_service(side=256)
    with asked(service) as client:
        yield client


def draw(client, path: str, **values) -> tuple[Image.Image, dict]:
    answer = client.post(f"/sdapi/v1/{path}", json={**DRAWN, **values})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    return opened(told["images"][0]).convert("RGB"), json.loads(told["info"])


def photo(side: int) -> Image.Image:
    ramp = np.linspace(60, 190, side, dtype=np.uint8)
    return Image.fromarray(
        np.stack(np.broadcast_arrays(ramp[:, None], ramp, np.uint8(128)), axis=-1)
    )


def repainted(client, photo: Image.Image, box: tuple[int, int, int, int], **values):
    mask = Image.new("L", photo.size)
    ImageDraw.Draw(mask).rectangle(box, fill=255)
    given = {"init_images": [sent(photo)], "mask": sent(mask), **values}
    return draw(client, "img2img", **given)


@pytest.mark.parametrize("whole", [True, False])
def test_a_repainted_picture_is_marked_in_its_new_part_alone(client, whole):
    before = photo(256 if whole else 320)
    side, blur = before.width, 2
    values = {"inpaint_full_res": not whole, "mask_blur": blur}
    image, info = repainted(client, before, (16, 16, side - 17, side - 17), **values)
    assert image.size == before.size and read_watermark(np.asarray(image)) == TEXT
    edge = np.ones((side, side), bool)
    edge[8:-8, 8:-8] = False
    assert np.array_equal(np.asarray(image)[edge], np.asarray(before)[edge])
    assert UNMARKED not in info["notices"]


def test_where_too_little_is_new_for_a_mark_that_is_said(client):
    image, info = repainted(client, photo(320), (150, 150, 160, 160))
    assert read_watermark(np.asarray(image)) is None
    assert UNMARKED in info["notices"]


def test_a_jpeg_is_marked_so_that_it_can_be_read_from_there(client):
    image, _ = draw(client, "txt2img", override_settings={"samples_format": "jpg"})
    assert read_watermark(np.asarray(image)) == TEXT


def test_where_the_operator_wants_none_there_is_none():
    service, _ = flat_service(side=256)
    service.fixed["watermark"] = "off"
    with asked(service) as client:
        image, info = repainted(client, photo(320), (16, 16, 303, 303))
    assert read_watermark(np.asarray(image)) is None and UNMARKED not in info["notices"]
