"""The tab that enlarges: what a file says, and how transparent it is, comes along."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import nn
from upscaler_files import write_nearest

from apps.studio.pictures import file_of
from apps.studio.tabs.enlarge import Enlarging, TabSettings, Tiled, opacity_of, seed_in
from ldm.errors import UserError
from ldm.images.embed import DIGITAL_SOURCE_TYPE
from ldm.images.io import encode_picture
from ldm.safety.watermark import TEXT, read_watermark
from ldm.upscalers.upscaler import kept_upscaler

RECIPE = "a cat\nSteps: 9, Sampler: DDIM, CFG scale: 3, Seed: 41, Size: 24x16"
ALPHA = np.repeat(np.arange(24, dtype=np.uint8)[None] * 10, 16, axis=0)
PIXELS = np.random.default_rng(0).integers(0, 256, (16, 24, 4), np.uint8)
PIXELS[..., 3] = ALPHA


@pytest.fixture
def file(tmp_path):
    """A transparent picture with a recipe, ComfyUI's graph, EXIF data and a resolution."""
    path = tmp_path / "small.png"
    said = PngInfo()
    said.add_text("parameters", RECIPE)
    said.add_text("workflow", '{"nodes": []}')
    exif = Image.Exif()
    exif[0x013B] = "Ada"
    exif[0x0112] = 6  # lies on its side
    Image.fromarray(PIXELS).save(path, pnginfo=said, exif=exif, dpi=(300, 300))
    return path


@pytest.fixture
def settings(tmp_path):
    return TabSettings(prompt="", factor=2.0, outdir=str(tmp_path / "out"), seed=0, n_samples=1)


@pytest.fixture(params=["lanczos", "network"])
def network(request, tmp_path):
    return write_nearest(tmp_path / "nearest.pth") if request.param == "network" else None


def enlarged(queue, path, settings, network=None):
    read = lambda: Enlarging(file_of({"path": str(path)}), settings, network)  # noqa: E731
    *_, last = queue.draw("me", read)
    (saved,) = last.pictures
    return saved, Image.open(saved.path), last


def test_recipe_texts_and_exif_data_come_along(queue, file, settings, network):
    saved, image, _ = enlarged(queue, file, settings, network)
    name = "nearest" if network else "Lanczos"
    assert saved.parameters == image.info["parameters"]
    assert saved.parameters.startswith(RECIPE.partition("\n")[0])
    assert f"Postprocess upscale by: 2, Postprocess upscaler: {name}" in saved.parameters
    assert saved.seed == 41
    assert image.info["workflow"] == '{"nodes": []}'
    assert DIGITAL_SOURCE_TYPE in image.info["XML:com.adobe.xmp"]
    assert image.getexif()[0x013B] == "Ada" and 0x0112 not in image.getexif()
    assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_transparency_is_enlarged_and_a_picture_that_lay_on_its_side_stands(
    queue, file, settings, network
):
    _, image, _ = enlarged(queue, file, settings, network)
    assert (image.mode, image.size) == ("RGBA", (32, 48))
    own = Image.fromarray(ALPHA).transpose(Image.Transpose.ROTATE_270)
    expected = np.asarray(own.resize((32, 48), Image.Resampling.LANCZOS), np.int16)
    assert np.abs(np.asarray(image)[..., 3] - expected).max() <= 1


def test_a_photograph_stays_without_a_mark_and_what_its_depth_loses_is_said(
    queue, tmp_path, settings
):
    deep = tmp_path / "deep.png"
    Image.fromarray(np.full((16, 24), 40_000, np.uint16)).save(deep)
    saved, image, last = enlarged(queue, deep, settings)
    assert image.mode == "RGB" and saved.parameters == "" and saved.seed == 0
    assert "XML:com.adobe.xmp" not in image.info
    assert ["beyond 8 bits is dropped" in each.text for each in last.notices] == [True]
    assert image.getpixel((3, 3)) == (155, 155, 155)


def test_a_picture_that_the_model_draws_anew_is_as_transparent_as_the_small_one(
    queue, settings, tmp_path
):
    own = Image.fromarray(PIXELS)
    settings = TabSettings(
        **{"prompt": "a", "factor": 2.0, "seed": 1, "n_samples": 1, "ddim_steps": 2},
        outdir=str(tmp_path),
    )
    for image, mode in ((own, "RGBA"), (own.convert("RGB"), "RGB")):
        job = Tiled(settings, "en", image.convert("RGB"), opacity=opacity_of(image))
        *_, last = queue.draw("me", lambda job=job: job)
        drawn = Image.open(last.pictures[0].path)
        assert (drawn.mode, drawn.size) == (mode, (48, 32))
        if mode == "RGBA":
            alpha = own.getchannel("A").resize((48, 32), Image.Resampling.LANCZOS)
            assert np.array_equal(np.asarray(drawn)[..., 3], np.asarray(alpha))


def test_a_missing_picture_and_odd_seeds_of_strangers_are_met():
    with pytest.raises(UserError, match="there is no picture"):
        file_of(None)
    for text in ("", "-1", "x", "²", "9" * 30):
        assert seed_in(f"a\nSteps: 1, Sampler: DDIM, CFG scale: 3, Seed: {text}") == 0
    assert seed_in(None) == 0


def test_a_watermark_that_enlarging_undoes_is_put_back(queue, settings, tmp_path):
    path = tmp_path / "drawn.png"
    smooth = Image.radial_gradient("L").resize((160, 160)).convert("RGB")
    path.write_bytes(encode_picture(np.asarray(smooth), "png", RECIPE))
    settings = replace(settings, watermark="reference")
    _, image, _ = enlarged(queue, path, settings)
    assert image.size == (320, 320)
    assert read_watermark(np.asarray(image)) == TEXT


def test_who_cancels_is_heard_within_a_tile(queue, file, settings, tmp_path):
    network, computed = write_nearest(tmp_path / "nearest.pth"), []
    for each in kept_upscaler(network).network.model.modules():
        if isinstance(each, nn.Conv2d):
            each.register_forward_hook(lambda *_: (computed.append(1), queue.stop("me"), None)[2])
    job = Enlarging(file_of({"path": str(file)}), settings, network)
    *_, last = queue.draw("me", lambda: job)
    assert last.status.startswith("Stopped after") and not last.pictures
    assert len(computed) == 1
