"""The studio in a real browser, on the bundled model: each tab is used as a person would.

Needs gradio, the package playwright, and a Chromium on this machine (Debian: apt-get install
chromium); skipped, saying what is missing, where one is absent.
"""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
from browsing import NEEDS_CHROMIUM, drag, driver
from PIL import Image
from running import ROOT
from studio_page import draw_one, few_steps, newest, open_tab, wait_for_end

pytest.importorskip("gradio", reason="needs gradio: pip install -e '.[web]'")
driver()
pytestmark = NEEDS_CHROMIUM

SKETCH = ROOT / "assets" / "sketch.png"
CONTROL = "document.querySelector('#text-control input')?.value"


def test_ctrl_enter_draws_and_a_reload_keeps_words_settings_and_pictures(visit):
    page = visit()
    few_steps(page, "text")
    page.fill("#text-prompt textarea", "a photo of a cat on a blue background")
    page.keyboard.press("Control+Enter")
    wait_for_end(page, "text")
    assert newest(page, "text").std() > 10
    assert "1 picture in" in page.inner_text("#text-status")
    seed = page.input_value("#text-used textarea, #text-used input")
    page.reload()
    page.wait_for_selector("#text-gallery img")
    assert page.input_value("#text-prompt textarea") == "a photo of a cat on a blue background"
    assert page.input_value("#text-ddim_steps input[type=number]") == "4"
    assert page.input_value("#text-used textarea, #text-used input") == seed
    page.fill("#text-prompt textarea", "a photo of a dog")
    few_steps(page, "text", steps=300)
    page.click("#text-draw")
    page.wait_for_selector("#text-cancel", state="visible")
    assert page.query_selector("#text-gallery img"), "pictures stay while the next are drawn"
    page.click("#text-cancel")
    page.wait_for_selector("#text-draw", state="visible")
    assert "Stopped after" in page.inner_text("#text-status")


def test_a_mistake_is_told_beside_the_button_and_leaves_with_the_next_run(visit):
    page = visit()
    few_steps(page, "text")
    page.click("text=More settings >> visible=true")
    page.fill("#text-seed textarea, #text-seed input", "many")
    page.click("#text-draw")
    page.wait_for_selector("#text-status [role=alert]")
    assert "“Seed” many was given" in page.inner_text("#text-status")
    page.click("#text-dice")
    page.click("#text-draw")
    page.wait_for_selector("#text-gallery img")
    page.wait_for_selector("#text-draw", state="visible")
    assert not page.query_selector("#text-status [role=alert]")


def test_the_picture_goes_from_tab_to_tab(visit):
    page = visit()
    few_steps(page, "text")
    page.fill("#text-prompt textarea", "a photo of a red apple")
    page.click("#text-draw")
    wait_for_end(page, "text")
    page.click("#text-to-image")
    page.wait_for_selector("#image-picture img")
    assert page.input_value("#image-prompt textarea") == "a photo of a red apple"
    few_steps(page, "image", steps=5)
    page.click("#image-draw")
    wait_for_end(page, "image")
    assert newest(page, "image").shape == (64, 64, 3)
    page.click("#image-to-enlarge")
    page.wait_for_selector("#enlarge-picture img")
    few_steps(page, "enlarge", steps=5)
    page.click("#enlarge-draw")
    wait_for_end(page, "enlarge")
    assert newest(page, "enlarge").shape == (128, 128, 3)
    page.click("#enlarge-to-sweep")
    page.wait_for_selector("#sweep-draw", state="visible")
    assert page.input_value("#sweep-prompt textarea") == "a photo of a red apple"
    open_tab(page, "text")
    page.click("#text-to-edit")
    page.wait_for_selector("#edit-draw", state="visible")
    assert page.input_value("#edit-sprompt textarea") == "a photo of a red apple"


def test_what_is_painted_over_is_drawn_anew_and_the_rest_is_kept_to_the_bit(visit):
    page = visit()
    open_tab(page, "repaint")
    page.set_input_files("#repaint-picture input[type=file]", os.fspath(SKETCH))
    page.wait_for_selector("#repaint-picture button[aria-label=Brush]")
    page.wait_for_timeout(2000)  # the editor has no sign of having sent the picture
    box = page.locator("#repaint-picture canvas").nth(1).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    drag(page, (x - 20, y), (x + 20, y))
    few_steps(page, "repaint", steps=5)
    page.click("#repaint-draw")
    wait_for_end(page, "repaint")
    original = np.asarray(Image.open(SKETCH).convert("RGB"))
    changed = (newest(page, "repaint") != original).any(-1)
    assert changed[32, 32]
    assert not changed[:8].any()
    page.check("#repaint-invert_mask input")
    page.click("#repaint-draw")
    wait_for_end(page, "repaint")
    assert (newest(page, "repaint") != original).any(-1)[:8].any(), "all else is drawn anew"


