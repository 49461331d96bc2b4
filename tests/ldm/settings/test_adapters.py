"""What the flags of adapters say: files with drives, scales at their ends, boxes, kinds."""

from __future__ import annotations

import pytest

from ldm.errors import UserError
from ldm.settings.adapters import (
    BoxWish,
    ControlWish,
    LoraWish,
    read_box,
    read_control,
    read_lora,
)
from ldm.settings.command_line import parse
from ldm.settings.generation import Txt2ImgSettings
from ldm.settings.low_memory import LowMemoryTxt2ImgSettings
from ldm.settings.swap import SwapSettings


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("ink", LoraWish("ink")),
        ("ink:0.8", LoraWish("ink", 0.8, 0.8)),
        ("a/ink.safetensors:0.8:-0.5", LoraWish("a/ink.safetensors", 0.8, -0.5)),
        (r"C:\lora\ink.pt", LoraWish(r"C:\lora\ink.pt")),
        (r"C:\lora\ink.pt:1:0", LoraWish(r"C:\lora\ink.pt", 1.0, 0.0)),
        ("C:/lora/ink.pt:.5", LoraWish("C:/lora/ink.pt", 0.5, 0.5)),
        ("v1.5:0.5", LoraWish("v1.5", 0.5, 0.5)),
    ],
)
def test_a_lora_is_a_file_with_a_scale_or_two(text, wish):
    assert read_lora(text) == wish


@pytest.mark.parametrize("text", ["ink:nan", "ink:inf:1", "ink:1:2:3", "ink:-1e400", ":0.5:0.5:1"])
def test_a_third_scale_and_one_that_is_not_finite_are_no_part_of_a_files_name(text):
    with pytest.raises(UserError, match="expected FILE, FILE:scale or FILE:scale:text scale"):
        read_lora(text)


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("canny=sd15:cat.png", ControlWish("canny", "sd15", "cat.png")),
        ("hint=a.pth:b.png:0.5", ControlWish("hint", "a.pth", "b.png", 0.5)),
        ("tile=a:b:1:0.1:0.9", ControlWish("tile", "a", "b", 1.0, 0.1, 0.9)),
        (r"hint=C:\a.pth:D:\b.png:1:0", ControlWish("hint", r"C:\a.pth", r"D:\b.png", 1.0, 0.0)),
        (r"hint=a:C:/b.png", ControlWish("hint", "a", "C:/b.png")),
        ("hint=a:5", ControlWish("hint", "a", "5")),
        ("reference=cat.png:0.5", ControlWish("reference", "", "cat.png", 0.5)),
        ("gligen=g.pth", ControlWish("gligen", "g.pth", "", 1.0, 0.0, 0.3)),
        ("gligen=g.pth:0.9:0:1", ControlWish("gligen", "g.pth", "", 0.9, 0.0, 1.0)),
    ],
)
def test_a_control_is_a_kind_its_file_and_its_picture(text, wish):
    assert read_control(text) == wish


@pytest.mark.parametrize("text", ["ink:0.5", "ink", r"C:\a.pt:0.5:1", "x:1.25:-2"])
def test_a_lora_is_written_as_it_is_read(text):
    assert read_lora(str(read_lora(text))) == read_lora(text)


@pytest.mark.parametrize(
    "text", ["canny=a:b.png:0.5:0:0.75", "reference=b.png:1:0:1", r"hint=C:\a:D:\b.png:1:0:1"]
)
def test_a_control_is_written_as_it_is_read(text):
    assert str(read_control(text)) == text


@pytest.mark.parametrize(
    ("read", "text", "said"),
    [
        (read_lora, "", "expected FILE"),
        (read_control, "cat.png", "expected KIND=FILE:IMAGE"),
        (read_control, "canny=a", r"expected canny=FILE:IMAGE\[:scale"),
        (read_control, "canny=a:b:c", r"expected canny=FILE:IMAGE\[:scale"),
        (read_control, "reference=a:b", r"expected reference=IMAGE\["),
        (read_control, "hint=a:b:1:0.9:0.1", "the start not above it"),
        (read_control, "hint=a:b:1:0:2", "a start and an end from 0 to 1"),
        (read_box, "cat", "expected words:x0"),
        (read_box, "cat:0,0,1", "expected words:x0"),
        (read_box, "cat:0.5,0,0.5,1", "expected words:x0"),
        (read_box, ":0,0,1,1", "expected words:x0"),
        (read_box, "cat:0,0,1,2", "expected words:x0"),
    ],
)
def test_what_is_malformed_is_told_in_one_line(read, text, said):
    with pytest.raises(UserError, match=said) as caught:
        read(text)
    assert "\n" not in str(caught.value)


def test_words_in_a_box_may_hold_colons():
    assert read_box("a sign: hi:0,0,1,1") == BoxWish("a sign: hi", (0.0, 0.0, 1.0, 1.0))


def test_flags_may_be_given_again():
    given = parse(Txt2ImgSettings, "", ["--lora", "a:0.5", "--lora", "b", "--embedding", "c"])
    settings = Txt2ImgSettings(**given)
    settings.validate()
    assert [wish.file for wish in settings.lora_wishes] == ["a", "b"]
    assert settings.embedding == ("c",)


def test_boxes_and_their_network_need_each_other():
    with pytest.raises(UserError, match="without --control gligen=FILE"):
        Txt2ImgSettings(box=("cat:0,0,1,1",)).validate()
    with pytest.raises(UserError, match="without --box"):
        Txt2ImgSettings(control=("gligen=g.pth",)).validate()
    Txt2ImgSettings(control=("gligen=g.pth",), box=("cat:0,0,1,1",)).validate()


def test_tags_of_loras_are_no_part_of_what_is_encoded():
    prompt = "a cat:1 <lora:ink:0.8> a <b>dog</b>:3"
    assert Txt2ImgSettings().mixture(prompt) == [("a cat:1  a <b>dog</b>:3", 1.0)]
    weighted = LowMemoryTxt2ImgSettings().mixture("cat:1 dog:3 <LoRA:ink:0.8>")
    assert weighted == [("cat", 0.25), ("dog", 0.75)]
    # Words are edited by where they stand in their prompt.
    assert SwapSettings().mixture(prompt) == [(prompt, 1.0)]
