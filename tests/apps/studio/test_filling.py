"""A recipe fills the fields of the tab that draws such pictures, and of no other."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

gr = pytest.importorskip("gradio", reason="needs gradio: pip install -e '.[web]'")

from apps.studio.filling import (  # noqa: E402
    Filler,
    data_address,
    own_fields,
    picture_html,
    taken_over,
)
from apps.studio.state import Tab  # noqa: E402
from ldm.errors import UserError  # noqa: E402

RECIPE = (
    "a cat\nNegative prompt: fog\nSteps: 20, Sampler: DDIM, CFG scale: 6.5, Seed: 3, Size: 64x64"
)


@pytest.fixture
def filler():
    def held():
        return {
            "prompt": gr.Textbox(),
            "seed": gr.Textbox(),
            "ddim_steps": gr.Slider(1, 50),
            "sampler": gr.Dropdown(["ddim", "plms"]),
        }

    with gr.Blocks():
        with gr.Tabs() as bar, gr.Tab("all"):
            tabs = {name: Tab(name, {"recipe": held()}) for name in ("text", "image")}
        tabs["gallery"] = Tab("gallery")
        return Filler(SimpleNamespace(bar=bar), tabs)


@pytest.fixture
def save(tmp_path):
    def saver(text):
        chunks = PngInfo()
        chunks.add_text("parameters", text)
        Image.new("RGB", (8, 8)).save(tmp_path / "x.png", pnginfo=chunks)
        return tmp_path / "x.png"

    return saver


def test_the_text_tab_takes_a_picture_from_text(filler, save):
    updates, said = filler.filled(save(RECIPE), "en")
    assert len(updates) == len(filler.outputs) == 9
    assert updates[:4] == ["a cat", "3", 20, "ddim"]
    assert all(each == gr.skip() for each in updates[4:8])
    assert "4 settings are in the tab Text" in said and "CFG scale 6.5" in said


def test_an_edit_begins_from_the_prompt_of_a_picture_that_is_sent_to_it(save, tmp_path):
    original, changed, seed = gr.Textbox(), gr.Textbox(), gr.Textbox()
    fields = own_fields({"sprompt": original, "prompt": original, "seed": seed})
    assert [*fields.values()] == [original, seed]
    updates, said = taken_over(save(RECIPE), fields, "edit", "en")
    assert updates == ["a cat", "3"] and "Edit" in said and "Steps 20" in said
    Image.new("RGB", (8, 8)).save(tmp_path / "bare.png")
    with pytest.raises(UserError):
        taken_over(tmp_path / "bare.png", {"prompt": changed}, "sweep", "en")


def test_the_image_tab_takes_a_picture_from_a_picture(filler, save):
    updates, said = filler.filled(save(RECIPE + ", Denoising strength: 0.4"), "ja")
    assert updates[4:8] == ["a cat", "3", 20, "ddim"] and "画像" in said
    assert all(each == gr.skip() for each in updates[:4])


def test_a_menu_takes_nothing_that_it_does_not_offer(filler, save):
    updates, _ = filler.filled(save(RECIPE.replace("DDIM", "Heun")), "en")
    assert updates[3] == gr.skip()


def test_a_tab_without_fields_for_controls_says_so(filler, save):
    text = RECIPE + ', ControlNet 0: "Module: canny, Model: net [ab], Weight: 1"'
    _, said = filler.filled(save(text), "en")
    assert "canny=net: this tab has no fields for controls" in said


def test_what_a_stranger_wrote_is_shown_as_text(filler, save):
    _, said = filler.filled(save(RECIPE + ", <script>: <img src=x>"), "en")
    assert "<script>" not in said and "<img" not in said


def test_a_picture_without_a_recipe_is_an_error_and_no_update(filler, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    with pytest.raises(UserError, match="does not say how it was made"):
        filler.filled(tmp_path / "plain.png", "en")


def test_a_picture_that_is_not_served_is_in_the_page_itself(tmp_path):
    Image.new("RGB", (900, 300), "red").save(tmp_path / "a.png")
    assert data_address(tmp_path / "a.png").startswith("data:image/jpeg;base64,")
    assert data_address(tmp_path / "gone.png") == ""
    assert "<img" not in picture_html(None, "x")
