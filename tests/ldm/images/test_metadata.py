"""Generation parameters as text and inside picture files."""

from __future__ import annotations

import doctest
import json
import logging
import random
import re
import struct

import numpy as np
import pytest
from PIL import Image

from ldm.errors import UserError
from ldm.images import embed, metadata
from ldm.images.io import encode_picture, save_picture
from ldm.images.metadata import format_parameters, parse_parameters, read_parameters, split_sampler

SETTINGS = {"Steps": 50, "Sampler": "PLMS", "CFG scale": 7.5, "Seed": 42, "Size": "512x512"}
AS_TEXT = {key: str(value) for key, value in SETTINGS.items()}
PICTURE = np.zeros((8, 8, 3), np.uint8)

PROMPTS = [
    "a photograph of an astronaut riding a horse",
    "",
    "草原に立つ猫、夕焼け",
    "قطة تجلس على السطح، غروب",
    "👩‍🚀🐎 in space 🏴󠁧󠁢󠁳󠁣󠁴󠁿",
    "two\nlines\n\nand a gap",
    "  spaces around \t ",
    "\nbegins and ends with a line break\n",
    "windows\r\nline break, old mac\rline break",
    "Negative prompt: is how this one begins",
    "first\nNegative prompt: second\nNegative prompt: third",
    "a cat\nSteps: 20, Sampler: Euler a, Seed: 1, Size: 64x64",
    "Steps: 20, Sampler: Euler a, Seed: 1, Size: 64x64",
    '"quoted", (weighted:1.3), [a|b], {"json": [1, 2]}, back\\slash',
    "café naïve œuvre: ½ price",
    "line\u2028separator and\x85next line and\x0bvertical tab and \x00 nul",
    "\ufeffbyte order mark",
    "surrogate \udcff of a broken command line",
    'Exact prompt: "nonsense"',
]


@pytest.mark.parametrize("negative", PROMPTS)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_every_prompt_reads_back_as_it_was_written(prompt, negative):
    text = format_parameters(prompt, negative, SETTINGS)
    assert parse_parameters(text) == (prompt, negative, AS_TEXT)


def random_text(rng):
    """A text made of the pieces that could confuse a reader."""
    pieces = [
        *PROMPTS,
        "\n",
        "\n\n",
        "Negative prompt:",
        "Steps: 1, Seed: 2, Size: 3x4",
        ": ",
        ", ",
    ]
    pieces += [
        '"',
        "\\",
        "\\n",
        "[",
        "{",
        "]",
        "}",
        " ",
        "\t",
        "\r",
        "日",
        "😀",
        "é",
        "a",
        "Exact ",
    ]
    return "".join(rng.choice(pieces) for _ in range(rng.randrange(7)))


def test_random_texts_of_any_kind_read_back_as_they_were_written():
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    for _ in range(1500):
        values = {key: random_text(rng) for key in ("Model", "Sampler", "Lora hashes", "2 x-y/z")}
        prompt, negative = random_text(rng), random_text(rng)
        text = format_parameters(prompt, negative, values)
        assert parse_parameters(text) == (prompt, negative, values), f"seed {seed}"
        text.encode("utf-8")


def test_random_characters_read_back_as_they_were_written():
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    for _ in range(500):
        ranges = [(0, 0x80), (0x80, 0x100), (0x100, 0xD800), (0xE000, 0x110000)]
        low, high = rng.choice(ranges)
        prompt, value = (
            "".join(chr(rng.randrange(low, high)) for _ in range(rng.randrange(20)))
            for _ in range(2)
        )
        text = format_parameters(prompt, value, {**SETTINGS, "Model": value})
        assert parse_parameters(text) == (prompt, value, {**AS_TEXT, "Model": value}), (
            f"seed {seed}"
        )


def test_an_ordinary_text_is_exactly_what_the_web_ui_writes():
    settings = {**SETTINGS, "Model": "v1-4", "VAE": None, "Lora hashes": "a: 12, b: 34"}
    assert format_parameters("a cat\nin a hat", "dog, mouse", settings) == (
        "a cat\nin a hat\n"
        "Negative prompt: dog, mouse\n"
        "Steps: 50, Sampler: PLMS, CFG scale: 7.5, Seed: 42, Size: 512x512, Model: v1-4, "
        'Lora hashes: "a: 12, b: 34"'
    )


