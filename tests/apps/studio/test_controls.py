"""What looks at pictures is offered by name: what fits the model, and nothing that is not there."""

from __future__ import annotations

from pathlib import Path

import pytest
from adapter_shelves import random_control
from safetensors.torch import save_file

from apps.studio.controls import (
    KINDS,
    OF_MODEL,
    Act,
    chosen,
    control_text,
    hint_kinds,
    kind_of_prompt,
    networks_there,
    offered,
    one_of,
    unfit,
)
from apps.studio.networks import NOTHING
from ldm.errors import UserError
from ldm.pipelines import adapter_files
from ldm.settings.adapters import read_control


def test_a_menu_offers_what_fits_and_the_model_itself(shelf, pipeline):
    there = networks_there(pipeline.model)
    assert [*offered(there, "control")] == [OF_MODEL, "net"]
    assert [*offered(there, "image_prompt")] == ["own"]
    lines = unfit(there)
    assert [line.split(":")[0] for line in lines] == ["ip", "text"]
    assert "--image_encoder" in lines[0] and "cannot be read" in lines[1]
    with_encoder = networks_there(pipeline.model, "clip")
    assert [*offered(with_encoder, "image_prompt")] == ["ip", "own"]


def test_two_of_a_name_are_told_apart_as_the_library_finds_them(shelf, pipeline):
    other = shelf / "old/net.safetensors"
    save_file(random_control(pipeline.model, seed=6), other)
    there = [*offered(networks_there(pipeline.model), "control").values()][1:]
    assert [each.name for each in there] == ["net.safetensors", "old/net.safetensors"]
    for each in there:
        found = adapter_files.find_adapter(adapter_files.CONTROLS, each.given)
        assert found == Path("models/controlnet") / each.name


def test_a_name_that_would_end_early_cannot_be_chosen(shelf, pipeline):
    (shelf / "net.safetensors").rename(shelf / "a:b.safetensors")
    there = networks_there(pipeline.model)
    assert [*offered(there, "control")] == [OF_MODEL]
    assert "a:b: its name has a colon" in unfit(there)[0]


@pytest.mark.parametrize("name", ["own", "ip", "../x", "/etc/passwd", 7, ["net"], "NET"])
def test_what_is_not_offered_cannot_be_chosen(name, shelf, pipeline):
    with pytest.raises(UserError, match="expected one of the list"):
        chosen(name, offered(networks_there(pipeline.model), "control"))
    for nothing in (NOTHING, "", None):
        assert chosen(nothing, {}) is None


@pytest.mark.parametrize(
    "values", [(3, 0, 1), (1, -0.1, 1), (1, 0, "1"), (True, 0, 1), (None,) * 3]
)
def test_strengths_are_numbers_of_the_slider(values):
    with pytest.raises(UserError, match="expected a number from 0 to"):
        Act.of(*values)
    with pytest.raises(UserError, match="expected a number"):
        Act.of(float("nan"), 0, 1)


def test_the_text_is_what_the_programs_read(shelf, pipeline):
    there = networks_there(pipeline.model)
    net, own = offered(there, "control")["net"], offered(there, "image_prompt")["own"]
    wish = read_control(control_text(net, "canny", "a/b.png", Act(0.5, 0.1, 0.9)))
    assert (wish.kind, wish.file, wish.image, wish.scale) == ("canny", "net", "a/b.png", 0.5)
    assert (wish.start, wish.end) == (0.1, 0.9)
    assert read_control(control_text(own, kind_of_prompt(own), "b.png", Act())).kind == "ip"
    itself = offered(there, KINDS[0])[OF_MODEL]
    assert read_control(control_text(itself, "reference", "b.png", Act())).file == ""


def test_hints_that_need_a_network_of_their_own_are_not_offered():
    assert hint_kinds()[:2] == ["hint", "canny"]
    assert not {"depth", "hed", "openpose", "inpaint"} & {*hint_kinds()}
    assert "inpaint" in hint_kinds(masked=True)
    for value in ("depth", None, ["hint"], "/etc/passwd"):
        with pytest.raises(UserError, match="is not on the list"):
            one_of(value, hint_kinds())
