"""``/sdapi/v1`` asked by hand: what is asked for is drawn, and what is not done is named."""

from __future__ import annotations

import base64
import hashlib
import json
import threading

import numpy as np
import pytest
from flat_server import asked, colour_of, flat_service, opened, sent
from PIL import Image, ImageDraw

from apps.server.keys import Keys
from apps.server.sdapi import fields as tables
from ldm.images.metadata import parse_parameters

SMALL = {"width": 64, "height": 64, "steps": 4}


def draw(client, path: str = "txt2img", **values) -> dict:
    answer = client.post(f"/sdapi/v1/{path}", json={**SMALL, **values})
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(client, path: str = "txt2img", **values) -> str:
    answer = client.post(f"/sdapi/v1/{path}", json={**SMALL, **values})
    assert answer.status_code == 422, answer.text
    return answer.json()["error"]


def test_each_picture_has_its_own_seed_in_its_file_and_in_the_answer(client):
    told = draw(client, prompt="a cat", seed=7, batch_size=2, n_iter=2)
    info = json.loads(told["info"])
    assert info["all_seeds"] == [7, 8, 9, 10]
    for number, text in enumerate(told["images"]):
        image = opened(text)
        assert image.getpixel((5, 5)) == colour_of(7 + number)
        prompt, _, entries = parse_parameters(image.info["parameters"])
        assert prompt == "a cat" and entries["Seed"] == str(7 + number)
        assert info["infotexts"][number] == image.info["parameters"]


def test_prompts_that_were_drawn_are_told_for_each_picture(tmp_path):
    (tmp_path / "pets.txt").write_text("cat\ndog\nfox\n")
    service, _ = flat_service()
    service.fixed["wildcards"] = str(tmp_path)
    with asked(service) as client:
        told = draw(client, prompt="a __pets__", negative_prompt="{x|y}", seed=7, batch_size=4)
    info = json.loads(told["info"])
    recipes = [parse_parameters(text) for text in info["infotexts"]]
    assert info["all_prompts"] == [prompt for prompt, _, _ in recipes]
    assert info["all_negative_prompts"] == [negative for _, negative, _ in recipes]
    assert len(set(info["all_prompts"])) > 1 and info["prompt"] == info["all_prompts"][0]
    assert {entries["Template"] for _, _, entries in recipes} == {"a __pets__"}


def test_a_requests_values_are_what_is_drawn(client, recorder):
    draw(
        client,
        prompt="a (red:1.2) cat",
        negative_prompt="dog",
        steps=9,
        cfg_scale=3.5,
        width=80,
        height=96,
        sampler_name="DPM++ 2M",
        scheduler="Karras",
        override_settings={"CLIP_stop_at_last_layers": 2, "emphasis": "No norm"},
    )
    settings = recorder.drawn[-1].settings
    found = (settings.prompt, settings.negative_prompt, settings.ddim_steps, settings.scale)
    assert found == ("a (red:1.2) cat", "dog", 9, 3.5)
    assert (settings.W, settings.H) == (80, 96)
    assert (settings.sampler, settings.spacing) == ("dpmpp_2m", "karras")
    assert (settings.clip_skip, settings.emphasis) == (2, "no-norm")
    assert settings.prompt_syntax == "a1111"


def test_a_size_that_is_not_named_is_the_models_own(client, recorder):
    answer = client.post("/sdapi/v1/txt2img", json={"prompt": "cat", "steps": 1})
    assert answer.status_code == 200
    assert recorder.drawn[-1].size == (64, 64)


def test_requests_without_a_seed_get_different_ones_which_are_told(client):
    seeds = [json.loads(draw(client, seed=-1)["info"])["seed"] for _ in range(3)]
    assert len(set(seeds)) == 3


def neutral_values() -> dict:
    every = {**tables.NOT_DONE, **tables.TEXT_NOT_DONE, **tables.IMAGE_NOT_DONE}
    return {name: allowed for name, (allowed, _) in every.items()}