@pytest.mark.parametrize(
    ("value", "written"),
    [("v1-4", "v1-4"), ("v1:5", '"v1:5"'), ("a, b", '"a, b"'), ("a\nb", '"a\\nb"')],
)
def test_values_are_quoted_where_the_web_ui_quotes_them(value, written):
    text = format_parameters("a cat", "", {**SETTINGS, "Model": value})
    assert text.endswith(f"Model: {written}")


def web_ui_reading(text):
    """Read settings with the pattern that the web UI documents for this line."""
    pattern = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
    return {key: value for key, value in pattern.findall(text.strip().split("\n")[-1])}


@pytest.mark.parametrize("prompt", PROMPTS)
def test_other_programs_find_the_settings_whatever_the_prompt(prompt):
    read = web_ui_reading(format_parameters(prompt, "", SETTINGS))
    assert {key: read[key] for key in SETTINGS} == AS_TEXT


def test_other_programs_read_the_exact_prompt_as_json():
    prompt = "first\nNegative prompt: second"
    read = web_ui_reading(format_parameters(prompt, "", SETTINGS))
    assert json.loads(read["Exact prompt"]) == prompt


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_settings_to_be_recognised_are_refused(count):
    with pytest.raises(ValueError, match="at least 3"):
        format_parameters("a", "", dict(list(SETTINGS.items())[:count]))


@pytest.mark.parametrize("key", ["", "x", "a:b", "a,b", " a b", "a b ", "a\nb", "x" * 80])
def test_a_setting_whose_name_cannot_be_written_is_refused(key):
    with pytest.raises(ValueError, match="setting name"):
        format_parameters("a", "", {**SETTINGS, key: 1})


@pytest.mark.parametrize("key", ["Exact prompt", "Exact negative prompt"])
def test_reserved_names_are_refused(key):
    with pytest.raises(ValueError, match="reserved"):
        format_parameters("a", "", {**SETTINGS, key: 1})


def test_a_text_of_stable_diffusion_cpp_is_read_in_spite_of_its_bare_json():
    tail = '{"prompt":{"positive":"a, b: c","negative":"\\"x\\" }"},"seed":7,"loras":[{"n":1}]}'
    text = (
        "un faro — 灯台\nNegative prompt: borroso\n"
        "Steps: 20, CFG scale: 7.000000, SLG scale: 2.5, Skip layers: [7, 8, 9, ], "
        "Guidance: 3.5, Seed: 42, Size: 512x768, Model: sd.ckpt, Sampler: euler karras, "
        f"Version: stable-diffusion.cpp, SDCPP: {tail}"
    )
    prompt, negative, settings = parse_parameters(text)
    assert (prompt, negative) == ("un faro — 灯台", "borroso")
    assert settings["Skip layers"] == "[7, 8, 9, ]"
    assert settings["Guidance"] == "3.5"
    assert settings["SDCPP"] == tail
    assert split_sampler(settings) == ("euler", "karras")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"Sampler": "DPM++ 2M Karras"}, ("DPM++ 2M", "Karras")),
        ({"Sampler": "DPM++ 2M SDE Exponential"}, ("DPM++ 2M SDE", "Exponential")),
        ({"Sampler": "Euler a"}, ("Euler a", None)),
        ({"Sampler": "DPM++ 2M", "Schedule type": "Karras"}, ("DPM++ 2M", "Karras")),
        ({"Sampler": "Karras"}, ("Karras", None)),
        ({}, ("", None)),
    ],
)
def test_sampler_and_schedule_are_told_apart_in_old_and_new_files(settings, expected):
    assert split_sampler(settings) == expected


def test_settings_are_found_although_an_extension_added_lines_after_them():
    text = "a cat\nSteps: 20, Sampler: DDIM, Seed: 3\nTemplate: a {cat|dog}"
    prompt, _, settings = parse_parameters(text)
    assert prompt == "a cat"
    assert settings["Seed"] == "3"


@pytest.mark.parametrize(
    "text", ["just a prompt", "two\nlines", "Steps: 3, of a stair", "a: b, c: d", "{", ""]
)
def test_a_text_without_settings_is_all_prompt(text):
    assert parse_parameters(text) == (text, "", {})


def test_quotes_and_brackets_that_never_close_do_not_swallow_the_rest():
    settings = parse_parameters('x\nSteps: "20, Model: [a, Seed: 5, VAE: {"b, Size: 8x8')[2]
    assert settings["Seed"] == "5"
    assert settings["Size"] == "8x8"


