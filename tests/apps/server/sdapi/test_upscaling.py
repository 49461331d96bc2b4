"""Pictures are made larger within limits, and keep their recipes; recipes are read."""

from __future__ import annotations

import base64
import json
import threading
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import pytest
from flat_server import opened, sent
from PIL import Image

from apps.server.front.holding import READERS
from apps.server.sdapi import routes
from ldm.images.io import encode_picture
from ldm.images.metadata import format_parameters


def test_a_pictures_recipe_is_read_and_kept_when_it_is_made_larger(client):
    asked_for = {"prompt": "a cat\nin a hat", "seed": 9, "width": 64, "height": 64, "steps": 1}
    drawn = client.post("/sdapi/v1/txt2img", json=asked_for).json()["images"][0]
    told = client.post("/sdapi/v1/png-info", json={"image": drawn}).json()
    assert told["parameters"]["Prompt"] == "a cat\nin a hat" and told["parameters"]["Seed"] == "9"
    larger = client.post(
        "/sdapi/v1/extra-single-image",
        json={"image": drawn, "upscaler_1": "Nearest", "upscaling_resize": 1.5},
    ).json()
    image = opened(larger["image"])
    assert image.size == (96, 96) and image.info["parameters"] == told["info"]
    plain = base64.b64encode(encode_picture(np.zeros((8, 8, 3), np.uint8), "png", synthetic=False))
    told = client.post("/sdapi/v1/png-info", json={"image": plain.decode()}).json()
    assert told["info"] == ""


def test_a_recipe_may_hold_half_a_character(client):
    recipe = format_parameters("a \ud800 cat", "", {"Steps": 1, "Sampler": "DDIM", "Seed": 1})
    data = encode_picture(np.zeros((8, 8, 3), np.uint8), "png", recipe)
    given = {"image": base64.b64encode(data).decode()}
    answer = client.post("/sdapi/v1/png-info", json=given)
    assert json.loads(answer.content)["parameters"]["Prompt"] == "a \ud800 cat"


@pytest.mark.parametrize(
    ("values", "size"),
    [
        ({"upscaling_resize": 3}, (120, 60)),
        ({"resize_mode": 1, "upscaling_resize_w": 50, "upscaling_resize_h": 50}, (50, 50)),
        (
            {
                "resize_mode": 1,
                "upscaling_resize_w": 50,
                "upscaling_resize_h": 50,
                "upscaling_crop": False,
            },
            (50, 25),
        ),
        ({"upscaler_1": "None"}, (40, 20)),
        ({"upscaling_resize": 0.01}, (1, 1)),
        (
            {
                "resize_mode": 1,
                "upscaling_resize_w": 1,
                "upscaling_resize_h": 5000,
                "upscaling_crop": False,
            },
            (1, 1),
        ),
    ],
)
def test_pictures_are_made_larger_by_a_factor_or_to_a_size(client, values, size):
    given = {"image": sent(Image.new("RGB", (40, 20))), "upscaler_1": "Lanczos", **values}
    answer = client.post("/sdapi/v1/extra-single-image", json=given).json()
    assert opened(answer["image"]).size == size


def test_a_picture_is_not_made_larger_than_pictures_may_be(client, monkeypatch):
    monkeypatch.setenv("LDM_MAX_PIXELS", "10000")
    given = {"image": sent(Image.new("L", (90, 9))), "upscaler_1": "Lanczos"}
    for more in (
        {"upscaling_resize": 4},
        {"upscaling_resize": 17},
        {"resize_mode": 1, "upscaling_resize_w": 101, "upscaling_resize_h": 100},
        {"gfpgan_visibility": 0.5},
        {"upscaler_1": "ESRGAN_4x"},
    ):
        answer = client.post("/sdapi/v1/extra-single-image", json={**given, **more})
        assert answer.status_code == 422, answer.text
    given |= {"upscaling_resize": 3}
    assert client.post("/sdapi/v1/extra-single-image", json=given).status_code == 200


@pytest.mark.parametrize("path", ["extra-single-image", "png-info"])
def test_a_key_enlarges_one_picture_at_a_time(client, monkeypatch, path):
    begun, gate = threading.Event(), threading.Event()

    def slow(*_):
        begun.set()
        assert gate.wait(20)
        return ("", "") if path == "extra-single-image" else {}

    monkeypatch.setattr(routes, "upscaled", slow)
    monkeypatch.setattr(routes, "read_info", slow)
    given = {"image": "x"}
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, f"/sdapi/v1/{path}", json=given)
        try:
            assert begun.wait(20)
            second = client.post("/sdapi/v1/png-info", json=given)
            assert second.status_code == 429 and "retry-after" in second.headers
        finally:
            gate.set()
        assert first.result(20).status_code == 200
    assert client.post(f"/sdapi/v1/{path}", json=given).status_code == 200


def test_a_request_of_text_waits_for_no_readers(client):
    readers = client.app.state.holding._readers
    for _ in range(READERS):
        client.portal.call(readers.acquire)
    given = {"width": 64, "height": 64, "steps": 1, "prompt": "x"}
    asked_for = (
        ("/sdapi/v1/txt2img", given),
        ("/v1/images/generations", {"prompt": "x", "steps": 1}),
        ("/sdapi/v1/png-info", {"image": sent(Image.new("RGB", (8, 8)))}),
    )
    try:
        for path, values in asked_for:
            with ThreadPoolExecutor(1) as pool:
                answer = pool.submit(client.post, path, json=values)
                wait([answer], 10)
                still = not answer.done()
                if still:
                    client.portal.call(readers.release)
                assert not still and answer.result().status_code == 200
    finally:
        for _ in range(READERS):
            client.portal.call(readers.release)