def test_a_reload_keeps_a_picture_and_what_was_painted_over_it_as_a_mask(visit):
    page = visit()
    open_tab(page, "repaint")
    page.set_input_files("#repaint-picture input[type=file]", os.fspath(SKETCH))
    page.wait_for_selector("#repaint-picture button[aria-label=Brush]")
    blank = kept_layer(page)
    box = page.locator("#repaint-picture canvas").nth(1).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    drag(page, (x - 20, y), (x + 20, y))
    kept_layer(page, other_than=blank)
    page.reload()
    page.wait_for_selector("#upload-trouble >> text=as the mask below")
    open_tab(page, "repaint")
    page.wait_for_selector("#repaint-picture button[aria-label=Brush]")
    page.click("text=Upload a mask >> visible=true")
    source = page.get_attribute("#repaint-mask img", "src")
    mask = np.asarray(Image.open(io.BytesIO(page.request.get(source).body())).convert("L"))
    assert set(np.unique(mask)) == {0, 255} and mask[32, 32] == 255 and not mask[:8].any()
    few_steps(page, "repaint", steps=5)
    page.click("#repaint-draw")
    wait_for_end(page, "repaint")
    changed = (newest(page, "repaint") != np.asarray(Image.open(SKETCH).convert("RGB"))).any(-1)
    assert changed[32, 32] and not changed[:8].any()
    page.reload()
    page.wait_for_selector("#text-draw")
    open_tab(page, "repaint")
    page.click("text=Upload a mask >> visible=true")
    page.wait_for_selector("#repaint-mask img")
    assert not page.inner_text("#upload-trouble").strip(), "it is a mask now, and no news"


def kept_layer(page, other_than=""):
    """Return the file of what is painted over, once the browser keeps another than before."""
    kept = """before => {
      const { given } = JSON.parse(localStorage.getItem("studio") || "{}");
      const path = given?.["repaint-picture"]?.layers?.[0]?.path;
      return path && path !== before ? path : null;
    }"""
    return page.wait_for_function(kept, arg=other_than).json_value()


def test_words_are_edited_and_each_gets_a_map(visit):
    page = visit()
    open_tab(page, "edit")
    few_steps(page, "edit")
    page.click("#edit-draw")
    wait_for_end(page, "edit")
    page.wait_for_selector("#maps img")
    assert len(page.query_selector_all("#edit-gallery .grid-container button")) == 2


def test_two_visitors_wait_for_one_another_and_keep_their_own(visit):
    one, two = visit(), visit()
    few_steps(one, "text", steps=500, pictures=8)  # longer than the other has to wait
    one.click("#text-draw")
    one.wait_for_selector("#text-status .bar")
    few_steps(two, "text")
    two.click("#text-draw")
    two.wait_for_selector("text=Number 2 in line")
    one.click("#text-cancel")
    wait_for_end(two, "text")
    assert two.query_selector("#text-gallery img")
    one.wait_for_selector("#text-draw", state="visible")
    assert not one.query_selector("#text-gallery img")


def drop_what_the_browser_was_given(page, file):
    """Drop the newest picture, after the words have become others."""
    source = page.get_attribute("#text-gallery img", "src")
    file.write_bytes(page.request.get(source).body())
    page.click("#tab-text-button")
    page.fill("#text-prompt textarea", "something else")
    page.click("#text-shelf button")
    page.wait_for_selector("#text-adapter-about >> text=demo-outline")
    page.click("#text-insert")
    inserted = (
        "document.querySelector('#text-prompt textarea').value.includes('<lora:demo-outline')"
    )
    page.wait_for_function(inserted)
    open_tab(page, "gallery")
    page.click("text=Drop a picture >> visible=true")
    page.set_input_files("#gallery-drop input[type=file]", os.fspath(file))
    page.wait_for_selector("#text-draw", state="visible")


def test_a_picture_is_found_judged_drawn_again_thrown_away_and_dropped(visit, served, tmp_path):
    page = visit()
    draw_one(page, "a photo of an owl on a green background", "11")
    first = newest(page, "text")
    page.click("#tab-feedback-button")
    page.fill("#feedback-person input, #feedback-person textarea", "Ada")
    open_tab(page, "gallery")
    page.fill("#gallery-search input, #gallery-search textarea", "owl seed:11")
    page.click("#gallery-find")
    page.wait_for_selector("#gallery-found >> text=1 picture, page 1 of 1")
    page.click("#gallery-grid .grid-container button")
    page.wait_for_selector("#gallery-gallery img")
    recipe = page.locator("#gallery-recipe textarea")
    assert "prompt: a photo of an owl on a green background" in recipe.input_value()
    page.click("#gallery-opinion button")
    page.click("#gallery-up")
    page.click("#gallery-stars label:nth-of-type(5)")
    page.wait_for_selector("#gallery-opinion-said >> text=👍 ★★★★★")
    page.click("#gallery-draw")
    wait_for_end(page, "gallery")
    assert (newest(page, "gallery") == first).all()
    page.click("#gallery-find")
    page.wait_for_selector("#gallery-found >> text=2 pictures")
    page.click("#gallery-throw")
    page.wait_for_selector("#gallery-found >> text=1 picture")
    page.click("#gallery-bin button")
    page.wait_for_selector("#gallery-bin-said >> text=1 picture in the bin")
    (thrown,) = (served[1] / "out/.trash").rglob("*.png")
    for hidden in (thrown, served[1] / "out/feedback.sqlite", "/etc/hostname"):
        address = f"http://127.0.0.1:{served[0]}/gradio_api/file={hidden}"
        assert page.request.get(address).status == 404
    page.click("#gallery-restore")
    page.wait_for_selector("#gallery-found >> text=2 pictures")
    page.click("#tab-feedback-button")
    page.wait_for_selector("#feedback-judged >> text=about 1 picture; good: 1")
    page.click("#feedback-folder")
    page.wait_for_selector("#feedback-said >> text=training/liked-0000")
    assert len(list((served[1] / "out/training/liked-0000").glob("*.png"))) == 1
    drop_what_the_browser_was_given(page, tmp_path / "dropped.png")
    prompt = page.input_value("#text-prompt textarea")
    assert prompt == "a photo of an owl on a green background"
    assert page.input_value("#text-seed textarea, #text-seed input") == "11"


