from __future__ import annotations

import contextlib
import dataclasses

import pytest

from ldm.errors import UserError
from ldm.settings.generation import Img2ImgSettings, Txt2ImgSettings
from ldm.settings.option import options_of
from ldm.settings.samplers import SAMPLERS, k_samplers

# The reference's defaults: scripts/txt2img.py and scripts/img2img.py of CompVis/stable-diffusion.
SHARED = {
    "prompt": "a painting of a virus monster playing guitar",
    "skip_grid": False,
    "skip_save": False,
    "ddim_steps": 50,
    "fixed_code": False,
    "ddim_eta": 0.0,
    "n_rows": 0,
    "from_file": None,
    "seed": 42,
    "precision": "autocast",
}
TXT2IMG = {"outdir": "outputs/txt2img-samples", "n_iter": 2, "n_samples": 3, "scale": 7.5}
IMG2IMG = {
    "outdir": "outputs/img2img-samples",
    "n_iter": 1,
    "n_samples": 2,
    "scale": 5.0,
    "strength": 0.75,
}


@pytest.mark.parametrize(
    ("schema", "own"), [(Txt2ImgSettings, TXT2IMG), (Img2ImgSettings, IMG2IMG)]
)
def test_defaults_are_the_references(schema, own):
    settings = schema()
    assert {name: getattr(settings, name) for name in SHARED | own} == SHARED | own


@pytest.mark.parametrize("schema", [Txt2ImgSettings, Img2ImgSettings])
def test_every_field_has_an_option_with_help_and_a_valid_default(schema):
    settings = schema()
    for option in options_of(schema):
        assert option.help and option.flag.startswith("--")
        option.check(getattr(settings, option.name))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_k_samplers_are_those_that_take_karras_spacing(sampler):
    from ldm.models.diffusion.k_samplers import KSampler
    from ldm.util import get_obj_from_str

    assert issubclass(get_obj_from_str(SAMPLERS[sampler].target), KSampler) == (
        sampler in k_samplers()
    )
    settings = Txt2ImgSettings(sampler=sampler, spacing="karras")
    with contextlib.nullcontext() if sampler in k_samplers() else pytest.raises(UserError):
        settings.validate()


def test_settings_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Txt2ImgSettings().seed = 1


@pytest.mark.parametrize(
    ("wrong", "names"),
    [
        ({"ddim_steps": 0}, ["--ddim_steps 0", "1 or more"]),
        ({"ddim_steps": -3}, ["--ddim_steps -3"]),
        ({"ddim_steps": 2.5}, ["--ddim_steps 2.5", "whole number"]),
        ({"ddim_steps": True}, ["--ddim_steps True", "whole number"]),
        ({"n_samples": 0}, ["--n_samples 0"]),
        ({"n_iter": 0}, ["--n_iter 0"]),
        ({"scale": float("nan")}, ["--scale nan", "a number"]),
        ({"ddim_eta": -0.1}, ["--ddim_eta -0.1", "from 0.0 to 1.0"]),
        ({"seed": -1}, ["--seed -1", "18446744073709551615"]),
        ({"seed": 2**64}, ["--seed 18446744073709551616"]),
        ({"sampler": "eular"}, ["--sampler eular", "plms", "euler_a"]),
        ({"prompt": None}, ["--prompt None", "text"]),
        ({"n_iter": 10**7}, ["--n_iter 10000000", "to 1000000"]),
        ({"H": 10**9}, ["--H 1000000000", "to 65536"]),
        ({"ckpt": ""}, ["--ckpt ''", "name of a file"]),
        ({"device": "gpu"}, ["--device gpu", "cuda:N"]),
        ({"device": "cuda:"}, ["--device cuda:"]),
        ({"sampler": "plms", "ddim_eta": 0.5}, ["--ddim_eta 0.5", "PLMS", "ddim"]),
        ({"spacing": "karras"}, ["--spacing karras", "--sampler ddim", "heun", "lms"]),
        ({"spacing": "karras", "sampler": "dpm_solver"}, ["--sampler dpm_solver"]),
        ({"laion400m": True, "ckpt": "x.ckpt"}, ["--laion400m", "--ckpt"]),
    ],
)
def test_wrong_settings_are_refused_with_what_was_given_and_expected(wrong, names):
    with pytest.raises(UserError) as caught:
        Txt2ImgSettings(**wrong).validate()
    message = str(caught.value)
    assert "\n" not in message
    for name in names:
        assert name in message


@pytest.mark.parametrize("strength", [-0.01, 1.01, float("nan"), float("inf")])
def test_strength_outside_0_to_1_is_refused(strength):
    with pytest.raises(UserError, match="--strength .* from 0.0 to 1.0"):
        Img2ImgSettings(strength=strength).validate()


@pytest.mark.parametrize("strength", [0, 0.0, 1, 1.0])
def test_strength_may_be_0_and_1(strength):
    settings = Img2ImgSettings(strength=strength)
    settings.validate()
    assert settings.strength == strength


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1", "mps"])
def test_devices_are_accepted_by_name_without_asking_torch(device):
    settings = Txt2ImgSettings(device=device)
    settings.validate()
    assert settings.device == device


@pytest.mark.parametrize("seed", [2**32 - 1, 2**32, 6421725739674010, 2**63 - 1])
def test_every_seed_is_taken_and_one_beyond_the_references_names_the_mode_for_it(seed):
    Txt2ImgSettings(seed=seed).validate()
    assert Txt2ImgSettings(seed=seed, seed_mode="per-image").notices() == []
    told = Txt2ImgSettings(seed=seed).notices()
    assert len(told) == (seed > 2**32 - 1)
    assert not told or "above 4294967295" in told[0] and "--seed_mode per-image" in told[0]


def test_a_seed_to_turn_to_without_a_strength_is_remarked_on():
    (notice,) = Txt2ImgSettings(subseed=3).notices()
    assert "--subseed 3 has no effect at --subseed_strength 0" in notice
    assert Txt2ImgSettings(subseed=3, subseed_strength=0.1).notices() == []


def test_settings_without_effect_are_remarked_on():
    assert Txt2ImgSettings(negative_prompt="fog").notices() == []
    (notice,) = Txt2ImgSettings(negative_prompt="fog", scale=1.0).notices()
    assert "--negative_prompt" in notice and "--scale 1" in notice
    for sampler in ("dpm_solver", *k_samplers()):
        (notice,) = Txt2ImgSettings(sampler=sampler, ddim_eta=0.5).notices()
        assert "--ddim_eta 0.5" in notice
