"""Controls become gradio components, laid out in rows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from optimizedSD.web.fields import MAIN
from optimizedSD.web.page import IMG2IMG, INPAINT, SWAP, TXT2IMG

gradio = pytest.importorskip("gradio", reason="needs gradio: pip install -e '.[web]'")

from optimizedSD.web.layout import component, controls_of, rows  # noqa: E402 - imports gradio

PAGES = [TXT2IMG, IMG2IMG, INPAINT, SWAP]
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.server.program)


@pages
def test_every_field_is_a_labelled_component_with_its_first_value(page, pipeline):
    kinds = {
        "text": gradio.Textbox,
        "blank": gradio.Textbox,
        "choice": gradio.Dropdown,
        "switch": gradio.Checkbox,
        "slider": gradio.Slider,
        "number": gradio.Number,
    }
    for field in controls_of(page, pipeline.choice):
        made = component(field)
        assert type(made) is kinds[field.kind]
        assert made.label.key == f"{field.key}.label" if field.key else made.label == field.label
        first = "" if field.value is None else field.value
        assert field.kind == "blank" or made.value == first or (made.value is None and first == "")
        if field.kind == "choice":
            none = [""] if field.option.optional else []
            assert [value for _, value in made.choices] == [*none, *field.option.offered]
        if field.kind == "slider":
            limits = (field.option.minimum, field.option.maximum)
            assert (made.minimum, made.maximum) == limits


@pages
def test_rows_hold_every_control_once(page, pipeline):
    shown = [field for field in controls_of(page, pipeline.choice) if field.name in MAIN]
    placed = [field.name for row in rows(shown) for field in row]
    assert sorted(placed) == sorted(field.name for field in shown)
    assert ["H", "W"] in [[field.name for field in row] for row in rows(shown)]


def test_the_initial_size_is_the_models_own(pipeline):
    initial = {field.name: field.value for field in controls_of(TXT2IMG, pipeline.choice)}
    assert (initial["H"], initial["W"]) == (pipeline.choice.size, pipeline.choice.size)


@pages
def test_what_suits_the_model_is_what_the_controls_first_show(page, pipeline):
    own = {"scale": 3.0, "sampler": "dpmpp_2m", "spacing": "karras", "ddim_steps": 20, "W": 32}
    choice = replace(pipeline.choice, sampling=own)
    shown = {field.name: field.value for field in controls_of(page, choice)}
    usual = {field.name: field.value for field in controls_of(page, pipeline.choice)}
    changed = {name for name, value in shown.items() if value != usual[name]}
    assert changed == {name for name in own if name != "W" or not page.takes_picture}
    assert all(shown[name] == own[name] for name in changed)
