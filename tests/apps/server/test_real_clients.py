"""The packages ``webuiapi`` and ``openai`` draw on the server as they do elsewhere."""

from __future__ import annotations

import hashlib
import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from flat_server import colour_of, flat_service, opened, serving
from PIL import Image, ImageDraw

from apps.server.application import make_application
from apps.server.drawing import PipelineDrawer
from apps.server.keys import Keys
from apps.server.service import Service
from ldm.pipelines.models import DEMO_CHECKPOINT, find_model
from ldm.pipelines.pipeline import Pipeline
from ldm.settings.generation import Txt2ImgSettings
from optimizedSD.web.limits import Limits

KEY = "sk-of-anna"
KEYS = Keys({"anna": hashlib.sha256(KEY.encode()).hexdigest()})


@pytest.fixture(scope="module")
def drawer():
    """What draws on the server of ``port``; see there."""
    return flat_service()


@pytest.fixture(scope="module")
def port(drawer):
    with serving(make_application(drawer[0], KEYS)) as port:
        yield port


@pytest.fixture
def webui(port):
    package = pytest.importorskip("webuiapi")
    return package.WebUIApi(port=port, steps=4, username="anybody", password=KEY)


@pytest.fixture
def openai_client(port):
    package = pytest.importorskip("openai")
    address = f"http://127.0.0.1:{port}/v1"
    with package.OpenAI(base_url=address, api_key=KEY, max_retries=0) as client:
        yield client


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_webuiapi_draws_with_all_that_it_sends_by_default(webui):
    result = webui.txt2img(prompt="a cat", seed=7, batch_size=2, width=64, height=64)
    assert [image.getpixel((0, 0)) for image in result.images] == [colour_of(7), colour_of(8)]
    assert result.info["all_seeds"] == [7, 8] and result.info["sampler_name"] == "Euler a"
    assert result.parameters["prompt"] == "a cat"


def test_webuiapi_repaints_a_masked_part_of_a_picture(webui):
    picture, mask = Image.new("RGB", (120, 90), (9, 8, 7)), Image.new("L", (120, 90))
    ImageDraw.Draw(mask).rectangle((30, 30, 59, 59), fill=255)
    result = webui.img2img([picture], mask_image=mask, seed=3, width=64, height=64)
    image = result.image
    assert image.size == picture.size
    assert image.getpixel((45, 45)) == colour_of(3) and image.getpixel((100, 80)) == (9, 8, 7)
    assert result.info["extra_generation_params"]["Mask blur"] == "4"
    result = webui.img2img([picture], denoising_strength=0.5, seed=4, width=64, height=80)
    assert result.image.size == (64, 80) and result.info["denoising_strength"] == 0.5


def test_webuiapi_finds_what_it_asks_for(webui):
    options = webui.get_options()
    webui.set_options({"sd_model_checkpoint": options["sd_model_checkpoint"]})
    assert webui.util_get_model_names() == ["demo [d1e63d01ac]"]
    assert webui.util_get_current_model() == options["sd_model_checkpoint"]
    webui.util_set_model("demo")
    webui.util_wait_for_ready()
    assert "Euler a" in webui.util_get_sampler_names()
    assert "karras" in webui.util_get_scheduler_names()
    assert webui.get_scripts() == {"txt2img": [], "img2img": []}
    for ask in ("get_loras", "get_embeddings", "get_upscalers", "get_sd_vae", "get_hypernetworks"):
        assert isinstance(getattr(webui, ask)(), (list, dict))
    assert webui.get_progress()["progress"] == 0.0 and webui.interrupt() == {}


def test_webuiapi_reads_recipes_and_makes_pictures_larger(webui):
    image = webui.txt2img(prompt="a cat", width=64, height=64).image
    assert webui.png_info(image).info.startswith("a cat\nSteps: 4")
    twice = webui.txt2img(prompt="a cat", width=64, height=64, enable_hr=True, hr_scale=1.5)
    assert twice.image.size == (96, 96)
    result = webui.extra_single_image(image, upscaler_1="Lanczos", upscaling_resize=2)
    assert result.image.size == (128, 128)


def test_webuiapi_is_told_what_is_not_done(webui):
    package = pytest.importorskip("webuiapi")
    unit = package.ControlNetUnit(image=Image.new("RGB", (8, 8)))
    # What it is given by default it keeps: its own dictionary is passed on to the next call.
    for given in (
        {"enable_hr": True, "hr_resize_x": 9, "width": 64, "height": 64},
        {"controlnet_units": [unit], "alwayson_scripts": {}},
    ):
        with pytest.raises(RuntimeError, match="is not supported") as caught:
            webui.txt2img(**given)
        assert caught.value.args[0] == 422


