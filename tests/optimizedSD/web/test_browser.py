"""The pages in a real browser, against the bundled model: type, press, see the picture arrive.

Needs gradio, the package playwright, and a Chromium on this machine (Debian: apt-get install
chromium); skipped, saying what is missing, where one is absent.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

import numpy as np
import pytest
from browsing import NEEDS_CHROMIUM, drag, driver, visiting
from PIL import Image
from running import ROOT, start_program

pytest.importorskip("gradio", reason="needs gradio: pip install -e '.[web]'")
driver()
pytestmark = NEEDS_CHROMIUM

SKETCH = ROOT / "assets" / "sketch.png"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Return a function that starts a page's program, once, and gives its port and folder."""
    begun = {}

    def serve(program):
        if program not in begun:
            folder = tmp_path_factory.mktemp("page")
            with socket.socket() as listener:
                listener.bind(("127.0.0.1", 0))
                port = listener.getsockname()[1]
            flags = ("--device", "cpu", "--port", port, "--outdir", "out", "--max_steps", "500")
            process = start_program(f"optimizedSD/{program}", *flags, cwd=folder)
            begun[program] = process, port, folder
            lines = iter(process.stdout.readline, "")
            assert any(f"http://127.0.0.1:{port}/" in line for line in lines)
        _, port, folder = begun[program]
        return port, folder

    yield serve
    for process, _, _ in begun.values():
        process.terminate()  # as a container does; the pages end as with Ctrl-C
        assert process.wait(timeout=60) == 0


@pytest.fixture
def visit(browser, served):
    """Return a function that opens a page; nothing on it may come from other machines."""
    with visiting(browser) as visit:
        yield lambda program: visit(served(program)[0], "#draw", 1360, 1000)


def set_steps(page, steps=4, pictures=1):
    page.fill("#ddim_steps input", str(steps))
    page.fill("#n_samples input", str(pictures))


def press_and_wait(page):
    """Press Draw; return the address of the picture that arrives."""
    page.click("#draw")
    wait_for_end(page)
    page.wait_for_selector("#gallery img")
    return page.get_attribute("#gallery img", "src")


def wait_for_end(page):
    """Wait until a run that was just begun has ended."""
    page.wait_for_selector("#draw", state="hidden")
    page.wait_for_selector("#draw", state="visible")


def fetch(page, address):
    """Return the picture that the browser was given, with its file's parameters."""
    import io

    image = Image.open(io.BytesIO(page.request.get(address).body()))
    return np.asarray(image.convert("RGB")), image.info.get("parameters")


def test_a_text_is_typed_and_its_picture_arrives(visit, served):
    page = visit("txt2img_gradio.py")
    assert page.input_value("#prompt textarea") == "a photo of a panda on a red background"
    page.fill("#prompt textarea", "a photo of a cat on a blue background")
    set_steps(page)
    pixels, parameters = fetch(page, press_and_wait(page))
    assert pixels.shape == (64, 64, 3)
    assert pixels.std() > 10
    assert parameters == page.input_value("#parameters textarea")
    assert parameters.startswith("a photo of a cat on a blue background\n")
    seed = page.input_value("#used textarea")
    assert f"Seed: {seed}," in parameters
    assert "1 picture in" in page.inner_text("#status")
    assert "too small for the watermark" in page.inner_text("#notices")
    _, folder = served("txt2img_gradio.py")
    assert list((folder / "out").rglob(f"seed_{seed}_*.png"))
    assert seed in (folder / "logs" / "txt2img_gradio_logs.csv").read_text(encoding="utf-8")


def test_the_seed_shown_draws_the_same_picture_again(visit):
    page = visit("txt2img_gradio.py")
    set_steps(page)
    first, _ = fetch(page, press_and_wait(page))
    page.fill("#seed textarea", page.input_value("#used textarea"))
    page.click("#draw")
    wait_for_end(page)
    second, _ = fetch(page, page.get_attribute("#gallery img", "src"))
    assert np.array_equal(first, second)