def choose(page, menu, text):
    page.click(f"#{menu} input")
    page.click(f"ul[role=listbox] li:has-text('{text}')")


def test_a_control_holds_the_picture_in_its_box_and_its_recipe_fills_the_fields(visit, tmp_path):
    page = visit()
    page.click("#text-controls button")
    choose(page, "text-control", "demo-boxes")
    page.fill("#text-prompt textarea", "a photo of a red car on a blue background")
    page.fill("#text-seed textarea, #text-seed input", "5")
    few_steps(page, "text", steps=10)
    page.click("#text-draw")
    page.wait_for_selector("#text-status >> text=no picture for it to look at")
    page.wait_for_selector("#text-draw", state="visible")
    box = ROOT / "assets" / "box.png"
    page.set_input_files("#text-control-picture input[type=file]", os.fspath(box))
    page.wait_for_selector("#text-control-picture img")
    page.click("#text-draw")
    wait_for_end(page, "text")
    pixels = newest(page, "text").astype(float)
    white = np.asarray(Image.open(box).convert("L").resize((64, 64))) > 127
    away = np.abs(pixels - pixels[2, 2]).mean(-1)
    assert away[white].mean() > 3 * away[~white].mean(), "the car is in the box"
    source = page.get_attribute("#text-gallery img", "src")
    (tmp_path / "boxed.png").write_bytes(page.request.get(source).body())
    page.click("#text-to-image-prompt")
    page.wait_for_selector("#text-image-prompt-picture img")
    choose(page, "text-control", "—")
    open_tab(page, "gallery")
    page.click("text=Drop a picture >> visible=true")
    page.set_input_files("#gallery-drop input[type=file]", os.fspath(tmp_path / "boxed.png"))
    page.wait_for_selector("#text-draw", state="visible")
    page.wait_for_function(f"{CONTROL} == 'demo-boxes'")
    open_tab(page, "gallery")
    page.wait_for_selector("#gallery-dropped >> text=that demo-boxes looked at")
    page.reload()
    page.wait_for_selector("#text-gallery img")
    page.click("#text-controls button")
    page.wait_for_function(f"{CONTROL} == 'demo-boxes'")
    page.wait_for_selector("#text-control-picture img")


def test_a_sweep_and_a_lesson_leave_sheets_and_the_menu_names_the_model(visit):
    page = visit()
    assert page.input_value("#model input") == "demo"
    page.click("#load-model")
    page.wait_for_selector("#model-said >> text=demo is loaded.")
    open_tab(page, "sweep")
    page.fill("#sweep-x input, #sweep-x textarea", "scale: 1, 3")
    page.fill("#sweep-y input, #sweep-y textarea", "seed: 1-2")
    page.fill("#sweep-ddim_steps input[type=number]", "4")
    page.wait_for_selector("#sweep-estimate >> text=4 pictures (2 × 2), 16 steps")
    page.click("#sweep-draw")
    wait_for_end(page, "sweep")
    assert newest(page, "sweep").shape[1] > 2 * 64
    link = page.wait_for_selector("#sweep-table a[download='sheet-0000.csv']")
    assert link.get_attribute("href").startswith("data:text/csv;base64,")
    page.fill("#sweep-x input, #sweep-x textarea", "lora: none, x")
    page.wait_for_selector("#sweep-estimate >> text=cannot vary on this page")
    open_tab(page, "learn")
    page.wait_for_selector("text=never draws a line")
    page.click("#learn-draw")
    wait_for_end(page, "learn")
    assert newest(page, "learn").shape[1] > 2 * 256
    page.click("#learn-lesson label >> nth=5")
    page.wait_for_selector("text=averaged over all steps")
    page.click("#learn-draw")
    wait_for_end(page, "learn")
    page.wait_for_function(
        "document.querySelectorAll('#learn-gallery .grid-container img').length == 2"
    )
