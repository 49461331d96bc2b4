"""Prompts that are drawn from templates: whose seed draws them, and what pictures tell of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from drawing import image_settings, text_settings

from ldm.errors import UserError
from ldm.images.io import save_picture
from ldm.images.metadata import parse_parameters
from ldm.pipelines.batches import Place
from ldm.pipelines.infotext import read_picture
from ldm.pipelines.known_words import notices_on_words
from ldm.pipelines.request import prepare_from_flags
from ldm.pipelines.together import draw_together, group_of
from ldm.pipelines.wildcards import Templates
from ldm.settings.generation import Txt2ImgSettings
from ldm.settings.low_memory import LowMemoryTxt2ImgSettings
from ldm.settings.swap import SwapSettings

TEMPLATE = "a __pets__ on a {red|blue|green} {mat|chair}"
NEGATIVE = "{grey|a __pets__|dark|}"
PER_IMAGE = {"seed_mode": "per-image"}


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wildcards")
    (folder / "pets.txt").write_text("cat\ndog\nfox\nfrog\n", encoding="utf-8")
    (folder / "weighed.txt").write_text("a cat:1 a dog:3\na cat:0\n", encoding="utf-8")
    return str(folder)


@pytest.fixture
def request_of(pipeline, lists):
    """Return what prepares the request of a template."""

    def make(settings=text_settings, **given):
        return pipeline.prepare(settings(**{"prompt": TEMPLATE, "wildcards": lists, **given}))

    return make


def prompts_of(request):
    """Return the prompts of a run in the order of its pictures, as its batches have them."""
    return [prompt for batch in request.batches for prompt in batch.prompts]


@pytest.mark.parametrize("mode", ["compvis", "per-image"])
def test_picture_i_has_draw_seed_plus_i_whatever_the_batches(mode, request_of, lists):
    own = Templates(lists)
    expected = [own.prompt(TEMPLATE, 5 + i) for i in range(12)]
    assert len(set(expected)) > 4
    for n_samples, n_iter in ((12, 1), (1, 12), (4, 3), (6, 2)):
        request = request_of(seed=5, seed_mode=mode, n_samples=n_samples, n_iter=n_iter)
        assert prompts_of(request) == expected == list(request.prompts)
        assert request.pictures == 12
    assert prompts_of(request_of(seed=9, seed_mode=mode, n_samples=1, n_iter=1)) == [expected[4]]


def test_each_line_of_a_file_is_a_template(request_of, tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("a __pets__\n{x|y}\nplain\n", encoding="utf-8")
    request = request_of(from_file=str(file), n_iter=4, n_samples=2)
    found = prompts_of(request)
    assert request.pictures == len(found) == 12
    assert set(found[0::3]) <= {f"a {pet}" for pet in ("cat", "dog", "fox", "frog")}
    assert set(found[1::3]) == {"x", "y"} and set(found[2::3]) == {"plain"}


def test_variations_of_a_picture_have_one_prompt(request_of, lists):
    request = request_of(seed=7, subseed=3, subseed_strength=0.2, n_samples=5, n_iter=1)
    assert set(prompts_of(request)) == {Templates(lists).prompt(TEMPLATE, 7)}


def test_without_wildcards_a_prompt_stays_and_is_no_template(pipeline):
    request = pipeline.prepare(text_settings(prompt=TEMPLATE))
    assert set(request.prompts) == {TEMPLATE} and not request.templates
    picture = next(pipeline.generate(request))
    assert picture.prompt == TEMPLATE and "Template" not in picture.parameters


def test_a_picture_tells_its_prompt_and_its_template_and_is_redrawn_to_the_bit(
    pipeline, request_of, tmp_path
):
    for given in ({}, PER_IMAGE):
        request = request_of(negative_prompt=NEGATIVE, n_samples=2, n_iter=2, **given)
        *_, last = pipeline.generate(request)
        prompt, negative, entries = parse_parameters(last.parameters)
        assert prompt == last.prompt == request.prompts[3]
        assert negative == request.negatives[3]
        assert (entries["Template"], entries["Negative Template"]) == (TEMPLATE, NEGATIVE)
        file = tmp_path / f"{request.settings.seed_mode}.png"
        save_picture(last.pixels, file, metadata=last.parameters)
        values, place = read_picture(str(file), Txt2ImgSettings).rerun({})
        again = pipeline.generate(Txt2ImgSettings(**values), place=place)
        (redrawn,) = again
        assert np.array_equal(redrawn.pixels, last.pixels)
        assert redrawn.parameters == last.parameters


def test_a_recorded_template_is_drawn_from_again_where_wildcards_are_given(
    pipeline, request_of, tmp_path, tiny_ckpt, lists
):
    request = request_of(n_samples=2, n_iter=1)
    *_, last = pipeline.generate(request)
    file = tmp_path / "last.png"
    save_picture(last.pixels, file, metadata=last.parameters)
    given = {"from_image": str(file), "ckpt": str(tiny_ckpt), "wildcards": lists}
    again = prepare_from_flags(Txt2ImgSettings, given)
    assert list(again.prompts) == [last.prompt]
    assert again.settings.template == TEMPLATE
    other = prepare_from_flags(Txt2ImgSettings, {**given, "n_samples": 9, "n_iter": 1})
    assert other.templates == [TEMPLATE] * 9 and len(set(other.prompts)) > 2
    mine = prepare_from_flags(Txt2ImgSettings, {**given, "prompt": "a {x|x}"})
    assert list(mine.prompts) == ["a x"] and mine.settings.template == "a {x|x}"
    del given["wildcards"]
    assert prepare_from_flags(Txt2ImgSettings, {**given, "prompt": "x"}).settings.template == ""


def test_the_extensions_own_lines_are_read_as_templates(tmp_path):
    text = (
        "a cat\nNegative prompt: grey\nSteps: 5, Sampler: DDIM, CFG scale: 3, Seed: 3, Size: 8x8\n"
        "Template: a __pets__, {big|small}\nNegative Template: {grey|dark}"
    )
    file = tmp_path / "theirs.png"
    save_picture(np.zeros((64, 64, 3), np.uint8), file, metadata=text)
    values = read_picture(str(file), Txt2ImgSettings).values
    assert (values["prompt"], values["negative_prompt"]) == ("a cat", "grey")
    assert values["template"] == "a __pets__, {big|small}"
    assert values["negative_template"] == "{grey|dark}"
    values = read_picture(str(file), Txt2ImgSettings, {"wildcards", "negative_prompt"}).values
    assert values["prompt"] == "a __pets__, {big|small}"
    assert "negative_template" not in values


@pytest.mark.parametrize("syntax", ["compvis", "a1111"])
def test_each_row_of_a_batch_has_its_own_negative_prompt(syntax, pipeline, request_of):
    rest = {**PER_IMAGE, "prompt_syntax": syntax, "negative_prompt": NEGATIVE}
    batch = request_of(seed=1, n_samples=4, n_iter=1, **rest)
    assert len(set(batch.negatives)) > 1
    for k, picture in enumerate(pipeline.generate(batch)):
        alone = request_of(seed=1 + k, n_samples=1, n_iter=1, **rest)
        (one,) = pipeline.generate(alone)
        assert (one.prompt, alone.negatives) == (picture.prompt, [batch.negatives[k]])
        assert np.abs(one.pixels.astype(int) - picture.pixels).max() <= 1
        # And it is what was encoded: as typed out.
        typed = {"prompt": one.prompt, "negative_prompt": alone.negatives[0], "wildcards": None}
        (plain,) = pipeline.generate(replace(alone.settings, **typed))
        assert np.array_equal(plain.pixels, one.pixels)


def test_a_batch_that_is_cut_keeps_its_rows_together(request_of):
    (batch,) = request_of(negative_prompt=NEGATIVE, n_samples=5, n_iter=1).batches
    parts = list(batch.parts(2))
    for name in ("prompts", "negatives", "templates"):
        assert sum((getattr(part, name) for part in parts), ()) == getattr(batch, name)


def test_pictures_of_other_templates_share_a_batch_and_are_what_they_are_alone(
    pipeline, request_of
):
    one = {**PER_IMAGE, "n_samples": 1, "n_iter": 1}
    asked = [
        request_of(seed=3, **one),
        request_of(prompt="{x|y} z", negative_prompt="{a|b}", **one),
    ]
    assert group_of(asked[0]) == group_of(asked[1])
    for index, picture in draw_together(pipeline, asked):
        (alone,) = pipeline.generate(asked[index])
        assert (picture.parameters, picture.pixels.tobytes()) == (
            alone.parameters,
            alone.pixels.tobytes(),
        )


def test_image_to_image_has_them_too(pipeline, request_of, init_img, lists):
    request = request_of(image_settings, init_img=str(init_img), n_samples=2, n_iter=1, seed=1)
    assert prompts_of(request) == [Templates(lists).prompt(TEMPLATE, seed) for seed in (1, 2)]
    assert [p.prompt for p in pipeline.generate(request)] == prompts_of(request)


def test_the_picture_at_a_place_of_a_run_is_that_of_the_run(pipeline, lists, request_of):
    settings = request_of(n_samples=3, n_iter=2).settings
    request = pipeline.prepare(settings, place=Place(1, 2, 3, 3))
    assert request.settings.prompt == Templates(lists).prompt(TEMPLATE, settings.seed + 5)


def test_what_was_drawn_is_translated_and_the_template_stays_as_it_was_typed(pipeline, lists):
    settings = text_settings(prompt="{猫|犬}の写真", negative_prompt="{赤|青}", wildcards=lists)
    request = pipeline.prepare(replace(settings, n_samples=6, n_iter=1))
    assert all(text.isascii() for text in (*request.prompts, *request.negatives))
    assert len(set(request.prompts)) == len(set(request.negatives)) == 2
    assert request.settings.prompt == "{猫|犬}の写真"
    assert not any("{" in text for pair in request.settings.originals for text in pair)
    picture = next(pipeline.generate(request))
    entries = parse_parameters(picture.parameters)[2]
    assert entries["Template"] == "{猫|犬}の写真"
    assert entries["Original prompt"] in ("猫の写真", "犬の写真")


def test_unknown_words_are_those_that_were_drawn(pipeline, request_of):
    request = request_of(negative_prompt=NEGATIVE, n_samples=6, n_iter=1)
    knows = ["a", "on", "red", "blue", "green", "mat", "chair", "grey", "dark", "cat", "dog", "fox"]
    (said,) = notices_on_words(replace(request, choice=replace(request.choice, knows=knows)))
    assert said.unknown == ("frog",)


def test_all_that_could_go_wrong_is_said_before_anything_is_drawn(pipeline, lists, request_of):
    for prompt, told in (("a __pet__", "__pets__"), ("a {b", "closed"), ("__weighed__", "weight")):
        settings = LowMemoryTxt2ImgSettings(prompt=prompt, wildcards=lists, seed=1, n_samples=9)
        with pytest.raises(UserError, match=told):
            pipeline.prepare(settings)
    with pytest.raises(UserError, match="--wildcards .* does not exist"):
        request_of(wildcards=f"{lists}/none")
    LowMemoryTxt2ImgSettings(prompt="{2::a|b:0} c:1", wildcards=lists).validate()


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("a __pets__ on a {red|blue} mat", ["'__pets__', '{red|blue}'; --wildcards FOLDER"]),
        ("a snake__case {cat}", []),
        ("a [red|blue] cat", []),
    ],
)
def test_what_looks_like_a_template_and_is_drawn_as_text_is_told_once(prompt, told, tiny_ckpt):
    given = {"prompt": prompt, "negative_prompt": prompt, "ckpt": str(tiny_ckpt)}
    said = prepare_from_flags(Txt2ImgSettings, given).notices
    assert len(said) == len(told) and all(a in b for a, b in zip(told, said, strict=True))


def test_nothing_is_told_where_templates_are_drawn_or_cannot_be(tiny_ckpt, lists):
    given = {"prompt": "a __pets__", "ckpt": str(tiny_ckpt)}
    assert not prepare_from_flags(Txt2ImgSettings, {**given, "wildcards": lists}).notices
    assert not prepare_from_flags(SwapSettings, given).notices