def test_a_mistake_is_an_error_on_the_page_and_can_be_mended(visit):
    page = visit("txt2img_gradio.py")
    set_steps(page, steps=0)
    page.click("#draw")
    page.wait_for_selector("#status [role=alert]")
    text = page.inner_text("#status [role=alert]")
    assert text == "Not drawn: “Steps” 0 was given; expected a whole number, 1 or more; change it"
    page.wait_for_selector("#draw", state="visible")
    assert not page.query_selector_all(".toast-body")
    set_steps(page)
    page.press("#prompt textarea", "Control+Enter")
    wait_for_end(page)
    assert page.get_attribute("#gallery img", "src")
    assert not page.query_selector_all("#status [role=alert]")


def test_a_run_is_cancelled_and_one_that_nobody_watches_stops(visit):
    page = visit("txt2img_gradio.py")
    set_steps(page, steps=500)
    page.click("#draw")
    page.wait_for_selector("#status .bar")
    page.click("#cancel")
    page.wait_for_selector("#draw", state="visible")
    assert "Stopped after" in page.inner_text("#status")
    page.click("#draw")
    page.wait_for_selector("text=of 500 steps")
    page.goto("about:blank")
    other = visit("txt2img_gradio.py")
    set_steps(other)
    assert press_and_wait(other), "the run that was left still has the model"


def test_a_reload_keeps_what_was_entered_and_drawn(visit):
    page = visit("txt2img_gradio.py")
    set_steps(page, pictures=2)
    page.fill("#seed textarea, #seed input", "7")
    press_and_wait(page)
    page.fill("#prompt textarea", "a photo of a dog on a green background")
    page.reload()
    page.wait_for_selector("#gallery img")
    assert page.input_value("#prompt textarea") == "a photo of a dog on a green background"
    assert page.input_value("#ddim_steps input") == "4"
    assert page.input_value("#used textarea") == "7"
    page.click("#gallery button.thumbnail-item >> nth=0")
    page.wait_for_function("document.querySelector('#parameters textarea').value.includes('ed: 7')")
    page.click("text=More settings")
    page.click("#reset")
    assert page.input_value("#ddim_steps input") == "20"


def test_pictures_stay_while_the_next_run_has_none(visit):
    page = visit("txt2img_gradio.py")
    set_steps(page)
    kept = press_and_wait(page)
    set_steps(page, steps=500)
    page.click("#draw")
    page.wait_for_selector("text=of 500 steps")
    page.wait_for_selector("#status img.preview")
    assert page.get_attribute("#gallery img", "src") == kept
    page.click("#cancel")
    page.wait_for_selector("text=Stopped after")
    assert page.get_attribute("#gallery img", "src") == kept
    assert "the same as in the last run" in page.inner_text("#notices")


def test_a_second_visitor_sees_the_place_in_the_line_and_can_give_it_up(visit):
    first, second = visit("txt2img_gradio.py"), visit("txt2img_gradio.py")
    set_steps(first, steps=500)
    first.click("#draw")
    first.wait_for_selector("text=of 500 steps")
    second.click("#draw")
    second.wait_for_selector("text=Number 2 in line: 1 run is before yours.")
    second.click("#cancel")
    second.wait_for_selector("text=nothing was finished")
    assert first.is_visible("#cancel")
    first.click("#cancel")
    first.wait_for_selector("#draw", state="visible")


def test_what_is_no_picture_is_told_by_its_name_until_one_is_given(visit, tmp_path):
    bad = tmp_path / "notes.png"
    bad.write_text("this is no picture")
    page = visit("img2img_gradio.py")
    page.wait_for_selector("#picture canvas")
    page.set_input_files("#picture input[type=file]", bad)
    page.wait_for_selector("#upload-trouble >> text=“notes.png” is not a picture")
    upload(page, SKETCH)
    page.wait_for_selector("#upload-trouble .told", state="detached")
    page.reload()
    page.wait_for_selector("#picture canvas")
    page.wait_for_selector("#picture button[aria-label=Brush], #picture button[aria-label=Crop]")
    page.wait_for_timeout(1000)
    set_steps(page, steps=5)
    assert press_and_wait(page), "the picture was not kept"


