"""Recipes that strangers wrote into pictures: read in linear time, or refused in one line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from trust.guard import Result, faults, guarded

from ldm.budgets import MESSAGE, RECIPE_DEPTH, RECIPE_ENTRIES, RECIPE_LENGTH
from ldm.errors import UserError
from ldm.images.brackets import closing
from ldm.images.entries import entries_in
from ldm.images.io import load_image
from ldm.images.metadata import parse_parameters, read_parameters
from ldm.images.recipes import read_recipe
from ldm.pipelines.infotext import read_picture
from ldm.settings.generation import Img2ImgSettings, Txt2ImgSettings
from ldm.settings.low_memory import LowMemoryTxt2ImgSettings
from ldm.settings.prompt_weights import doubtful

MB = 10**6
PLAIN = "Steps: 9, Sampler: DDIM, CFG scale: 7, Seed: 1, Size: 64x64"
DIGITS = "9" * 5000


def of(piece: str, length: int) -> str:
    return piece * (length // len(piece))


def hostile_lines(length: int) -> dict[str, str]:
    """Return texts of about a length that AUTOMATIC1111's form may stumble over, by shape."""
    return {
        "brackets without an end": f"{PLAIN}, " + of("ab: [, ", length),
        "braces without an end": f"{PLAIN}, " + of("ab: {", length),
        "one bracket in another": f"{PLAIN}, Lo: " + of("[", length),
        "brackets that end far away": f"{PLAIN}, "
        + of("ab: {", length // 2)
        + of("}", length // 2),
        "a list without an end": f"{PLAIN}, ab: [" + of("[], ", length),
        "strings without an end": f"{PLAIN}, " + of('ab: "x, ', length),
        "strings in brackets": f"{PLAIN}, " + of('ab: ["', length),
        "backslashes": f'{PLAIN}, ab: "' + of("\\", length),
        "escaped marks": f'{PLAIN}, ab: [{{"' + of('\\"', length),
        "spaces": f"{PLAIN}, " + of(" ", length) + "x",
        "tabs before a key": f"{PLAIN}, " + of("\t", length) + "ab: 1",
        "a word": f"{PLAIN}, " + of("a", length),
        "words": f"{PLAIN}, " + of("a ", length),
        "dashes and colons": f"{PLAIN}, " + of("--:", length),
        "keys that are too long": f"{PLAIN}, " + of("a" + "-" * 70 + ":", length),
        "colons": f"{PLAIN}, " + of(":", length),
        "short keys": f"{PLAIN}, " + of("ab:,", length),
        "a quoted value, then spaces": f'{PLAIN}, ab: "x"' + of(" ", length) + "y",
        "lines of settings": of("Steps: [{\n", length),
        "negative prompts": of("Negative prompt: x\n", length) + PLAIN,
        "lines of extensions": f"{PLAIN}\n" + of("Aa: b\n", length),
        "weights": of("(a:1", length) + f"\n{PLAIN}",
        "a weight of digits": "(a:" + of("1", length) + f"x\n{PLAIN}",
        "colons and digits": of(":1 ", length) + f"\n{PLAIN}",
        "angles": of("<a:b", length) + f"\n{PLAIN}",
        "old samplers": f"Sampler:{of(' karras', length)}x, Steps: 9, Seed: 1",
        "token merging": f"{PLAIN}, "
        + ", ".join(f"Token merging {k}: 1" for k in range(length // 20)),
    }


def odd_values() -> Iterator[tuple[str, str]]:
    """Yield settings whose values no program wrote."""
    for key in (
        "Steps",
        "Seed",
        "CFG scale",
        "Size",
        "Clip skip",
        "Eta",
        "Batch size",
        "Iteration",
    ):
        for name, value in {
            "digits": DIGITS,
            "infinity": "1e999",
            "nan": "nan",
            "minus": "-1",
            "escape": "\x1b[31m\u202e",
            "other digits": "٣²①",
            "nothing": "",
        }.items():
            entries = dict(part.split(": ") for part in PLAIN.split(", "))
            entries[key] = value
            yield f"{key} {name}", ", ".join(f"{k}: {v}" for k, v in entries.items())
    yield "size of digits", PLAIN.replace("64x64", f"{DIGITS}x{DIGITS}")
    yield (
        "place of digits",
        f"{PLAIN}, Batch size: 1, Iteration: 1, Picture: 1, "
        + (f"Pictures per iteration: {DIGITS}"),
    )
    yield "exact prompt", f'{PLAIN}, Exact prompt: "\\ud800\\u0000"'
    yield "nul", f"a\0cat\n{PLAIN}, Model: a\0b"
    secret = "../../../../../../etc/passwd"
    for place in (
        secret,
        "/dev/zero",
        "/proc/self/mem",
        "//host/share/x.png",
        "\\\\host\\x",
        "a\0b",
    ):
        yield f"init image {place!r}", f"{PLAIN}, Denoising strength: 0.5, Init image: {place}"


def other_forms() -> Iterator[tuple[str, dict[str, str]]]:
    """Yield texts in the forms of other programs."""
    nested = {"arrays": of("[", MB), "objects": of('{"a":', MB), "pairs": of("[{", MB)}
    numbers = {"digits": f'{{"seed": {DIGITS}}}', "a million digits": f'{{"seed": {"9" * MB}}}'}
    numbers |= {"infinity": '{"seed": 1e999, "steps": Infinity, "cfg": NaN}'}
    kinds = {
        name: json.dumps(
            {"seed": value, "steps": value, "prompt": value, "model": value, "w": value}
        )
        for name, value in {"lists": [[[]]], "objects": {"a": {}}, "truths": True}.items()
    }
    lists = {"parts without texts": '{"image": {"prompt": [{"x": 1}]}, "prompt": [{"x": 1}]}'}
    lists |= {
        "an inner list": '{"sui_image_params": [1]}',
        "a small resolution": '{"resolution": "9"}',
    }
    lists |= {"many keys": json.dumps({f"k{k}": 1 for k in range(MB // 12)} | {"seed": 1})}
    for name, text in {**nested, **numbers, **kinds, **lists}.items():
        for key in ("parameters", "invokeai_metadata", "sd-metadata", "prompt"):
            yield f"{key} of {name}", {key: text if text.startswith("{") else f'{{"a": {text}'}
        yield f"NovelAI of {name}", {"Software": "NovelAI", "Comment": text}
    for name, text in {
        "flags": '"a" ' + of("-s 1 ", MB),
        "quotations": of('"a" ', MB),
        "no end": '"' + of("\\", MB) + "x",
        "a word": of("x", MB),
        "digits": f'"a" -S{DIGITS} -W {DIGITS} -H nan',
    }.items():
        yield f"Dream of {name}", {"Dream": text}
    yield "Easy Diffusion of digits", {"prompt": "a", "num_inference_steps": DIGITS, "seed": DIGITS}
    for name, graph in graphs():
        yield f"ComfyUI with {name}", {"prompt": json.dumps(graph)}


def graphs() -> Iterator[tuple[str, object]]:
    """Yield graphs that lead nowhere."""
    links = {"positive": ["1", 0], "negative": ["1", 0], "latent_image": ["1", 0]}
    sampler = {"class_type": "KSampler", "inputs": {"seed": 1, **links}}
    yield "a circle", {"1": sampler}
    texts = {
        str(k): {"class_type": "CLIPTextEncode", "inputs": {"text": [str(k + 1), 0]}}
        for k in range(2000)
    }
    yield (
        "a long chain",
        {**texts, "s": {**sampler, "inputs": {**sampler["inputs"], "positive": ["0", 0]}}},
    )
    yield "a node that is a list", {"1": [1]}
    yield "a class that is a list", {"1": {"class_type": ["KSampler"], "inputs": {}}}
    yield (
        "a class of a megabyte",
        {"1": {**sampler}, "2": {"class_type": "x" * (MB // 2), "inputs": {}}},
    )
    named = {**sampler, "inputs": {"seed": 1, "positive": ["2", 0]}}
    yield (
        "a prompt of another class",
        {"1": named, "2": {"class_type": "\x1b[2J" * 9999, "inputs": {}}},
    )
    yield "no inputs", {"1": {"class_type": "KSampler"}}
    yield "links of numbers", {"1": {"class_type": "KSampler", "inputs": dict.fromkeys(links, 5)}}
    yield "many nodes", {str(k): {"class_type": f"X{k}", "inputs": {}} for k in range(9999)}


def write(path: Path, texts: dict[str, str]) -> None:
    chunks = PngInfo()
    for key, text in texts.items():
        chunks.add_text(key, text.encode("latin-1", "backslashreplace"))
    Image.new("RGB", (64, 64)).save(path, pnginfo=chunks)


def redraw(path: Path) -> str:
    """Read a picture's recipe as every program does; return what is told, shortened as shown."""
    load_image(path)
    told = []
    for schema in (Txt2ImgSettings, LowMemoryTxt2ImgSettings, Img2ImgSettings):
        try:
            recorded = read_picture(str(path), schema)
        except UserError as error:
            told.append(str(error))
        else:
            doubtful(recorded.values["prompt"])
            told += recorded.notices
    assert all(len(each) <= 10 * MESSAGE for each in told)
    if told and not any(each for each in told if "made from text" not in each):
        return ""
    raise UserError(told[0] if told else "")


def cases(folder: Path) -> Iterator[tuple[str, Callable]]:
    write(folder / "x.png", {})
    load_image(folder / "x.png")
    lines = {**hostile_lines(MB), **dict(odd_values())}
    made = [(name, {"parameters": text}) for name, text in lines.items()]
    for number, (name, texts) in enumerate([*made, *other_forms()]):
        path = folder / f"{number}.png"
        write(path, texts)
        yield name, partial(redraw, path)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    return guarded(__file__, tmp_path_factory.mktemp("recipes"))


def test_each_recipe_is_read_or_refused_in_time_and_in_words(results: dict[str, Result]) -> None:
    assert len(results) >= 150
    assert not faults(results)


def calls_of(act: Callable[[], object]) -> int:
    """Count the calls of functions, Python's and C's, that an act takes."""
    count = 0

    def profile(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        act()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("shape", hostile_lines(0))
def test_work_grows_no_faster_than_a_text_does(shape: str) -> None:
    short, long = hostile_lines(4_000)[shape], hostile_lines(16_000)[shape]
    few, many = (calls_of(partial(parse_parameters, text)) for text in (short, long))
    assert many <= 4.5 * few + 100


class Counted(str):
    """A text that counts the characters which are cut out of it."""

    cut = 0

    def __getitem__(self, key: int | slice) -> str:
        part = super().__getitem__(key)
        Counted.cut += len(part)
        return part


@pytest.mark.parametrize("shape", hostile_lines(0))
def test_no_text_is_copied_over_and_over(shape: str) -> None:
    text = Counted(hostile_lines(20_000)[shape])
    Counted.cut = 0
    list(entries_in(text))
    assert Counted.cut <= 4 * len(text)


def test_few_brackets_without_an_end_do_not_have_the_line_read_for_each() -> None:
    pairs = 2_000
    line = "ab: [x, " * 30 + "[], " * pairs
    assert calls_of(lambda: list(entries_in(line))) < 50 * pairs


def test_brackets_are_paired_to_a_depth_and_no_deeper() -> None:
    deep = "[" * RECIPE_DEPTH + "]" * RECIPE_DEPTH
    assert closing(deep, 0) == len(deep)
    assert closing(f"[{deep}]", 0) is None
    assert closing('["]", {"a": "\\"]"}], x', 0) == 19


def test_a_bracket_within_brackets_without_an_end_is_still_read() -> None:
    line = 'Steps: 9, Model: [abc, Hashes: {"a": "b, c"}, Seed: 1'
    assert dict(entries_in(line))["Hashes"] == '{"a": "b, c"}'


def test_a_text_that_is_too_long_is_no_recipe_and_one_line_says_so(tmp_path, caplog) -> None:
    path = tmp_path / "x.png"
    for length, there in ((RECIPE_LENGTH, True), (RECIPE_LENGTH + 1, False)):
        caplog.clear()
        write(path, {"parameters": f"{'x' * (length - len(PLAIN) - 1)}\n{PLAIN}"})
        assert (read_recipe(path) is not None) == there == (read_parameters(path) is not None)
        assert load_image(path).size == (64, 64)
        lines = {record.getMessage() for record in caplog.records}
        assert len(lines) == (not there)
        assert all(str(path) in line and str(length) in line for line in lines)


def test_more_settings_than_a_recipe_has_are_refused(tmp_path) -> None:
    path = tmp_path / "x.png"
    for count, there in ((RECIPE_ENTRIES, True), (RECIPE_ENTRIES + 1, False)):
        more = ", ".join(f"key {k}: 1" for k in range(count - 5))
        write(path, {"parameters": f"a cat\n{PLAIN}, {more}"})
        if there:
            assert len(read_recipe(path).entries) == count
        else:
            with pytest.raises(UserError, match=f"holds {count} settings"):
                read_recipe(path)


def test_names_and_values_of_a_recipe_are_quoted_short_and_legible(tmp_path) -> None:
    path = tmp_path / "x.png"
    write(path, {"parameters": f"a cat\n{PLAIN}, Model: \x1b[2J, Strange: {'y' * 9999}"})
    notices = "\n".join(read_picture(str(path), Txt2ImgSettings).notices)
    assert "Strange yyy" in notices and len(notices) < 1000
