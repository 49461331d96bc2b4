"""Axes and the plan of a sweep: any setting of a picture, every combination once."""

from __future__ import annotations

import pytest

from ldm.errors import UserError
from ldm.settings.generation import Img2ImgSettings, Txt2ImgSettings
from ldm.sweeps.axes import read_axis, sweepable
from ldm.sweeps.plan import plan_sweep

BASE = Txt2ImgSettings(prompt="a cat and a cat", negative_prompt="no cat", n_samples=1, n_iter=1)


def axis(text, schema=Txt2ImgSettings):
    return read_axis(text, schema)


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("scale: 1-3", "scale", (1.0, 2.0, 3.0)),
        ("CFG scale: 1", "scale", (1.0,)),
        ("Steps: 5, 10", "ddim_steps", (5, 10)),
        ("--ddim_steps: 5", "ddim_steps", (5,)),
        ("Sampler: DPM++ 2M, DDIM, euler_a", "sampler", ("dpmpp_2m", "ddim", "euler_a")),
        ("schedule type: Karras", "spacing", ("karras",)),
        ("seed: 9007199254740993", "seed", (2**53 + 1,)),
        ("W: 64, 128", "W", (64, 128)),
        ("width: 64", "W", (64,)),
        ("Prompt S/R: cat, dog", "prompt", ("cat", "dog")),
        ("negative_prompt: blur, dark", "negative_prompt", ("blur", "dark")),
        ("use_ema: on, off", "use_ema", (True, False)),
        ("checkpoint: a.ckpt", "ckpt", ("a.ckpt",)),
        ("decoder: none, tiny.pth", "decoder", (None, "tiny.pth")),
        ("precision: FULL", "precision", ("full",)),
    ],
)
def test_an_axis_is_a_setting_by_its_flag_or_by_its_usual_name(text, name, values):
    read = axis(text)
    assert (read.name, read.values) == (name, values)


def test_an_adapter_is_an_axis_too():
    read = axis("lora: none, a.safetensors:0.5")
    assert read.values[0] == () and len(read.values[1]) == 1


def test_strength_varies_where_there_is_a_picture_alone():
    assert axis("Denoising strength: 0.2-0.8 [3]", Img2ImgSettings).values == (0.2, 0.5, 0.8)
    with pytest.raises(UserError, match="setting of txt2img"):
        axis("strength: 0.5")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("scale", "a colon"),
        (": 1", "a colon"),
        ("scale:", "a colon"),
        ("scael: 1", "did you mean scale"),
        ("outdir: a, b", "one of the whole run"),
        ("n_samples: 1, 2", "one of the whole run"),
        ("scale: cat", "expected numbers"),
        ("ddim_steps: 1.5", "whole number"),
        ("ddim_steps: 0", "1 or more"),
        ("sampler: dimm", "expected ddim"),
        ("use_ema: maybe", "expected on"),
    ],
)
def test_a_wrong_axis_is_refused_with_what_is_expected(text, hint):
    with pytest.raises(UserError, match=hint) as refused:
        axis(text)
    assert "\n" not in str(refused.value)


def test_every_combination_is_drawn_once_and_x_is_fastest():
    sweep = plan_sweep(BASE, [axis("scale: 1-3"), axis("seed: 5, 6"), axis("sampler: ddim, plms")])
    assert sweep.shape == (3, 2, 2)
    drawn = [(c.settings.scale, c.settings.seed, c.settings.sampler) for c in sweep.cells]
    assert len(set(drawn)) == 12
    assert drawn[:4] == [(1, 5, "ddim"), (2, 5, "ddim"), (3, 5, "ddim"), (1, 6, "ddim")]
    assert [cell.place for cell in sweep.cells][:4] == [(0, 0, 0), (1, 0, 0), (2, 0, 0), (0, 1, 0)]
    assert sweep.values_at((2, 1, 0)) == {"x: scale": "3", "y: seed": "6", "z: sampler": "ddim"}


def test_the_first_text_is_replaced_by_each_in_both_prompts():
    cells = plan_sweep(BASE, [axis("prompt: cat, dog, two cats")]).cells
    assert [cell.settings.prompt for cell in cells] == [
        "a cat and a cat",
        "a dog and a dog",
        "a two cats and a two cats",
    ]
    assert [cell.settings.negative_prompt for cell in cells] == ["no cat", "no dog", "no two cats"]


def test_a_text_that_is_in_no_prompt_is_an_error_not_a_row_of_equal_pictures():
    with pytest.raises(UserError, match="'bird' is to be replaced"):
        plan_sweep(BASE, [axis("prompt: bird, dog")])


@pytest.mark.parametrize(
    ("axes", "hint"),
    [
        ([], "no axis was given"),
        (["scale: 1", "CFG: 2"], "two axes"),
        (["seed: 1-100", "scale: 1-11"], "1100 pictures; expected at most 1000"),
        (["sampler: plms", "spacing: karras"], "x: sampler plms, y: spacing karras"),
    ],
)
def test_an_impossible_sweep_is_refused_before_anything_is_drawn(axes, hint):
    with pytest.raises(UserError, match=hint):
        plan_sweep(BASE, [axis(text) for text in axes])


def test_settings_of_the_whole_run_are_no_axes():
    assert not {"outdir", "from_image", "n_iter", "device"} & set(sweepable(Txt2ImgSettings))
    assert {"scale", "seed", "sampler", "prompt", "lora", "freeu", "ckpt"} <= set(
        sweepable(Txt2ImgSettings)
    )
