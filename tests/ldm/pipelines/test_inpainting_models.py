"""Models made for inpainting see the mask and what is around it, and nothing of what it hides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from drawing import STEPS, draw, pixels_of, staged_on_processor, text_settings
from PIL import Image
from tiny_inpainting import SIGHTED, TEXTLESS, write_inpainting_model

from ldm.errors import UserError
from ldm.images.io import to_tensor
from ldm.pipelines.masks import Mask
from ldm.pipelines.pipeline import Pipeline
from ldm.settings.inpaint import InpaintSettings, LowMemoryInpaintSettings
from ldm.settings.samplers import SAMPLERS

WIDTH, HEIGHT = 13, 11  # not multiples of anything that the models want


@pytest.fixture(scope="module")
def sighted_ckpt(tmp_path_factory):
    return write_inpainting_model(tmp_path_factory.mktemp("sighted"), SIGHTED)


@pytest.fixture(scope="module")
def sighted(sighted_ckpt):
    """A tiny 9-channel model."""
    return Pipeline.load(sighted_ckpt, device="cpu")


@pytest.fixture(scope="module")
def textless(tmp_path_factory):
    """A tiny 7-channel model."""
    folder = tmp_path_factory.mktemp("textless")
    return Pipeline.load(write_inpainting_model(folder, TEXTLESS), device="cpu")


@pytest.fixture(params=["sighted", "textless"])
def either(request):
    return request.getfixturevalue(request.param)


def picture(seed=0, size=(WIDTH, HEIGHT)):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def mask():
    marked = np.zeros((HEIGHT, WIDTH), bool)
    marked[2:8, 5:12] = True
    return Mask(marked)


def changed(inside):
    """Return the picture with other pixels inside the mask, or outside."""
    where = mask().marked if inside else ~mask().marked
    return Image.fromarray(np.where(where[..., None], picture(1), picture(0)))


def settings(pipeline, **changes):
    words = {"prompt": "a cat"} if pipeline.model.cond_stage_key == "txt" else {"prompt": ""}
    scale = 5.0 if words["prompt"] else 1.0
    base = InpaintSettings(ddim_steps=STEPS, n_samples=2, strength=1.0, scale=scale, **words)
    return replace(base, **changes)


def paint(pipeline, image=None, where=None, **changes):
    """Return a run's pictures (B, H, W, 3)."""
    chosen = settings(pipeline, **changes)
    return pixels_of(draw(pipeline, chosen, image=image or picture(), mask=where or mask())[0])


def white_with_a_hole():
    """Return a picture that needs no padding, and its mask."""
    marked = np.zeros((8, 12), bool)
    marked[2:6, 4:8] = True
    return Image.new("RGB", (12, 8), "white"), Mask(marked)


def unet_inputs(pipeline, monkeypatch, image, where, **changes):
    """Return what the UNet is given in each step of a run, (rows, channels, h, w)."""
    seen, unet = [], pipeline.model.model.diffusion_model
    call = unet.forward

    def watching(x, *rest, **more):
        seen.append(x)
        return call(x, *rest, **more)

    monkeypatch.setattr(unet, "forward", watching)
    paint(pipeline, image, where, **changes)
    return seen


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_keeps_the_rest_to_the_bit_and_paints_the_mask(either, sampler):
    kept, original = ~mask().marked, np.asarray(picture())
    for painted in paint(either, sampler=sampler):
        assert painted.shape == original.shape
        assert np.array_equal(painted[kept], original[kept])
        assert not np.array_equal(painted[~kept], original[~kept])


def test_what_the_mask_hides_reaches_no_pixel(either):
    assert np.array_equal(paint(either), paint(either, changed(inside=True)))


def test_what_is_around_the_mask_moves_what_is_painted(either):
    inside = mask().marked
    moved = paint(either, changed(inside=False))[:, inside]
    assert not np.array_equal(paint(either)[:, inside], moved)


def test_below_full_strength_what_is_hidden_shows_through(sighted):
    first = paint(sighted, strength=0.5)
    assert not np.array_equal(first, paint(sighted, changed(inside=True), strength=0.5))


def test_the_prompt_moves_what_is_painted(sighted):
    assert not np.array_equal(paint(sighted), paint(sighted, prompt="a dog"))


