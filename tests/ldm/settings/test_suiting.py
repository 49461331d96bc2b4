"""What suits a model is taken where the user named nothing, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ldm.errors import UserError
from ldm.retrieval.settings import RetrievalSettings
from ldm.settings.generation import Img2ImgSettings, Txt2ImgSettings
from ldm.settings.inpaint import InpaintSettings
from ldm.settings.low_memory import LowMemoryImg2ImgSettings, LowMemoryTxt2ImgSettings
from ldm.settings.suiting import SUITING, in_words, read_suiting, suited_to, suiting
from ldm.settings.swap import SwapSettings

ENTRIES = {
    **{"scale": 3, "sampler": "dpmpp_2m", "spacing": "karras", "steps": 20},
    **{"H": 96, "W": 128, "clip_skip": 2},
}
OWN = read_suiting(ENTRIES, "x.yaml")
WALK = {"sampler": "dpmpp_2m", "spacing": "karras", "ddim_steps": 20}
DRAWING = [
    *(Txt2ImgSettings, LowMemoryTxt2ImgSettings, RetrievalSettings),
    *(Img2ImgSettings, LowMemoryImg2ImgSettings, InpaintSettings, SwapSettings),
]


def test_a_yaml_names_settings_by_their_field_names_but_for_steps():
    assert OWN == {**WALK, "scale": 3.0, "H": 96, "W": 128, "clip_skip": 2}
    assert isinstance(OWN["scale"], float)
    assert read_suiting({}, "x.yaml") == read_suiting({"scale": None}, "x.yaml") == {}


@pytest.mark.parametrize("schema", DRAWING)
def test_a_model_fills_in_what_the_user_left_and_the_result_is_valid(schema):
    settings = suited_to(schema(seed=1), OWN, {"seed"})
    assert settings == replace(schema(seed=1), **suiting(settings, OWN, {"seed"}))
    assert (settings.scale, settings.sampler, settings.ddim_steps) == (3.0, "dpmpp_2m", 20)
    settings.validate()


@pytest.mark.parametrize("name", SUITING.values())
def test_what_the_user_named_wins_even_if_it_is_the_programs_default(name):
    plain = Txt2ImgSettings()
    assert getattr(suited_to(plain, OWN, {name}), name) == getattr(plain, name)


@pytest.mark.parametrize("named", ["sampler", "spacing", "ddim_eta"])
def test_who_chooses_a_walk_gets_none_of_the_models_mixed_into_it(named):
    taken = suiting(Txt2ImgSettings(), OWN, {named})
    assert not WALK.keys() & taken.keys() and taken["scale"] == 3.0
    assert suiting(Txt2ImgSettings(), OWN, {"ddim_steps"})["sampler"] == "dpmpp_2m"


def test_an_inversion_keeps_the_sampler_whose_steps_can_be_turned_round():
    inverting = SwapSettings(
        init_img="a.png", sprompt="a cat", prompt="a dog", invert="ddim", is_swap=True
    )
    settings = suited_to(inverting, OWN, set())
    assert (settings.sampler, settings.ddim_steps) == ("ddim", 50)
    settings.validate()


def test_pictures_that_start_from_one_keep_its_size():
    assert {"H", "W"} <= suiting(LowMemoryTxt2ImgSettings(), OWN, ()).keys()
    assert not {"H", "W"} & suiting(LowMemoryImg2ImgSettings(), OWN, ()).keys()


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        *(({"scale": wrong}, "sampling.scale is") for wrong in (0, -1, "3x", [3], True)),
        *(({"scale": float(wrong)}, "sampling.scale is") for wrong in ("inf", "nan")),
        ({"steps": 0}, "sampling.steps is 0; expected a whole number, 1 or more"),
        ({"sampler": "magic"}, "sampling.sampler is 'magic'; expected ddim"),
        ({"sampler": "ddim", "spacing": "karras"}, "karras is for"),
        ({"seed": 1}, "'seed' is none of a model's settings; expected scale, steps"),
        ({"ddim_steps": 20}, "'ddim_steps' is none"),
    ],
)
def test_what_no_model_can_want_is_refused_in_one_line(entries, words):
    with pytest.raises(UserError, match=words) as error:
        read_suiting(entries, "config x.yaml")
    assert str(error.value).startswith("config x.yaml: sampling") and "\n" not in str(error.value)


def test_it_is_said_in_the_yamls_words():
    assert in_words({"scale": 3.0, "ddim_steps": 20, "clip_skip": 2}) == (
        "scale 3, steps 20, clip skip 2"
    )