@pytest.mark.parametrize("name", neutral_values())
def test_what_is_not_done_is_refused_by_its_name_and_taken_at_its_neutral_value(client, name):
    path = "img2img" if name in tables.IMAGE_NOT_DONE else "txt2img"
    given = {"init_images": [sent(Image.new("RGB", (64, 64)))]} if path == "img2img" else {}
    assert refused(client, path, **given, **{name: "please"}).startswith(f"{name} 'please'")
    for value in neutral_values()[name]:
        if value != float("inf"):  # which JSON does not have
            draw(client, path, **given, **{name: value})


def test_extensions_are_refused_by_their_names_unless_they_have_nothing_to_do(client):
    idle = {"ControlNet": {"args": []}, "ADetailer": {"args": [False]}}
    draw(client, alwayson_scripts=idle)
    busy = {"ControlNet": {"args": [{"enabled": True, "image": "x"}]}}
    assert "ControlNet" in refused(client, alwayson_scripts={**idle, **busy})
    for junk in ([], "x", {"a": 1}, {"a": {"args": "x"}}):
        assert "alwayson_scripts" in refused(client, alwayson_scripts=junk)


def test_what_many_clients_send_without_need_is_ignored_and_said_so(client):
    given = {
        "save_images": True,
        "do_not_save_grid": False,
        "eta": 1.0,
        "hr_additional_modules": [],
    }
    told = json.loads(draw(client, sampler_name="Euler", **given)["info"])
    assert [each.partition(":")[0] for each in told["ignored"]] == ["eta", "save_images"]
    assert json.loads(draw(client)["info"])["ignored"] == []


def test_what_has_no_effect_may_be_anything_and_is_sent_back_where_json_can_say_it(client):
    odd = b'"comments": {"a": "\\ud800"}, "subseed": 1e999, "force_task_id": [[["x"]]]'
    body = b'{"prompt": "a", "steps": 1, "width": 64, "height": 64, ' + odd + b"}"
    headers = {"Content-Type": "application/json"}
    answer = client.post("/sdapi/v1/txt2img", content=body, headers=headers)
    assert answer.status_code == 200
    echo = json.loads(answer.content)["parameters"]
    assert echo["subseed"] is None and echo["comments"] == {"a": "\ud800"}


def test_what_has_no_effect_is_not_sent_back_where_it_is_long(client):
    long = "x" * 9000
    told = draw(client, comments=long, force_task_id="x" * 8000, hr_prompt=[long])
    echo = told["parameters"]
    assert echo["comments"] is None and echo["hr_prompt"] is None
    assert echo["force_task_id"] == "x" * 8000


def test_an_unknown_field_is_refused_with_the_nearest(client):
    assert "(the nearest is cfg_scale)" in refused(client, cfg_scal=3)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"steps": 51}, "steps 51"),
        ({"width": 144}, "width 144"),
        ({"width": 70}, "64 or 80"),
        ({"batch_size": 5}, "batch_size 5"),
        ({"batch_size": 3, "n_iter": 2}, "at most 4 pictures"),
        ({"cfg_scale": -1}, "cfg_scale"),
        ({"seed": 2**64}, "seed"),
        ({"override_settings": {"sd_model_checkpoint": "other"}}, "demo"),
        ({"override_settings": {"CLIP_stop_at_last": 2}}, "CLIP_stop_at_last_layers"),
        (
            {
                "override_settings": {"emphasis": "None"},
                "override_settings_restore_afterwards": False,
            },
            "override_settings_restore_afterwards",
        ),
        ({"prompt": "a <lora:../../secret:1>"}, "secret"),
    ],
)
def test_what_is_more_than_the_limits_or_not_there_is_refused_in_a_line(client, values, said):
    text = refused(client, **values)
    assert said in text and "\n" not in text


