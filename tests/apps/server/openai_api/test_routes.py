"""``/v1/images`` asked by hand: OpenAI's fields, forms and errors."""

from __future__ import annotations

import base64
import hashlib
import io

import httpx
import numpy as np
import pytest
from flat_server import asked, colour_of, flat_service, opened
from PIL import Image

from apps.server.keys import Keys
from apps.server.openai_api.wishes import EDIT_STRENGTH, NOT_DONE, VARIATION_STRENGTH

GENERATIONS, EDITS, VARIATIONS = (
    f"/v1/images/{name}" for name in ("generations", "edits", "variations")
)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def plain(size: tuple[int, int] = (64, 64)) -> bytes:
    return png(Image.new("RGB", size, (9, 8, 7)))


def holed(size: tuple[int, int] = (64, 64)) -> bytes:
    image = Image.new("RGBA", size, (9, 8, 7, 255))
    image.paste((0, 0, 0, 0), (0, 0, size[0] // 2, size[1]))
    return png(image)


def picture_of(entry: dict) -> Image.Image:
    return opened(entry["b64_json"])


def error_of(answer, status: int = 400) -> dict:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert "\n" not in error["message"]
    return error


def test_each_picture_has_its_own_seed_and_tells_it(client):
    answer = client.post(GENERATIONS, json={"prompt": "a cat", "n": 3, "size": "80x64", "seed": 5})
    told = answer.json()
    assert told["size"] == "80x64" and told["output_format"] == "png" and told["created"] > 0
    assert [entry["seed"] for entry in told["data"]] == [5, 6, 7]
    for entry in told["data"]:
        image = picture_of(entry)
        assert image.size == (80, 64) and image.getpixel((0, 0)) == colour_of(entry["seed"])


def test_prompts_are_text_and_the_size_and_scale_are_the_models_own(client, recorder):
    client.post(GENERATIONS, json={"prompt": "a (red) cat"})
    settings = recorder.drawn[-1].settings
    assert settings.prompt == "a (red) cat" and settings.prompt_syntax == "compvis"
    assert (
        recorder.drawn[-1].size == (64, 64) and settings.scale == recorder.choice.sampling["scale"]
    )
    ours = {"negative_prompt": "dog", "steps": 3, "guidance_scale": 2.5}
    client.post(GENERATIONS, json={"prompt": "x", "size": "auto", **ours})
    settings = recorder.drawn[-1].settings
    assert (settings.negative_prompt, settings.ddim_steps, settings.scale) == ("dog", 3, 2.5)


@pytest.mark.parametrize(("name", "kind"), [("png", "PNG"), ("jpeg", "JPEG")])
def test_pictures_come_as_base64_or_as_data_addresses(client, name, kind):
    given = {"prompt": "x", "output_format": name, "response_format": "url"}
    entry = client.post(GENERATIONS, json=given).json()["data"][0]
    head, _, text = entry["url"].partition(",")
    assert head == f"data:image/{name};base64" and "b64_json" not in entry
    assert Image.open(io.BytesIO(base64.b64decode(text))).format == kind


@pytest.mark.parametrize("name", NOT_DONE)
def test_what_is_not_done_is_refused_by_its_name_and_taken_at_its_neutral_value(client, name):
    given = {"prompt": "x", "steps": 1}
    error = error_of(client.post(GENERATIONS, json={**given, name: "please"}))
    assert error["param"] == name and error["type"] == "invalid_request_error"
    for value in NOT_DONE[name][0]:
        assert client.post(GENERATIONS, json={**given, name: value}).status_code == 200
        form = {**given, name: str(value)}
        answer = client.post(EDITS, data=form, files={"image": plain()})
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("values", "param"),
    [
        ({}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": "x" * 2001}, "prompt"),
        ({"n": 5}, "n"),
        ({"n": "2"}, "n"),
        ({"size": "64"}, "size"),
        ({"size": "64x0"}, "size"),
        ({"size": "70x64"}, "size"),
        ({"size": "64x144"}, "size"),
        ({"response_format": "png"}, "response_format"),
        ({"output_format": "webp"}, "output_format"),
        ({"promt": "x"}, "promt"),
        ({"steps": 51}, "steps"),
        ({"strength": 0.5}, "strength"),
    ],
)
def test_what_is_wrong_is_told_with_its_field(client, values, param):
    given = values if param == "prompt" else {"prompt": "x", **values}
    assert error_of(client.post(GENERATIONS, json=given))["param"] == param


def test_another_model_than_the_one_that_is_served_is_not_found(client):
    error = error_of(client.post(GENERATIONS, json={"prompt": "x", "model": "dall-e-3"}), 404)
    assert error["code"] == "model_not_found" and "demo" in error["message"]
    assert client.post(GENERATIONS, json={"prompt": "x", "model": "demo"}).status_code == 200
    assert client.get("/v1/models").json()["data"][0]["id"] == "demo"
    assert client.get("/v1/models/demo").json()["id"] == "demo"
    assert error_of(client.get("/v1/models/gpt"), 404)["code"] == "model_not_found"


@pytest.mark.parametrize("masked", [True, False])
def test_what_is_transparent_is_painted_anew_and_the_rest_stays(client, recorder, masked):
    files = {"image": plain(), "mask": holed()} if masked else {"image": holed()}
    answer = client.post(EDITS, data={"prompt": "x", "seed": "5"}, files=files)
    image = picture_of(answer.json()["data"][0])
    assert [image.getpixel((5, 30)), image.getpixel((60, 30))] == [colour_of(5), (9, 8, 7)]
    assert recorder.drawn[-1].settings.strength == 1.0


def test_an_edit_of_a_whole_picture_and_a_variation_have_their_own_strengths(client, recorder):
    client.post(EDITS, data={"prompt": "a dog"}, files={"image[]": plain()})
    settings = recorder.drawn[-1].settings
    assert (settings.strength, settings.prompt) == (EDIT_STRENGTH, "a dog")
    client.post(EDITS, data={"prompt": "a dog", "strength": "0.2"}, files={"image": plain()})
    assert recorder.drawn[-1].settings.strength == 0.2
    answer = client.post(VARIATIONS, data={"n": "2"}, files={"image": plain((80, 96))})
    settings = recorder.drawn[-1].settings
    assert len(answer.json()["data"]) == 2 and answer.json()["size"] == "80x96"
    assert (settings.strength, settings.prompt, settings.scale) == (VARIATION_STRENGTH, "", 1.0)


def test_an_edits_size_is_the_named_one_or_the_pictures_own(client):
    answer = client.post(EDITS, data={"prompt": "x"}, files={"image": plain((96, 80))})
    assert picture_of(answer.json()["data"][0]).size == (96, 80)
    named = {"prompt": "x", "size": "64x80"}
    files = {"image": plain((96, 120)), "mask": holed((96, 120))}
    image = picture_of(client.post(EDITS, data=named, files=files).json()["data"][0])
    assert image.size == (64, 80)


@pytest.mark.parametrize(
    ("data", "files", "param"),
    [
        ({"prompt": "x"}, {"mask": holed()}, "image"),
        ({"prompt": "x"}, {"image": b"no picture"}, "image"),
        ({"prompt": "x"}, {"image": b""}, "image"),
        ({"prompt": "x"}, {"image": plain(), "mask": plain()}, "mask"),
        ({"prompt": "x"}, {"image": plain(), "mask": b"GIF89a"}, "mask"),
        ({"prompt": "x"}, {"image": plain(), "picture": plain()}, "the file"),
        ({"prompt": "x", "mask": "http://127.0.0.1/"}, {"image": plain()}, "mask"),
        ({"prompt": "x", "image": "file:///etc/passwd"}, {"mask": holed()}, "image"),
        ({"prompt": "x", "n": "zero"}, {"image": plain()}, "n"),
        ({}, {"image": plain()}, "prompt"),
    ],
)
def test_what_is_wrong_with_a_form_is_told_with_its_field(client, data, files, param):
    assert error_of(client.post(EDITS, data=data, files=files))["param"] == param


def test_a_field_or_a_picture_that_is_sent_twice_is_refused(client):
    twice = [("image", ("a.png", plain())), ("image", ("b.png", plain()))]
    assert error_of(client.post(EDITS, data={"prompt": "x"}, files=twice))["param"] == "image"
    form = [("n", (None, "1")), ("n", (None, "2")), ("image", ("a.png", plain()))]
    assert error_of(client.post(VARIATIONS, files=form))["param"] == "n"


@pytest.mark.parametrize("path", [EDITS, VARIATIONS])
def test_a_body_that_is_no_form_is_told_what_is_missing(client, path):
    for given in ({"json": {"prompt": "x"}}, {"content": b"--x"}, {}):
        error_of(client.post(path, **given))
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    error_of(client.post(path, content=b"--x\r\nbroken", headers=headers))


def test_a_form_that_is_cut_off_is_refused_wherever_that_is(client, recorder):
    parts = {"prompt": (None, "x"), "image": ("a.png", plain()), "mask": ("b.png", holed())}
    whole = httpx.Request("POST", "http://x", files=parts)
    body, headers = whole.read(), {"Content-Type": whole.headers["Content-Type"]}
    drawn = len(recorder.drawn)
    for end in range(0, len(body) - 3, 7):
        error_of(client.post(EDITS, content=body[:end], headers=headers))
    assert len(recorder.drawn) == drawn
    assert client.post(EDITS, content=body, headers=headers).status_code == 200


def test_keys_and_full_queues_are_told_as_openai_does():
    keys = Keys({"anna": hashlib.sha256(b"sk-a").hexdigest()})
    service, drawer = flat_service(pictures=100)
    with asked(service, keys) as client:
        error = error_of(client.post(GENERATIONS, json={"prompt": "x"}), 401)
        assert error["code"] == "invalid_api_key"
        anna = {"Authorization": "Bearer sk-a"}
        assert client.get("/v1/models", headers=anna).status_code == 200
        assert client.get("/v1/models").status_code == 401
        service.terms = type(service.terms)(queued=4, queued_of_key=4)
        drawer.gate.clear()
        waiting = [service.submit(service.settings({"n_samples": 4}), "anna") for _ in range(1)]
        while service.waiting:
            pass
        waiting.append(service.submit(service.settings({"n_samples": 4}), "anna"))
        answer = client.post(GENERATIONS, json={"prompt": "x"}, headers=anna)
        assert error_of(answer, 429)["code"] == "rate_limit_exceeded"
        assert int(answer.headers["Retry-After"]) > 0
        drawer.gate.set()
        assert all(ticket.wait(20) for ticket in waiting)
    assert np.all([ticket.snapshot().done == 4 for ticket in waiting])