def test_a_server_that_is_gone_is_one_message_until_it_is_back(visit):
    page = visit("txt2img_gradio.py")
    set_steps(page, steps=500)
    page.click("#draw")
    page.wait_for_selector("text=of 500 steps")
    page.context.set_offline(True)
    page.wait_for_selector("#trouble >> text=The server does not answer.")
    assert not page.is_visible("#status") and not page.is_visible("#cancel")
    page.context.set_offline(False)
    page.wait_for_selector("#trouble .told", state="detached")


def test_a_page_speaks_the_browsers_language(browser, served):
    port, _ = served("txt2img_gradio.py")
    for locale, draw, own in (("ja-JP", "描く", "一枚ごと"), ("zh-TW", "繪圖", "每張各一")):
        context = browser.new_context(locale=locale, viewport={"width": 390, "height": 844})
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        page.wait_for_selector(f"#draw:has-text('{draw}')")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.click("button.label-wrap >> nth=0")
        page.wait_for_function(f"document.querySelector('#seed_mode input')?.value === '{own}'")
        context.close()


def test_a_sketch_is_uploaded_and_its_picture_arrives(visit):
    page = visit("img2img_gradio.py")
    upload(page, SKETCH)
    set_steps(page, steps=5)
    pixels, parameters = fetch(page, press_and_wait(page))
    assert pixels.shape == (64, 64, 3)
    assert "Denoising strength: 0.75" in parameters
    assert np.abs(pixels.astype(int) - np.asarray(Image.open(SKETCH).convert("RGB"))).mean() > 1


def test_a_picture_is_cropped_before_it_is_drawn_from(visit, tmp_path):
    wide = tmp_path / "wide.png"
    Image.open(SKETCH).convert("RGB").resize((256, 128)).save(wide)
    page = visit("img2img_gradio.py")
    upload(page, wide)
    page.click("#picture button[aria-label=Image]")
    page.click("#picture button[aria-label=Crop]")
    box = page.locator("#picture canvas").nth(1).bounding_box()
    # The editor leaves a margin of a twentieth beside the picture, and the toolbar's above it.
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2 - 20
    drag(page, (x + 0.45 * box["width"], y), (x, y))  # the right edge to the middle
    page.click("#picture button[aria-label='Confirm crop']")
    page.wait_for_timeout(2000)
    set_steps(page, steps=5)
    pixels, _ = fetch(page, press_and_wait(page))
    # Half of 256x128 is square; as it was uploaded it would be 64x32.
    assert pixels.shape == (64, 64, 3)


def test_what_is_painted_over_is_drawn_anew_and_the_rest_is_kept_to_the_bit(visit):
    page = visit("inpaint_gradio.py")
    upload(page, SKETCH)
    box = page.locator("#picture canvas").nth(1).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    drag(page, (x - 20, y), (x + 20, y))
    set_steps(page, steps=5)
    pixels, parameters = fetch(page, press_and_wait(page))
    original = np.asarray(Image.open(SKETCH).convert("RGB"))
    changed = (pixels != original).any(-1)
    assert "Inpaint area" in parameters
    assert changed[32, 32]
    rows, columns = np.nonzero(changed)
    assert rows.min() > 8  # the stroke, and its soft edge
    assert rows.max() < 56
    assert columns.min() > 4
    assert columns.max() < 60


def test_a_mask_is_uploaded_in_place_of_painting(visit, tmp_path):
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 32:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    page = visit("inpaint_gradio.py")
    upload(page, SKETCH)
    page.click("text=Upload a mask")
    page.set_input_files("#mask input[type=file]", tmp_path / "mask.png")
    page.wait_for_selector("#mask img")
    page.fill("#mask_blur textarea, #mask_blur input", "0")
    set_steps(page, steps=5)
    pixels, _ = fetch(page, press_and_wait(page))
    original = np.asarray(Image.open(SKETCH).convert("RGB"))
    assert np.array_equal(pixels[:, :32], original[:, :32])
    assert not np.array_equal(pixels[:, 32:], original[:, 32:])


