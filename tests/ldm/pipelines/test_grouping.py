"""What may share a batch: every setting is in the group, or a row of a batch has its own."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
from drawing import image_settings, text_settings
from PIL import Image

from ldm.pipelines.grouping import OF_A_ROW, arithmetic_of, can_share, group_of, texts_of
from ldm.settings.inpaint import InpaintSettings, LowMemoryInpaintSettings
from ldm.settings.option import options_of

ONE = {"n_samples": 1, "n_iter": 1, "seed_mode": "per-image"}
OTHER = {"sampler": "euler", "spacing": "trailing", "precision": "full", "kernels": "auto"}
OTHER |= {"attention_backend": "math", "graphs": "auto", "batch_cfg": "off", "emphasis": "none"}
OTHER |= {
    "decode_beside": "auto",
    "prompt_syntax": "a1111",
    "reuse": "2",
    "guidance_interval": "0.2:0.8",
}
OTHER |= {"freeu": "1.1,1.2,0.9,0.2", "strength": 0.5, "decoder": "a.safetensors", "clip_skip": 2}


def request(pipeline, make=text_settings, *given, **changes):
    return pipeline.prepare(make(*given, **{**ONE, **changes}))


def changed(pipeline, one, name, value):
    """Return a request with one more setting, whatever it does to pictures."""
    return replace(one, settings=replace(one.settings, **{name: value}))


def value_for(each, now):
    if each.name in OTHER:
        return OTHER[each.name]
    if each.kind is bool:
        return not now
    return each.kind((now or 0) + 1) if each.kind is int else each.kind(0.5)


def test_each_setting_is_in_the_group_or_may_differ_between_rows(pipeline, init_img):
    for one in (request(pipeline), request(pipeline, image_settings, init_img)):
        for each in options_of(one.settings):
            if each.name in OF_A_ROW:
                continue
            value = value_for(each, getattr(one.settings, each.name))
            other = changed(pipeline, one, each.name, value)
            assert group_of(other) != group_of(one), each.name


def test_what_may_differ_between_rows_is_named_as_settings_are():
    assert {f.name for f in fields(LowMemoryInpaintSettings)} | {"H", "W"} >= OF_A_ROW


def test_prompts_seeds_scales_and_pictures_do_not_separate(pipeline, init_img, tmp_path):
    one = request(pipeline)
    more = {"prompt": "b", "negative_prompt": "c", "seed": 5, "scale": 2.0, "format": "jpg"}
    assert group_of(request(pipeline, **more)) == group_of(one)
    Image.fromarray(np.zeros((12, 16, 3), np.uint8)).save(tmp_path / "dark.png")
    dark = request(pipeline, image_settings, tmp_path / "dark.png")
    assert group_of(dark) == group_of(request(pipeline, image_settings, init_img))


def test_size_guidance_task_and_model_separate(pipeline, init_img):
    one = request(pipeline)
    others = [request(pipeline, H=12), request(pipeline, scale=1.0)]
    others.append(request(pipeline, image_settings, init_img))
    others.append(replace(one, choice=replace(one.choice)))
    assert len({group_of(each) for each in (one, *others)}) == 5


def test_what_cannot_share_has_a_group_of_its_own(pipeline, init_img):
    whole = request(pipeline)
    alone = [
        request(pipeline, n_samples=2),
        request(pipeline, seed_mode="compvis"),
        pipeline.prepare(whole.settings, place=whole.batches[0].places[0]),
    ]
    for each in alone:
        assert not can_share(each) and group_of(each) == group_of(each)
        assert group_of(each) not in {group_of(whole), group_of(replace(each))}
    assert can_share(whole)


def test_masks_of_one_size_do_not_separate(pipeline, init_img):
    marked = np.zeros((12, 16), np.uint8)
    masks = [marked.copy(), marked.copy()]
    masks[0][:6], masks[1][6:] = 255, 255
    settings = InpaintSettings(init_img=str(init_img), **ONE)
    made = [pipeline.prepare(settings, mask=Image.fromarray(mask)) for mask in masks]
    assert group_of(made[0]) == group_of(made[1])


def test_a_text_is_encoded_anew_where_its_reading_differs(pipeline):
    one = request(pipeline)
    assert texts_of(one) == texts_of(request(pipeline, H=12, ddim_steps=9, prompt="b"))
    assert texts_of(one) != texts_of(request(pipeline, prompt_syntax="a1111"))
    grammar = {"prompt_syntax": "a1111"}
    assert texts_of(request(pipeline, **grammar)) != texts_of(
        request(pipeline, ddim_steps=9, **grammar)
    )


def test_arithmetic_does_not_depend_on_steps_and_size(pipeline):
    one = request(pipeline)
    assert arithmetic_of(one) == arithmetic_of(request(pipeline, H=12, ddim_steps=9))
    assert arithmetic_of(one) != arithmetic_of(request(pipeline, kernels="auto"))


def test_groups_are_known_without_torch():
    code = "import sys, ldm.pipelines.grouping; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
