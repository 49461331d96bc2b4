"""A dropped picture fills the fields that it says something for, and the rest is said."""

from __future__ import annotations

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from apps.studio.dropped import dropped
from ldm.errors import UserError

WEB_UI = (
    "a cat\nNegative prompt: fog\nSteps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: "
    "6.5, Seed: 3, Size: 512x640, Clip skip: 2, RP Active: True, Model: v1-5"
)


@pytest.fixture
def save(tmp_path):
    def saver(text, name="x.png"):
        chunks = PngInfo()
        chunks.add_text("parameters", text)
        Image.new("RGB", (8, 8)).save(tmp_path / name, pnginfo=chunks)
        return tmp_path / name

    return saver


def test_all_that_is_understood_fills_a_field(save):
    found = dropped(save(WEB_UI))
    expected = {"prompt": "a cat", "negative_prompt": "fog", "ddim_steps": 20, "seed": 3}
    expected |= {"sampler": "dpmpp_2m", "spacing": "karras", "scale": 6.5, "W": 512, "H": 640}
    assert {name: found.values[name] for name in expected} == expected
    assert found.tab == "text" and found.source.startswith("AUTOMATIC1111")
    assert any("RP Active" in each for each in found.sentences)


def test_what_the_page_has_no_field_for_is_said_and_left_out(save):
    found = dropped(save(WEB_UI), {"prompt", "seed"})
    assert found.values == {"prompt": "a cat", "seed": 3}
    (left_out,) = [each for each in found.sentences if "left out" in each]
    assert "Clip skip 2" in left_out and "Steps 20" in left_out and "Seed" not in left_out


def test_a_value_out_of_range_is_one_line_and_never_a_fields(save):
    with pytest.raises(UserError, match=f"{2**70}.*expected a whole number"):
        dropped(save(WEB_UI.replace("Seed: 3", f"Seed: {2**70}")))


def test_a_picture_of_a_picture_goes_to_the_image_tab(save):
    found = dropped(save(WEB_UI.replace("RP Active: True", "Denoising strength: 0.4")))
    assert (found.tab, found.values["strength"]) == ("image", 0.4)


def test_a_picture_that_says_nothing_is_one_line(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.webp")
    with pytest.raises(UserError, match=r"plain\.webp does not say how it was made"):
        dropped(tmp_path / "plain.webp")
    (tmp_path / "no.png").write_text("words")
    with pytest.raises(UserError):
        dropped(tmp_path / "no.png")
