"""AUTOMATIC1111's second pass, and upscalers by name: of networks, those on the server's shelf."""

from __future__ import annotations

import numpy as np
import pytest
from flat_server import asked, flat_service, opened, sent
from PIL import Image
from upscaler_files import write_nearest

from ldm.pipelines import adapter_files

SMALL = {"prompt": "a cat", "width": 64, "height": 64, "steps": 4}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    write_nearest(folder / "models/upscalers/nearest.pth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adapter_files, "ROOT", folder)
        service, drawer = flat_service()
        with asked(service) as client:
            yield client, drawer, folder


def draw(served, **given):
    client, drawer, _ = served
    answer = client.post("/sdapi/v1/txt2img", json={**SMALL, **given})
    return answer, drawer.drawn[-1].settings if answer.status_code == 200 else None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (2.0, None, "latent", 0.75)),
        (
            {"hr_scale": 1.5, "hr_second_pass_steps": 7, "denoising_strength": 0.4},
            (1.5, 7, "latent", 0.4),
        ),
        ({"hr_upscaler": "Latent (nearest-exact)"}, (2.0, None, "latent-nearest-exact", 0.75)),
        ({"hr_upscaler": "Lanczos"}, (2.0, None, "lanczos", 0.75)),
        ({"hr_upscaler": "nearest", "hr_resize_x": 0}, (2.0, None, "nearest", 0.75)),
    ],
)
def test_a_second_pass_is_asked_for_by_its_fields(served, given, expected):
    _, settings = draw(served, enable_hr=True, **given)
    names = ("hires", "hires_steps", "hires_upscaler", "hires_strength")
    assert tuple(getattr(settings, name) for name in names) == expected


def test_without_it_its_fields_have_no_effect(served):
    _, settings = draw(served, hr_scale=3, hr_upscaler="nobody", denoising_strength=0.1)
    assert settings.hires is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"hr_resize_x": 512}, "hr_resize_x 512"),
        ({"hr_sampler_name": "Euler"}, "hr_sampler_name"),
        ({"hr_scale": 0.5}, "hr_scale 0.5"),
        ({"hr_scale": 16}, "1024x1024"),
        ({"hr_upscaler": "nobody"}, "nobody"),
        ({"hr_second_pass_steps": 10**6}, "hr_second_pass_steps"),
    ],
)
def test_what_of_it_is_not_done_is_refused_by_name(served, given, words):
    answer, _ = draw(served, enable_hr=True, **given)
    assert answer.status_code == 422 and words in answer.json()["error"]


def test_networks_are_named_by_their_shelf_and_never_by_a_path(served):
    client, _, folder = served
    outside = write_nearest(folder / "outside.pth")
    for name in (str(outside), "../outside", str(folder / "models/upscalers/nearest.pth")):
        answer, _ = draw(served, enable_hr=True, hr_upscaler=name[:100])
        assert answer.status_code == 422 and str(folder) not in answer.json()["error"][120:]
        own = {"prompt": "a", "hires": 2.0, "hires_upscaler": name}
        assert client.post("/v1/jobs", json=own).status_code in (400, 404, 422)


def test_upscalers_are_listed_and_make_pictures_larger(served):
    client, _, _ = served
    names = [each["name"] for each in client.get("/sdapi/v1/upscalers").json()]
    assert names == ["None", "Lanczos", "Nearest", "nearest"]
    modes = [each["name"] for each in client.get("/sdapi/v1/latent-upscale-modes").json()]
    assert modes[0] == "Latent" and "Latent (bicubic antialiased)" in modes
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    given = {"image": sent(Image.fromarray(pixels)), "upscaler_1": "nearest"}
    answer = client.post("/sdapi/v1/extra-single-image", json=given).json()
    made = np.asarray(opened(answer["image"]))
    assert np.array_equal(made, pixels.repeat(2, 0).repeat(2, 1))
    for crop, size in ((True, (50, 50)), (False, (50, 33))):
        given |= {"resize_mode": 1, "upscaling_resize_w": 50, "upscaling_resize_h": 50}
        answer = client.post("/sdapi/v1/extra-single-image", json={**given, "upscaling_crop": crop})
        assert opened(answer.json()["image"]).size == size


def test_a_file_that_is_no_network_is_one_line(served):
    client, _, folder = served
    broken = folder / "models/upscalers/broken.pth"
    broken.write_bytes(b"<html>")
    given = {"image": sent(Image.new("RGB", (8, 8))), "upscaler_1": "broken"}
    answer = client.post("/sdapi/v1/extra-single-image", json=given)
    broken.unlink()
    assert answer.status_code == 422 and "is a web page" in answer.json()["error"]
    assert str(folder) not in answer.json()["error"]
