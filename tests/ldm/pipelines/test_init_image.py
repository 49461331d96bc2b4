"""The picture that a run starts from: what of its file is not used is said."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from ldm.pipelines.init_image import InitImage, read_init_image
from ldm.settings.generation import Img2ImgSettings


def saved(
    folder: Path, name: str, mode: str = "RGB", pictures: int = 1, opacity: int = 60, **options
) -> str:
    """Save pictures of 32x48 pixels, each with a colour of its own, as one file."""
    shades = [(40 * i, 200, 90) for i in range(1, pictures + 1)]
    first, *more = [Image.new("RGB", (32, 48), shade).convert(mode) for shade in shades]
    if "A" in mode:
        first.putalpha(opacity)
    if more:
        options |= {"save_all": True, "append_images": more}
    first.save(folder / name, **options)
    return str(folder / name)


def said_of(path: str) -> str | None:
    return read_init_image(Img2ImgSettings(init_img=path), None, None).notice


@pytest.mark.parametrize(
    ("name", "mode", "options"),
    [
        ("layer.png", "RGBA", {}),
        ("layer.webp", "RGBA", {}),
        ("layer.tif", "RGBA", {}),
        ("grey.png", "LA", {}),
        ("palette.png", "P", {"transparency": bytes(256)}),
        ("colour-key.png", "RGB", {"transparency": (40, 200, 90)}),
    ],
)
def test_img2img_says_that_transparency_is_not_used(tmp_path, name, mode, options):
    path = saved(tmp_path, name, mode, **options)
    assert "its transparency is dropped" in said_of(path)


@pytest.mark.parametrize(
    ("name", "mode", "options"),
    [
        *((f"layer.{ending}", "RGBA", {}) for ending in ("png", "webp", "tif")),
        ("grey.png", "LA", {}),
        ("palette.png", "P", {"transparency": b"\xff" * 256}),
        ("colour-key.png", "RGB", {"transparency": (1, 2, 3)}),
    ],
)
def test_nothing_is_said_of_a_layer_through_which_nothing_is_seen(tmp_path, name, mode, options):
    path = saved(tmp_path, name, mode, opacity=255, **options)
    assert said_of(path) is None


@pytest.mark.parametrize("channels", [3, 4])
def test_img2img_says_that_colours_of_16_bits_are_read_as_8(tmp_path, channels):
    path = str(tmp_path / "deep.png")
    assert cv2.imwrite(path, np.full((8, 8, channels), 65535, np.uint16))
    assert "what it has beyond 8 bits is dropped, as models draw 8-bit RGB" in said_of(path)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tif"])
def test_img2img_says_that_of_several_pictures_the_first_is_used(tmp_path, name):
    path = saved(tmp_path, name, pictures=3)
    assert f"{path} holds several pictures: the first one is used" in said_of(path)
    assert InitImage.read(path).pixels.getpixel((0, 0))[0] == pytest.approx(40, abs=6)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.bmp", "a.gif", "a.mpo"])
def test_nothing_is_said_of_an_ordinary_picture(tmp_path, name):
    path = saved(tmp_path, name, pictures=2 if name == "a.mpo" else 1)
    assert said_of(path) is None


def test_a_resized_picture_still_says_what_was_not_used(tmp_path):
    picture = InitImage.read(saved(tmp_path, "layer.png", "RGBA"))
    for fitted in (picture.fit(64), picture.pad(64)):
        assert "transparency" in fitted.notice and "32x48" in fitted.notice
