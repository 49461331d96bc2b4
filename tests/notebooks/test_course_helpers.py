"""What the course draws with: the same pictures by this project and by the diffusers library."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from running import ROOT

sys.path.append(str(ROOT / "notebooks"))  # as the notebooks do

from course_helpers import BY_DIFFUSERS, ByLdm, find_thing, load, suitable_scale

from ldm.errors import UserError
from ldm.pipelines.models import find_model
from ldm.settings.generation import Txt2ImgSettings

PROMPTS = ["a photo of a cat", "a photo of a dog on a red background"]


@pytest.fixture(scope="module")
def studio(tiny_ckpt):
    return load(str(tiny_ckpt))


def noise(count=1, seed=0):
    return torch.randn(count, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def gap(one, other) -> int:
    return int(np.abs(np.asarray(one, int) - np.asarray(other, int)).max())


def test_the_bundled_model_is_the_default_and_says_what_suits_it():
    choice = find_model(Txt2ImgSettings(ckpt="models/ldm/demo/model.safetensors"))
    assert suitable_scale(choice) == 3.0
    v1 = find_model(
        Txt2ImgSettings(
            ckpt="models/ldm/demo/model.safetensors",
            config="configs/stable-diffusion/v1-inference.yaml",
        )
    )
    assert suitable_scale(v1) == 7.5


def test_a_picture_is_its_noise_and_prompt_whatever_is_drawn_along(studio):
    # The model's weights are random, so that words weigh little: guidance is strong here.
    options = {"steps": 2, "scale": 60.0}
    both = studio.draw(PROMPTS, noise(2), **options)
    alone = studio.draw(PROMPTS[1:], noise(2)[1:], **options)
    assert gap(both[1], alone[0]) <= 1 and gap(*both) > 5
    first = {"prompts": PROMPTS[:1], "noise": noise(2)[:1]}
    for other in ({"scale": 1.0}, {"negative": "a dog"}, {"steps": 1}, {"noise": noise(seed=9)}):
        assert gap(both[0], studio.draw(**{**first, **options, **other})[0]) > 5, other


def test_redrawing_keeps_the_picture_at_0_and_nothing_of_it_at_1(studio):
    one, other = (Image.new("RGB", (16, 16), colour) for colour in ("red", "blue"))
    options = {"prompt": PROMPTS[0], "noise": noise(), "steps": 4}
    kept = studio.redraw(one, strength=0.0, **options)
    assert gap(kept, studio.model.decode_latent(studio.model.encode_picture(one))[0]) == 0
    drawn = [studio.redraw(each, strength=1.0, **options) for each in (one, other)]
    halves = [studio.redraw(each, strength=0.5, **options) for each in (one, other)]
    assert gap(*drawn) < gap(*halves)


def test_redrawing_begins_with_as_much_noise_as_its_first_step_expects(studio, monkeypatch):
    calls, model = [], studio.model
    apply_model = model.apply_model
    monkeypatch.setattr(
        model, "apply_model", lambda x, t, c: calls.append((x, t)) or apply_model(x, t, c)
    )
    red = Image.new("RGB", (16, 16), "red")
    studio.redraw(red, PROMPTS[0], noise(), strength=0.5, steps=4)
    x, t = calls[0]
    assert len(calls) == 2 and t[0] == 499
    expected = model.q_sample(model.encode_picture(red), t[:1], noise())
    torch.testing.assert_close(x[:1], expected, atol=1e-5, rtol=1e-5)


def test_the_diffusers_library_draws_the_same_from_a_converted_folder(tiny_ckpt, studio, tmp_path):
    pytest.importorskip("diffusers")
    from ldm.checkpoint.diffusers.convert import Conversion, to_diffusers

    to_diffusers(tiny_ckpt, tmp_path / "mine", tiny_ckpt.with_name("config.yaml"), Conversion())
    theirs = load(f"{BY_DIFFUSERS}{tmp_path / 'mine'}")
    assert theirs.shape == studio.shape
    ours = studio.draw(PROMPTS, noise(2), steps=3, scale=60.0, negative="blue")
    same = theirs.draw(PROMPTS, noise(2), steps=3, scale=60.0, negative="blue")
    # This project truncates to bytes, diffusers rounds.
    assert max(gap(a, b) for a, b in zip(ours, same, strict=True)) <= 3
    redrawn = [theirs.redraw(ours[0], PROMPTS[0], noise(), strength=0.5, steps=4) for _ in "ab"]
    assert gap(*redrawn) == 0 and redrawn[0].size == (16, 16)


def test_a_model_that_is_not_there_is_told(tmp_path):
    with pytest.raises(UserError, match=r"is no folder; .* scripts/convert.py"):
        load(f"{BY_DIFFUSERS}{tmp_path / 'none'}")
    with pytest.raises(UserError, match=r"none\.ckpt"):
        ByLdm(str(tmp_path / "none.ckpt"))


def test_the_thing_before_a_plain_background_is_found():
    picture = Image.new("RGB", (100, 80), (20, 40, 200))
    picture.paste((250, 250, 250), (60, 10, 80, 40))
    left, top, right, bottom = find_thing(picture)
    assert left <= 60 and top <= 10 and right >= 80 and bottom >= 40
    assert right - left == bottom - top < 60
    assert find_thing(Image.new("RGB", (100, 80))) == (10, 0, 90, 80)