def test_a_prompt_with_a_grammar_moves_it_beside_the_mask_and_its_surroundings(sighted):
    def painted(prompt):
        return paint(sighted, prompt=prompt, prompt_syntax="a1111").astype(int)

    plain = painted("a cat")
    assert np.abs(painted("a cat :0.5 AND a cat :0.5") - plain).max() <= 1
    assert np.abs(painted("[a cat:a dog:99]") - plain).max() == 0
    assert (painted("a (cat:3) AND [dog|bird] :9") != plain).any()


def test_a_9_channel_unet_is_given_latents_then_the_mask_then_the_masked_picture(
    sighted, monkeypatch
):
    image, hole = white_with_a_hole()
    inputs = unet_inputs(sighted, monkeypatch, image, hole, n_samples=1)
    assert len(inputs) == STEPS
    grey = to_tensor(image) * torch.from_numpy(~hole.marked)  # 0 of [-1, 1] where it is hidden
    with torch.no_grad():
        posterior = sighted.model.encode_first_stage(grey)
    scaled = sighted.model.scale_factor * posterior.mean
    spread = sighted.model.scale_factor * posterior.std
    for x in inputs:
        assert x.shape == (2, 9, 4, 6)  # without and with the prompt
        assert torch.equal(x[0], x[1])
        assert torch.equal(x[0, 4], torch.from_numpy(hole.marked[::2, ::2]).float())
        assert ((x[0, 5:] - scaled[0]).abs() <= 6 * spread[0]).all()
        assert torch.equal(x[:, 4:], inputs[0][:, 4:])
    assert not torch.equal(inputs[0][:, :4], inputs[1][:, :4])


def test_a_7_channel_unet_is_given_latents_then_the_masked_picture_then_the_mask(
    textless, monkeypatch
):
    image, hole = white_with_a_hole()
    inputs = unet_inputs(textless, monkeypatch, image, hole)
    black = torch.where(torch.from_numpy(hole.marked), -1.0, to_tensor(image))
    with torch.no_grad():
        encoded = textless.model.first_stage_model.encode(black)
    for x in inputs:
        assert x.shape == (2, 7, 4, 6)
        assert torch.allclose(x[:, 3:6], encoded.expand(2, -1, -1, -1), atol=1e-5)
        assert torch.equal(x[0, 6], 2.0 * torch.from_numpy(hole.marked[::2, ::2]).float() - 1.0)


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_image_k_alone_is_image_k_of_the_batch(sighted, strength):
    own = {"seed_mode": "per-image", "strength": strength}
    batch = paint(sighted, n_samples=3, **own)
    for k, expected in enumerate(batch):
        alone = paint(sighted, n_samples=1, seed=42 + k, **own)[0]
        assert np.abs(alone.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("seed_mode", ["compvis", "per-image"])
def test_one_picture_of_a_run_is_drawn_again_by_its_place(either, seed_mode):
    chosen = settings(either, n_iter=2, ddim_eta=0.5, seed_mode=seed_mode, fixed_code=True)
    pictures, _ = draw(either, chosen, image=picture(), mask=mask())
    third = pictures[2]
    again, _ = draw(either, chosen, image=picture(), mask=mask(), place=third.place)
    assert np.array_equal(again[0].plain, third.plain)


def test_parts_that_take_turns_paint_the_same(sighted, sighted_ckpt):
    staged = staged_on_processor(sighted_ckpt)
    chosen = LowMemoryInpaintSettings(
        prompt="a cat", ddim_steps=STEPS, n_samples=2, seed=1, strength=1.0, W=12, H=12
    )
    (first, _), (second, _) = (
        draw(each, chosen, image=picture(), mask=mask()) for each in (sighted, staged)
    )
    assert np.array_equal(pixels_of(first), pixels_of(second))


def test_nothing_but_inpainting_is_drawn_by_such_a_model(either):
    with pytest.raises(UserError, match=r"scripts/inpaint\.py") as caught:
        draw(either, text_settings())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"prompt": "a cat"}, "--prompt 'a cat'"),
        ({"negative_prompt": "dogs"}, "--negative_prompt 'dogs'"),
        ({"scale": 7.5}, "--scale 7.5"),
        ({"strength": 0.5}, "--strength 0.5"),
    ],
)
def test_a_model_without_text_refuses_what_it_cannot_use(textless, changes, flag):
    with pytest.raises(UserError, match="takes no text") as caught:
        paint(textless, **changes)
    assert flag in str(caught.value)
    assert "\n" not in str(caught.value)
