"""A request sets what is open to it; no field of one leads to a file of the server."""

from __future__ import annotations

import itertools

import pytest
from safetensors.torch import save_file

from apps.server.asking import (
    CLOSED,
    FIXED,
    JOBS,
    OPEN,
    MaskJob,
    PictureJob,
    TextJob,
    fixed_by,
    settings_of,
)
from apps.server.settings import ServerSettings
from ldm.errors import UserError
from ldm.settings.option import options_of


def test_every_setting_is_open_or_closed_and_none_is_both():
    known = {each.name for job in JOBS for each in options_of(job)}
    assert known == OPEN | CLOSED and not OPEN & CLOSED


BY_NAME = {"lora", "embedding", "hires_upscaler", "restore_faces"}


def test_no_open_field_is_called_a_file_but_those_that_go_by_name():
    for job, each in itertools.chain(*(((job, e) for e in options_of(job)) for job in JOBS)):
        if each.name in OPEN and each.name not in BY_NAME:
            assert each.metavar not in ("FILE", "FOLDER", "PATH"), (job, each.name)


@pytest.mark.parametrize("name", sorted(CLOSED))
@pytest.mark.parametrize("value", ["/etc/passwd", None])
def test_a_closed_field_is_refused_whatever_it_holds(name, value):
    with pytest.raises(UserError, match=f"the field {name} was given; expected none"):
        settings_of({name: value}, MaskJob)


def test_pictures_of_a_request_are_drawn_alone_and_from_plain_prompts():
    for job in JOBS:
        settings = settings_of({"prompt": "cat:0.5 dog:0.5"}, job)
        assert (settings.n_samples, settings.n_iter, settings.seed_mode) == (1, 1, "per-image")
        assert settings.mixture(settings.prompt) == [("cat:0.5 dog:0.5", 1.0)]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"promt": "x"}, "did you mean prompt?"),
        ({"steps": 5}, "did you mean ddim_steps?"),
        ({"width": 64}, "did you mean W?"),
        ({"guidance_scale": 5}, "did you mean scale?"),
        ({"strength": 0.5}, "goes with a picture"),
        ({"qqqq": 5}, "there are H, W, batch_cfg"),
        ({"": 1}, "unknown here"),
        ({"prompt": 5}, "--prompt 5 was given"),
        ({"prompt": None}, "--prompt None was given"),
        ({"prompt": "\ud800"}, "half of a letter"),
        ({"lora": ["\udfff"]}, "half of a letter"),
        ({"lora": "ink"}, "given no list"),
        ({"lora": [5]}, "--lora 5 was given"),
        ({"seed": -1}, "--seed -1"),
        ({"seed": 2**64}, "--seed"),
        ({"seed": 1.5}, "--seed 1.5"),
        ({"seed": True}, "--seed True"),
        ({"scale": "7"}, "--scale 7"),
        ({"scale": 10**400}, "--scale"),
        ({"scale": float("inf")}, "--scale inf"),
        ({"ddim_steps": 0}, "--ddim_steps 0"),
        ({"sampler": "magic"}, "--sampler magic"),
        ({"sampler": ["ddim"]}, "--sampler"),
        ({"n_samples": 10**9}, "--n_samples"),
        ({"W": {}}, "--W"),
        ({"reuse": "x"}, "--reuse"),
    ],
)
def test_a_field_that_is_wrong_is_named_with_what_is_expected(fields, told):
    with pytest.raises(UserError) as caught:
        settings_of(fields)
    assert told in str(caught.value) and len(str(caught.value)) < 2000


def test_a_whole_number_is_as_good_as_a_number():
    assert settings_of({"scale": 7}).scale == 7.0
    assert type(settings_of({"scale": 7}).scale) is float  # recipes are written from it


def test_a_picture_can_be_resized_and_a_mask_goes_with_it():
    assert settings_of({"W": 64, "strength": 0.5}, PictureJob).W == 64
    assert settings_of({"strength": 1.0}, MaskJob).takes_mask


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder with a LoRA on its shelf, and another beside it."""
    import torch

    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "models" / "lora"
    folder.mkdir(parents=True)
    for path in (folder / "ink.safetensors", tmp_path / "secret.safetensors"):
        save_file({"x": torch.zeros(1)}, path)
    return tmp_path


@pytest.mark.parametrize("name", ["ink", "ink:0.5", "ink.safetensors:0.5:0.2"])
def test_a_lora_on_the_shelf_goes_by_its_name(shelf, name):
    assert settings_of({"lora": [name]}).lora == (name,)


@pytest.mark.parametrize(
    "name",
    [
        "secret",
        "secret.safetensors",
        "./secret.safetensors",
        "../lora/../../secret.safetensors",
        "models/lora/../../secret.safetensors",
        "{shelf}/secret.safetensors",
        "{shelf}/models/lora/ink.safetensors",
        "~/ink",
        "/dev/zero",
        "http://localhost/ink.safetensors",
        "C:\\\\ink",
        "..",
        "ink\0",
    ],
)
@pytest.mark.parametrize("field", ["lora", "embedding"])
def test_no_name_leads_off_the_shelf(shelf, field, name):
    with pytest.raises(UserError):
        settings_of({field: [name.format(shelf=shelf)]})


def test_a_file_of_the_same_name_in_the_servers_folder_is_not_taken_for_it(shelf):
    (shelf / "ink").write_bytes((shelf / "secret.safetensors").read_bytes())
    with pytest.raises(UserError, match="expected the name of a LoRA in models/lora"):
        settings_of({"lora": ["ink:0.5"]})
    assert settings_of({"lora": ["ink.safetensors:0.5"]}).lora


def test_what_the_operator_chose_holds_for_every_job():
    server = ServerSettings(precision="full", safety_checker="off", watermark="off")
    fixed = fixed_by(server)
    for job in JOBS:
        settings = settings_of({}, job, fixed)
        assert (settings.precision, settings.safety_checker) == ("full", "off")
        assert settings.watermark == "off"
    assert set(FIXED) <= CLOSED


def test_without_the_operators_word_watermarks_are_the_programs_own():
    fixed = fixed_by(ServerSettings())
    assert settings_of({}, TextJob, fixed).watermark == "reference"
    assert settings_of({}, PictureJob, fixed).watermark == "gentle"
