"""Samplers and schedules go by AUTOMATIC1111's names, and what is listed can be asked for."""

from __future__ import annotations

import pytest

from apps.server.front.values import Fields, Unfit
from apps.server.sdapi.walks import list_samplers, list_schedulers, read_walk
from ldm.settings.samplers import SAMPLERS, check_walk, samplers_for


def walk(**values) -> dict:
    return read_walk(Fields(values))[0]


def test_each_listed_sampler_can_be_asked_for_by_its_name_and_by_its_aliases():
    for listed in list_samplers():
        found = walk(sampler_name=listed["name"])["sampler"]
        assert SAMPLERS[found].label == listed["name"]
        for alias in listed["aliases"]:
            assert walk(sampler_name=alias)["sampler"] == alias
            assert walk(sampler_name=f"k_{alias}")["sampler"] == alias


def test_each_listed_scheduler_can_be_asked_for_by_its_name_and_its_label():
    for listed in list_schedulers():
        for name in (listed["name"], listed["label"]):
            sampler = "Euler" if listed["name"] != "quad" else "DDIM"
            spacing = walk(sampler_name=sampler, scheduler=name)["spacing"]
            assert listed["name"] in (spacing, "automatic")


def test_automatic_is_each_samplers_own_schedule_and_fits_it():
    for name, entry in SAMPLERS.items():
        found = walk(sampler_name=name, scheduler="Automatic")
        assert found["spacing"] == (entry.schedule or "uniform")
        check_walk(found["sampler"], found["spacing"], found["ddim_eta"], "eta")


def test_names_of_before_there_were_schedulers_name_both():
    found = walk(sampler_name="DPM++ 2M Karras")
    assert (found["sampler"], found["spacing"]) == ("dpmpp_2m", "karras")
    assert walk(sampler_name="DPM++ 2M Karras", scheduler="exponential")["spacing"] == "exponential"


def test_the_older_field_names_the_sampler_where_the_newer_does_not():
    assert walk(sampler_index="Euler a")["sampler"] == "euler_a"
    assert walk(sampler_index="Euler a", sampler_name="DDIM")["sampler"] == "ddim"
    assert walk()["sampler"] == "euler"


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"sampler_name": "Eulr"}, "sampler_name"),
        ({"sampler_index": "Eulr"}, "sampler_index"),
        ({"scheduler": "kl_optimal"}, "scheduler"),
        ({"sampler_name": "DDIM", "scheduler": "Karras"}, "scheduler"),
        ({"sampler_name": "Euler a", "eta": 0.5}, "eta"),
        ({"sampler_name": "DDIM", "eta": 1.5}, "eta"),
        ({"sampler_name": 3}, "sampler_name"),
    ],
)
def test_what_is_not_there_is_refused_by_its_field(values, field):
    with pytest.raises(Unfit) as caught:
        walk(**values)
    assert caught.value.field == field


def test_eta_is_ddims_own_and_one_is_what_ancestral_samplers_add():
    assert walk(sampler_name="DDIM", eta=0.3)["ddim_eta"] == 0.3
    assert walk(sampler_name="DDIM")["ddim_eta"] == 0.0
    assert read_walk(Fields({"sampler_name": "Euler a", "eta": 1.0})) == (
        {"sampler": "euler_a", "spacing": "uniform", "ddim_eta": 0.0},
        [],
    )
    # It means nothing to others, which is said.
    assert read_walk(Fields({"sampler_name": "Euler", "eta": 1.0}))[1] == ["eta: Euler has none"]


def test_a_schedule_is_offered_to_samplers_that_have_it_alone():
    assert "ddim" not in samplers_for("karras")