def test_an_edit_is_typed_its_words_are_weighed_and_each_gets_a_map(visit):
    page = visit("swap_gradio.py")
    page.fill("#sprompt textarea", "a photo of a panda on a red background")
    page.fill("#prompt textarea", "a photo of a dog on a green background")
    weigh(page, "green", "2")
    assert page.input_value("#reweight textarea, #reweight input") == "green=2"
    set_steps(page)
    press_and_wait(page)
    page.wait_for_selector("#maps img")
    source, edit = (button.bounding_box() for button in page.query_selector_all(PICTURES))
    assert source["y"] == edit["y"]
    assert source["x"] + source["width"] <= edit["x"]
    assert [each.inner_text() for each in page.query_selector_all("#gallery .caption-label")] == [
        f"source, seed {page.input_value('#used textarea')}",
        f"edit, seed {page.input_value('#used textarea')}",
    ]
    words = ["a", "photo", "of", "a", "dog", "on", "a", "green", "background"]
    assert [each.inner_text() for each in page.query_selector_all("#maps .caption-label")] == words
    assert len(page.query_selector_all("#maps img")) == len(words)
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert "Edit weights: green=2" in page.input_value("#parameters textarea")
    page.click(PICTURES)  # the source
    page.wait_for_selector("#maps >> text=/of the source looks/")
    assert page.input_value("#parameters textarea").startswith("a photo of a panda on a red")


def test_words_of_japanese_prompts_are_weighed_and_a_word_that_is_not_there_is_told(visit):
    page = visit("swap_gradio.py")
    page.fill("#sprompt textarea", "赤い背景の猫の写真")
    page.fill("#prompt textarea", "緑の背景の犬の写真")
    weigh(page, "犬", "1.5")
    page.fill("#reweight textarea, #reweight input", "象=2")
    page.click("#draw")
    page.wait_for_selector("#status [role=alert]")
    text = page.inner_text("#status")
    assert "'象' is not in the prompt '緑の背景の犬の写真'; expected one of its words" in text
    page.fill("#reweight textarea, #reweight input", "犬=1.5")
    page.wait_for_selector("#words label:has-text('犬 ×1.5')")
    set_steps(page)
    press_and_wait(page)
    page.wait_for_selector("#maps >> text=犬")


def test_a_phone_shows_the_edit_without_scrolling_sideways(visit):
    page = visit("swap_gradio.py")
    page.set_viewport_size({"width": 390, "height": 844})
    weigh(page, "cat", "2")
    set_steps(page)
    press_and_wait(page)
    page.wait_for_selector("#maps img")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    source, edit = (button.bounding_box() for button in page.query_selector_all(PICTURES))
    assert source["y"] == edit["y"]


PICTURES = "#gallery .grid-container button"


def weigh(page, word, weight):
    """Click the chip of a word, and set its weight on the slider that comes."""
    page.click(f"#words label:has-text('{word}')")
    page.wait_for_selector(f"#weight >> text=Weight of “{word}”")
    page.fill("#weight input[type=number]", weight)
    page.wait_for_selector(f"#words label:has-text('{word} ×{weight}')")


def upload(page, path: Path):
    """Give the editor a picture, and wait until it shows it."""
    page.wait_for_selector("#picture canvas")
    page.set_input_files("#picture input[type=file]", os.fspath(path))
    page.wait_for_selector("#picture button[aria-label=Brush], #picture button[aria-label=Crop]")
    page.wait_for_selector("#picture >> text=/select the draw tool/", state="hidden")
    page.wait_for_timeout(2000)  # the editor has no sign of having sent the picture