def test_a_quoted_text_that_is_no_json_is_kept_as_it_is():
    assert parse_parameters('Steps: 1, Seed: 2, Model: "a\\qb"')[2]["Model"] == '"a\\qb"'


def test_a_very_long_prompt_is_parsed_in_linear_time():
    prompt = "word " * 40_000
    assert parse_parameters(format_parameters(prompt, prompt, SETTINGS))[0] == prompt


@pytest.mark.parametrize("file_format", ["png", "jpg"])
@pytest.mark.parametrize("prompt", [p for p in PROMPTS if "\udcff" not in p])
def test_every_prompt_survives_in_a_file(tmp_path, file_format, prompt):
    text = format_parameters(prompt, prompt, SETTINGS)
    path = save_picture(PICTURE, tmp_path / f"a.{file_format}", metadata=text)
    assert read_parameters(path) == text
    assert parse_parameters(read_parameters(path)) == (prompt, prompt, AS_TEXT)


@pytest.mark.parametrize("file_format", ["png", "jpg"])
def test_text_that_no_encoding_can_write_does_not_cost_the_picture(tmp_path, file_format):
    path = save_picture(PICTURE, tmp_path / f"a.{file_format}", metadata="broken \udcff byte")
    assert read_parameters(path) == "broken \ufffd byte"


def test_png_uses_a_latin_chunk_where_it_can_and_a_utf8_chunk_elsewhere():
    assert b"tEXtparameters\0caf\xe9" in encode_picture(PICTURE, "png", "café")
    assert "猫".encode() in encode_picture(PICTURE, "png", "猫")
    assert b"iTXtparameters\0" in encode_picture(PICTURE, "png", "猫")


def test_jpeg_uses_the_user_comment_in_big_endian_utf16():
    data = encode_picture(PICTURE, "jpg", "猫 cat")
    comment = b"UNICODE\0" + "猫 cat".encode("utf-16-be")
    assert comment in data
    # The tag's entry: number, the type UNDEFINED that strict readers ask for, and the length.
    assert struct.pack(">HHI", 0x9286, 7, len(comment)) in data


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16"])
def test_little_endian_comments_of_other_programs_are_read(tmp_path, encoding):
    exif = Image.Exif()
    text = format_parameters("猫", "", SETTINGS)
    exif[0x8769] = {0x9286: b"UNICODE\0" + text.encode(encoding)}
    Image.fromarray(PICTURE).save(tmp_path / "a.jpg", exif=exif)
    assert read_parameters(tmp_path / "a.jpg") == text


def test_ascii_comments_of_other_programs_are_read(tmp_path):
    exif = Image.Exif()
    exif[0x8769] = {0x9286: b"ASCII\0\0\0a cat"}
    Image.fromarray(PICTURE).save(tmp_path / "a.jpg", exif=exif)
    assert read_parameters(tmp_path / "a.jpg") == "a cat"


@pytest.mark.parametrize("file_format", ["png", "jpg"])
def test_a_picture_without_parameters_has_none(tmp_path, file_format):
    assert read_parameters(save_picture(PICTURE, tmp_path / f"a.{file_format}")) is None


def test_a_text_too_long_for_jpeg_is_left_out_with_a_warning(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        path = save_picture(PICTURE, tmp_path / "a.jpg", metadata="x" * 40_000)
    assert read_parameters(path) is None
    assert "--format png" in caplog.text


@pytest.mark.parametrize("file_format", ["png", "jpg"])
@pytest.mark.parametrize("text", [None, "a cat"])
def test_every_file_says_that_it_comes_from_a_model(tmp_path, file_format, text):
    path = save_picture(PICTURE, tmp_path / f"a.{file_format}", metadata=text)
    with Image.open(path) as image:
        xmp = image.info.get("xmp") or image.info[embed.XMP_KEYWORD]
    xmp = xmp if isinstance(xmp, str) else xmp.decode("utf-8")
    kind = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    assert re.search(rf"<Iptc4xmpExt:DigitalSourceType>{kind}</", xmp)


def test_reading_the_parameters_of_no_picture_is_a_users_error(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_parameters(tmp_path / "a.png")


def test_the_examples_in_the_documentation_hold():
    assert doctest.testmod(metadata).failed == 0
    assert doctest.testmod(metadata).attempted > 3
