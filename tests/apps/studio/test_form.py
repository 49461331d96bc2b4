"""A form's controls: what they first show suits the model; their values become settings."""

from __future__ import annotations

from dataclasses import replace

import pytest

gr = pytest.importorskip("gradio", reason="needs gradio: pip install -e '.[web]'")

from apps.studio.form import Form, _with_list, fields_for, presets  # noqa: E402
from apps.studio.settings import StudioSettings  # noqa: E402
from apps.studio.state import Studio  # noqa: E402
from apps.studio.styles import Style  # noqa: E402
from ldm.errors import UserError  # noqa: E402
from ldm.settings.low_memory import LowMemoryTxt2ImgSettings  # noqa: E402
from ldm.settings.swap import SwapSettings  # noqa: E402


@pytest.fixture
def studio(queue, tmp_path):
    styles = {"Ink": Style("{prompt} in ink", "colour")}
    return Studio(queue, StudioSettings(outdir=str(tmp_path)), {"device": "cpu"}, styles)


@pytest.fixture
def form(studio):
    fields = fields_for(studio, LowMemoryTxt2ImgSettings, prompt="a cat", W=16, H=16)
    with gr.Blocks():
        return Form(studio, "text", LowMemoryTxt2ImgSettings, fields)


def held(form, **changes):
    """Return what the form's components hold, but for changes."""
    styles = changes.pop("styles", [])
    switch = [] if form.wildcards is None else [changes.pop("wildcards", False)]
    networks = [changes.pop(name, each.value) for name, each in form.networks.items()]
    return [
        styles,
        *switch,
        *networks,
        *({each.name: each.value for each in form.fields} | changes).values(),
    ]


def test_each_setting_has_one_control_and_no_file_of_the_server_has_one(form):
    names = [each.name for each in form.fields]
    assert len(form.inputs) == 1 + len(form.networks) + len(set(names))
    assert len(names) == len(set(names))
    assert {"prompt", "negative_prompt", "sampler", "seed", "W", "H", "scale"} <= set(names)
    assert not {"ckpt", "outdir", "from_file", "lora", "control", "device"} & set(names)


def test_the_values_become_settings_with_the_command_lines_beside_them(form, tmp_path):
    settings = form.read(held(form, seed="7", ddim_steps=3.0))
    assert (settings.seed, settings.ddim_steps, settings.prompt) == (7, 3, "a cat")
    assert (settings.outdir, settings.device) == (str(tmp_path), "cpu")
    assert settings.prompt_syntax == "a1111"


def test_an_empty_seed_is_another_one_each_time(form):
    assert len({form.read(held(form)).seed for _ in range(5)}) > 1


def test_styles_are_put_around_the_prompt(form):
    settings = form.read(held(form, styles=["Ink"]))
    assert (settings.prompt, settings.negative_prompt) == ("a cat in ink", "colour")


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": "many"},
        {"ddim_steps": 0},
        {"ddim_steps": 10**6},
        {"sampler": "nobody"},
        {"n_samples": 10_000},
        {"scale": None},
        {"prompt": "x" * 5000},
        {"styles": ["missing"]},
        {"prompt": 7},
        {"hires_upscaler": "/etc/passwd"},
        {"hires_upscaler": ["Latent"]},
    ],
)
def test_what_cannot_be_drawn_is_one_line(changes, form):
    with pytest.raises(UserError) as raised:
        form.read(held(form, **changes))
    assert "\n" not in str(raised.value)


def test_a_switch_draws_from_the_studios_own_lists_and_no_visitor_names_others(studio, tmp_path):
    (tmp_path / "pets.txt").write_text("cat\n")
    schema = LowMemoryTxt2ImgSettings
    fields = fields_for(studio, schema, prompt="a __pets__", W=16, H=16)
    words = fields_for(studio, SwapSettings, prompt="a cat")
    with gr.Blocks():
        form = Form(replace(studio, wildcards=str(tmp_path)), "text", schema, fields)
        edit = Form(replace(studio, wildcards=str(tmp_path)), "edit", SwapSettings, words)
    assert form.read(held(form)).wildcards is None
    assert form.read(held(form, wildcards=True)).wildcards == str(tmp_path)
    for sent in ("/etc", 1, [True], None):
        assert form.read(held(form, wildcards=sent)).wildcards is None
    assert edit.wildcards is None  # an edit's prompts are as they are typed


def test_a_name_that_is_chosen_goes_into_the_prompt_and_turns_the_switch_on():
    assert _with_list("__pets__", "a photo of a ") == ("", "a photo of a __pets__", True)
    assert _with_list("__pets__", None)[1] == "__pets__"
    assert all(part == gr.skip() for part in _with_list("", "a cat"))


def test_presets_have_about_the_models_own_number_of_pixels(studio):
    sizes = [tuple(map(int, each.split(" (")[0].split(" × "))) for each in presets(studio)]
    own, multiple = studio.own_size, studio.queue.pipeline.choice.multiple
    assert (own, own) in sizes
    for width, height in sizes:
        assert width % multiple == height % multiple == 0
        assert 0.5 < width * height / own**2 < 2