def test_openai_draws_and_knows_the_model(openai_client):
    given = {"size": "64x64", "extra_body": {"seed": 5, "steps": 3}}
    result = openai_client.images.generate(prompt="a cat", model="demo", n=2, **given)
    pictures = [opened(each.b64_json) for each in result.data]
    assert [each.getpixel((0, 0)) for each in pictures] == [colour_of(5), colour_of(6)]
    assert [model.id for model in openai_client.models.list()] == ["demo"]


def test_openai_edits_what_is_transparent_and_makes_variations(openai_client):
    holed = Image.new("RGBA", (64, 64), (9, 8, 7, 255))
    holed.paste((0, 0, 0, 0), (0, 0, 32, 64))
    picture = ("room.png", png(Image.new("RGB", (64, 64), (9, 8, 7))))
    edited = openai_client.images.edit(
        image=picture, mask=("mask.png", png(holed)), prompt="x", extra_body={"seed": 5}
    )
    image = opened(edited.data[0].b64_json)
    assert [image.getpixel((5, 5)), image.getpixel((60, 5))] == [colour_of(5), (9, 8, 7)]
    openai_client.images.edit(image=[picture], prompt="x")
    with pytest.warns(DeprecationWarning):
        varied = openai_client.images.create_variation(image=picture, n=2, response_format="url")
    assert all(each.url.startswith("data:image/png;base64,") for each in varied.data)


def test_openai_raises_its_own_errors(openai_client):
    package = pytest.importorskip("openai")
    draw = openai_client.images.generate
    with pytest.raises(package.BadRequestError) as caught:
        draw(prompt="x", quality="hd")
    assert caught.value.param == "quality"
    with pytest.raises(package.NotFoundError) as caught:
        draw(prompt="x", model="dall-e-3")
    assert caught.value.code == "model_not_found"
    with pytest.raises(package.AuthenticationError):
        openai_client.with_options(api_key="no").images.generate(prompt="x")


def test_many_at_once_each_get_their_own(webui, openai_client):
    def by_webui(seed: int) -> Image.Image:
        result = webui.txt2img(prompt=f"cat {seed}", seed=seed, width=64, height=64)
        assert result.info["prompt"] == f"cat {seed}"
        return result.image

    def by_openai(seed: int) -> Image.Image:
        body = {"seed": seed, "steps": 4}
        told = openai_client.images.generate(prompt=f"cat {seed}", extra_body=body)
        return opened(told.data[0].b64_json)

    seeds = range(100, 124)
    with ThreadPoolExecutor(8) as pool:
        draws = [pool.submit((by_webui, by_openai)[seed % 2], seed) for seed in seeds]
        pictures = [draw.result() for draw in draws]
    for seed, picture in zip(seeds, pictures, strict=True):
        assert picture.getpixel((9, 9)) == colour_of(seed)
        assert picture.info["parameters"].startswith(f"cat {seed}\n")


@pytest.fixture(scope="module")
def pipeline():
    return Pipeline.load(find_model(Txt2ImgSettings(ckpt=DEMO_CHECKPOINT)), device="cpu")


def test_both_get_from_the_bundled_model_what_the_pipeline_draws_alone(pipeline):
    webuiapi, openai = pytest.importorskip("webuiapi"), pytest.importorskip("openai")
    service = Service(lambda: PipelineDrawer(pipeline), Limits(side=128))
    with serving(make_application(service)) as port:
        theirs = {"steps": 3, "width": 64, "height": 64, "cfg_scale": 3, "seed": 8}
        api = webuiapi.WebUIApi(port=port, sampler="DPM++ 2M")
        first = api.txt2img(prompt="a (red:1.2) apple", **theirs).image
        with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="x") as client:
            body = {"seed": 8, "steps": 3}
            told = client.images.generate(prompt="a red apple", size="64x64", extra_body=body)
        second = opened(told.data[0].b64_json)
    own = {"ddim_steps": 3, "scale": 3.0, "seed": 8, "n_iter": 1, "n_samples": 1}
    a1111 = {"prompt_syntax": "a1111", "sampler": "dpmpp_2m", "spacing": "karras"}
    for image, more in (
        (first, {"prompt": "a (red:1.2) apple", **a1111}),
        (second, {"prompt": "a red apple", "sampler": "dpmpp_2m"}),  # as suits the model
    ):
        settings = Txt2ImgSettings(seed_mode="per-image", **own, **more)
        alone = next(pipeline.generate(settings))
        np.testing.assert_array_equal(np.asarray(image), alone.pixels)
        assert image.info["parameters"] == alone.parameters
