"""The fields of a control mean what --control says, and its picture is kept where nobody looks."""

from __future__ import annotations

import pytest
from PIL import Image

gr = pytest.importorskip("gradio", reason="needs gradio: pip install -e '.[web]'")

from apps.studio.controlling import Controls  # noqa: E402
from apps.studio.controls import OF_MODEL  # noqa: E402
from apps.studio.form import Form, fields_for  # noqa: E402
from apps.studio.networks import NOTHING  # noqa: E402
from apps.studio.settings import StudioSettings  # noqa: E402
from apps.studio.state import HINTS, Studio  # noqa: E402
from ldm.errors import UserError  # noqa: E402
from ldm.pipelines.recorded_controls import RecordedControl  # noqa: E402
from ldm.settings.adapters import read_control  # noqa: E402
from ldm.settings.low_memory import LowMemoryTxt2ImgSettings  # noqa: E402
from optimizedSD.web.uploads import shown_picture  # noqa: E402


@pytest.fixture
def controls(queue, shelf):
    return controls_of(queue)


def controls_of(queue, **how):
    studio = Studio(queue, StudioSettings(outdir="out"))
    with gr.Blocks():
        fields = fields_for(studio, LowMemoryTxt2ImgSettings)
        return Controls(studio, Form(studio, "text", LowMemoryTxt2ImgSettings, fields), **how)


@pytest.fixture
def picture(tmp_path):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    return {"path": str(tmp_path / "red.png")}


def values(controls, control_picture=None, prompt_picture=None, **changes):
    held = {name: each.value for name, each in controls.fields.items()} | changes
    return [control_picture, prompt_picture, *held.values()]


def test_where_nothing_is_chosen_nothing_is_set_whatever_the_pictures(controls, picture):
    assert controls.read(values(controls, picture, picture), "en") == {}


def test_a_control_and_an_image_prompt_are_set_as_the_programs_read_them(controls, picture):
    changes = {"control": "net", "control_kind": "canny", "control_scale": 0.5}
    changes |= {"control_end": 0.75, "control_mode": "prompt", "image_prompt": "own"}
    found = controls.read(values(controls, picture, picture, **changes), "en")
    first, second = map(read_control, found["control"])
    assert (first.kind, first.file, first.scale, first.start, first.end) == (
        *("canny", "net"),
        *(0.5, 0.0, 0.75),
    )
    assert (second.kind, second.file, second.scale) == ("ip", "own", 1.0)
    assert found["control_mode"] == "prompt" and found["image_encoder"] is None
    settings = LowMemoryTxt2ImgSettings(**found, seed=1)
    settings.validate()


def test_its_picture_is_kept_and_shown_to_nobody(controls, picture, tmp_path):
    found = controls.read(values(controls, picture, control="net"), "en")
    kept = read_control(*found["control"]).image
    assert kept.startswith(f"out/{HINTS}/"), "no folder of the server is recorded"
    assert Image.open(kept).getpixel((0, 0)) == (255, 0, 0)
    assert shown_picture(str(tmp_path / kept), [tmp_path / "out"]) is None


@pytest.mark.parametrize("name", ["net", OF_MODEL])
def test_a_control_without_a_picture_is_named(name, controls):
    called = {OF_MODEL: "the model itself looks at it (no file)"}.get(name, name)
    with pytest.raises(UserError) as raised:
        controls.read(values(controls, control=name), "en")
    assert f"“Control” is {called}, and there is no picture" in str(raised.value)
    with pytest.raises(UserError, match="見る絵がありません"):
        controls.read(values(controls, control=name), "ja")


def test_a_tab_with_a_picture_lends_it_to_the_control(queue, shelf, picture):
    controls = controls_of(queue, own=True)
    found = controls.read(values(controls, control="net"), "en", picture)
    assert read_control(*found["control"]).kind == "hint"
    with pytest.raises(UserError, match="no picture for it to look at"):
        controls.read(values(controls, image_prompt="own"), "en", picture)


@pytest.mark.parametrize(
    "changes",
    [
        {"control": "ip"},
        {"control": "/etc/passwd"},
        {"control": "net", "control_kind": "depth"},
        {"control": "net", "control_kind": "hint=x:y"},
        {"control": "net", "control_mode": "loud"},
        {"control": "net", "control_scale": "1"},
        {"control": "net", "control_start": float("inf")},
        {"image_prompt": "net"},
    ],
)
def test_what_the_page_does_not_offer_is_refused(changes, controls, picture):
    with pytest.raises(UserError, match="expected"):
        controls.read(values(controls, picture, picture, **changes), "en")


def test_what_is_no_picture_is_refused_and_not_kept(controls, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UserError):
        controls.read(values(controls, {"path": str(tmp_path / "text.png")}, control="net"), "en")
    assert not (tmp_path / "out").exists()


def test_a_recipe_fills_the_fields_and_one_without_controls_empties_the_menus(controls):
    names = [*controls.fields]
    recorded = RecordedControl("canny", "net", image="room.png", scale=0.5)
    updates, sentences = controls.filled([recorded], "en")
    filled = dict(zip(names, updates, strict=True))
    assert (filled["control"], filled["control_kind"], filled["control_scale"]) == (
        *("net", "canny"),
        0.5,
    )
    assert filled["image_prompt"] == NOTHING and filled["image_prompt_scale"] == gr.skip()
    assert ["room.png" in each for each in sentences] == [True]
    updates, sentences = controls.filled([], "en")
    assert dict(zip(names, updates, strict=True))["control"] == NOTHING and not sentences


def test_the_menus_are_those_of_now_and_what_is_gone_is_not_chosen(controls, shelf):
    (shelf / "net.safetensors").unlink()
    visit = type("Visit", (), {"headers": {"accept-language": "en"}})()
    control, prompt, about = controls._listed_anew(visit, "net", "own")
    assert (control.value, prompt.value) == (NOTHING, "own")
    assert [name for _, name in control.choices] == [NOTHING, OF_MODEL]
    assert "text: it cannot be read as weights" in about
    kept, _, _ = controls._listed(visit)
    assert "value" not in kept._constructor_args[0], "a reload brings what was chosen"