def test_options_belong_to_a_key_and_an_unknown_one_changes_nothing():
    digests = {"anna": "sk-a", "ben": "sk-b"}
    keys = Keys({name: hashlib.sha256(key.encode()).hexdigest() for name, key in digests.items()})
    service, _ = flat_service()
    anna, ben = ({"Authorization": f"Bearer {key}"} for key in digests.values())
    with asked(service, keys) as client:
        path = "/sdapi/v1/options"
        changed = {"CLIP_stop_at_last_layers": 2, "samples_format": "jpg"}
        assert client.post(path, json=changed, headers=anna).status_code == 200
        mixed = {"CLIP_stop_at_last_layers": 3, "unheard": 1}
        assert client.post(path, json=mixed, headers=anna).status_code == 422
        assert client.get(path, headers=anna).json()["CLIP_stop_at_last_layers"] == 2
        assert client.get(path, headers=ben).json()["CLIP_stop_at_last_layers"] == 1
        title = client.get(path, headers=ben).json()["sd_model_checkpoint"]
        for name in (title, "demo"):
            answer = client.post(path, json={"sd_model_checkpoint": name}, headers=ben)
            assert answer.status_code == 200
        told = client.post("/sdapi/v1/txt2img", json=SMALL, headers=anna).json()
        assert opened(told["images"][0]).format == "JPEG"
        basic = base64.b64encode(b"user:sk-b").decode()
        answer = client.get(path, headers={"Authorization": f"Basic {basic}"})
        assert answer.status_code == 200
        for headers in ({}, {"Authorization": "Bearer no"}):
            for listed in ("options", "samplers", "progress", "loras"):
                answer = client.get(f"/sdapi/v1/{listed}", headers=headers)
                assert answer.status_code == 401


def test_a_picture_to_start_from_is_resized_as_asked_and_white_where_it_is_clear(client, recorder):
    image = Image.new("RGBA", (40, 20), (0, 255, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 20, 20))
    draw(client, "img2img", init_images=[sent(image)], denoising_strength=0.4)
    request = recorder.drawn[-1]
    assert request.settings.strength == 0.4 and request.size == (64, 64)
    pixels = np.asarray(request.image.pixels)
    assert tuple(pixels[32, 5]) == (255, 255, 255) and tuple(pixels[32, 60]) == (0, 255, 0)


def half_marked(size: tuple[int, int]) -> Image.Image:
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).rectangle((0, 0, size[0] // 2 - 1, size[1]), fill=255)
    return mask


@pytest.mark.parametrize("inverted", [0, 1])
def test_a_mask_says_what_is_painted_anew_or_what_is_kept(client, inverted):
    picture = Image.new("RGB", (64, 64), (9, 8, 7))
    told = draw(
        client,
        "img2img",
        init_images=[sent(picture)],
        mask=sent(half_marked((64, 64))),
        mask_blur=0,
        inpaint_full_res=False,
        inpainting_mask_invert=inverted,
        seed=5,
    )
    image = opened(told["images"][0])
    colours = [image.getpixel((5, 30)), image.getpixel((60, 30))]
    assert colours[:: -1 if inverted else 1] == [colour_of(5), (9, 8, 7)]
    entries = parse_parameters(image.info["parameters"])[2]
    assert entries["Inpaint area"] == "Whole picture"
    assert ("Mask mode" in entries) == bool(inverted)


def test_only_the_marked_area_is_drawn_and_the_rest_of_a_larger_picture_stays(client, recorder):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (150, 200, 3), np.uint8))
    mask = Image.new("L", picture.size)
    ImageDraw.Draw(mask).rectangle((100, 50, 129, 79), fill=255)
    told = draw(
        client, "img2img", init_images=[sent(picture)], mask=sent(mask), mask_blur=0, seed=3
    )
    image = np.asarray(opened(told["images"][0]))
    assert image.shape == (150, 200, 3) and recorder.drawn[-1].size == (64, 64)
    assert (image[50:80, 100:130] == colour_of(3)).all()
    outside = np.asarray(mask) == 0
    np.testing.assert_array_equal(image[outside], np.asarray(picture)[outside])
    entries = parse_parameters(json.loads(told["info"])["infotexts"][0])[2]
    assert entries["Inpaint area"] == "Only masked" and entries["Seed"] == "3"


@pytest.mark.parametrize(("fill", "word"), [(0, None), (1, None), (2, "noise"), (3, "nothing")])
def test_the_marked_part_begins_as_is_asked_for(client, recorder, fill, word):
    mask = sent(half_marked((64, 64)))
    image = sent(Image.new("RGB", (64, 64)))
    draw(client, "img2img", init_images=[image], mask=mask, inpainting_fill=fill)
    assert recorder.drawn[-1].settings.fill == word


def test_variations_share_a_seed_and_differ_in_the_other(client, recorder):
    told = draw(client, seed=5, subseed=100, subseed_strength=0.3, batch_size=2)
    info = json.loads(told["info"])
    assert (info["all_seeds"], info["all_subseeds"]) == ([5, 5], [100, 101])
    assert info["subseed_strength"] == 0.3
    drawn = [request.settings for request in recorder.drawn[-2:]]
    assert sorted((each.seed, each.subseed) for each in drawn) == [(5, 100), (5, 101)]


def test_base64_may_be_broken_into_lines_and_have_its_address_before_it(client):
    text = base64.encodebytes(base64.b64decode(sent(Image.new("RGB", (64, 64))))).decode()
    for each in (text, f"data:image/png;base64,{text}"):
        assert "\n" in each
        draw(client, "img2img", init_images=[each])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"init_images": []}, "init_images has 0 pictures"),
        ({"init_images": "x"}, "init_images has no list"),
        ({"init_images": None}, "init_images"),
        ({"inpainting_fill": 4}, "inpainting_fill 4"),
        ({"resize_mode": 3}, "resize_mode 3"),
        ({"mask_blur_x": 2, "mask_blur_y": 3}, "mask_blur_x 2"),
        ({"mask_blur": 65}, "mask_blur 65"),
        ({"mask": "AAAA"}, "mask"),
        ({"denoising_strength": 1.1}, "denoising_strength 1.1"),
    ],
)
def test_what_a_picture_cannot_be_drawn_from_is_named(client, values, said):
    given = {"init_images": [sent(Image.new("RGB", (64, 64)))], **values}
    assert said in refused(client, "img2img", **given)


def test_interrupting_sends_what_is_finished_and_progress_says_how_far_it_is(client, recorder):
    recorder.gate.clear()
    answers: list = []
    thread = threading.Thread(target=lambda: answers.append(draw(client, seed=1, n_iter=2)))
    thread.start()
    try:
        while not (seen := client.get("/sdapi/v1/progress").json())["progress"]:
            pass
        assert seen["progress"] == 0.25 and seen["state"]["job_count"] == 2
        assert seen["state"]["sampling_steps"] == 4 and seen["eta_relative"] > 0
        assert client.post("/sdapi/v1/interrupt").json() == {}
        thread.join(20)
    finally:
        recorder.gate.set()
    assert not thread.is_alive()
    assert answers[0]["images"] == [] and json.loads(answers[0]["info"])["interrupted"]
    assert client.get("/sdapi/v1/progress").json()["progress"] == 0.0


def test_nothing_is_kept_of_a_request_once_it_is_answered(flat_served, client):
    draw(client)
    assert len(client.app.state.service.kept) == 0


def test_pictures_are_left_out_of_the_answer_if_they_are_not_wanted(client):
    told = draw(client, send_images=False, seed=4)
    assert told["images"] == [] and json.loads(told["info"])["all_seeds"] == [4]
    picture = sent(Image.new("RGB", (64, 64)))
    told = draw(client, "img2img", init_images=[picture], prompt="a cat")
    assert told["parameters"]["init_images"] is None and told["parameters"]["prompt"] == "a cat"
    told = draw(client, "img2img", init_images=[picture], include_init_images=True)
    assert told["parameters"]["init_images"] == [picture]


def test_lists_name_no_folder_of_the_server(client, recorder):
    for name in ("sd-models", "loras", "embeddings", "upscalers", "samplers", "schedulers"):
        answer = client.get(f"/sdapi/v1/{name}")
        assert answer.status_code == 200
        assert str(recorder.choice.ckpt_path.parent) not in answer.text
    assert client.get("/sdapi/v1/sd-models").json()[0]["model_name"] == "demo"


def test_adapters_are_listed_by_the_names_that_prompts_call_them(client, tmp_path, monkeypatch):
    for name in ("lora/people/ink.safetensors", "embeddings/moss.pt", "lora/notes.txt"):
        path = tmp_path / "models" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    loras = {each["name"]: each["path"] for each in client.get("/sdapi/v1/loras").json()}
    assert loras["ink"] == "people/ink.safetensors" and "notes" not in loras
    assert "moss" in client.get("/sdapi/v1/embeddings").json()["loaded"]
