"""Inpainting: what is not marked stays to the bit, what is marked is drawn as elsewhere."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from drawing import STEPS, draw, image_settings, pixels_of, text_settings
from PIL import Image

from ldm.errors import UserError
from ldm.images.io import after_saving, to_tensor
from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.pipelines.infotext import read_picture
from ldm.pipelines.init_image import InitImage
from ldm.pipelines.inpainting import MaskedWalk
from ldm.pipelines.masks import Mask
from ldm.pipelines.postprocess import Watermark
from ldm.pipelines.request import Request
from ldm.rng import PerImageNoise
from ldm.safety.watermark import read_watermark
from ldm.settings.generation import Img2ImgSettings
from ldm.settings.inpaint import InpaintSettings, LowMemoryInpaintSettings
from ldm.settings.samplers import SAMPLERS

WIDTH, HEIGHT = 16, 12


def picture(seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def mask(rows=slice(3, 8), columns=slice(5, 12)):
    marked = np.zeros((HEIGHT, WIDTH), bool)
    marked[rows, columns] = True
    return Mask(marked)


def settings(**changes):
    return replace(InpaintSettings(prompt="a cat", ddim_steps=STEPS, n_samples=2), **changes)


def paint(pipeline, image=None, where=None, **changes):
    """Return a run's pictures (B, H, W, 3)."""
    image, where = image or picture(), mask() if where is None else where
    return pixels_of(draw(pipeline, settings(**changes), image=image, mask=where)[0])


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_pixels_outside_the_mask_are_the_pictures_own_to_the_bit(pipeline, sampler, strength):
    pictures, _ = draw(
        pipeline, settings(sampler=sampler, strength=strength), image=picture(), mask=mask()
    )
    kept = ~mask().marked
    for each in pictures:
        for pixels in (each.plain, each.pixels):
            assert np.array_equal(pixels[kept], np.asarray(picture())[kept])
        assert not np.array_equal(each.plain[~kept], np.asarray(picture())[~kept])


def test_on_small_devices_the_picture_is_kept_as_it_was_resized(pipeline):
    large = picture().resize((19, 14))
    where = Mask(np.pad(mask().marked, ((0, 2), (0, 3))))
    small = LowMemoryInpaintSettings(prompt="a cat", ddim_steps=STEPS, n_samples=1)
    (first, *_), events = draw(pipeline, small, image=large, mask=where)
    fitted = InitImage(large, mask=where).fit(4)
    kept = ~fitted.mask.marked
    assert np.array_equal(first.plain[kept], np.asarray(fitted.pixels)[kept])
    assert any("resized to 16x12" in getattr(event, "text", "") for event in events)


def test_at_full_strength_a_full_mask_keeps_nothing_of_the_picture(pipeline):
    everything = mask(slice(None), slice(None))
    first = paint(pipeline, picture(1), everything, strength=1.0)
    second = paint(pipeline, picture(2), everything, strength=1.0)
    assert np.array_equal(first, second)


def test_below_full_strength_the_picture_under_the_mask_shows_through(pipeline):
    everything = mask(slice(None), slice(None))
    first = paint(pipeline, picture(1), everything, strength=0.5)
    second = paint(pipeline, picture(2), everything, strength=0.5)
    assert not np.array_equal(first, second)


def test_what_surrounds_the_mask_moves_what_is_painted(pipeline):
    inside = mask().marked
    first = paint(pipeline, picture(1), strength=1.0)
    second = paint(pipeline, picture(2), strength=1.0)
    assert not np.array_equal(first[:, inside], second[:, inside])


def test_at_strength_0_the_marked_part_is_image_to_images(pipeline):
    plain = Img2ImgSettings(prompt="a cat", ddim_steps=STEPS, n_samples=2, strength=0.0)
    expected = pixels_of(draw(pipeline, plain, image=picture())[0])
    inside = mask().marked
    assert np.array_equal(paint(pipeline, strength=0.0)[:, inside], expected[:, inside])


def test_the_prompt_and_the_seed_move_what_is_painted(pipeline):
    first = paint(pipeline)
    assert not np.array_equal(first, paint(pipeline, prompt="a dog"))
    assert not np.array_equal(first, paint(pipeline, seed=43))


@pytest.mark.parametrize("name", ["ddim", "euler", "euler_a", "lms"])
def test_the_kept_part_enters_every_step_at_that_steps_noise(pipeline, name):
    """Pasted without noise, as some do, it would differ from the marked part: seams."""
    image = InitImage(picture(), mask=mask())
    wanted = Request(settings(C=4, f=2, strength=1.0), pipeline.choice, ["a cat"] * 2, image)
    walk = MaskedWalk(wanted, pipeline.model, pipeline.device)
    walk.encode()
    sampler = make_sampler(name, pipeline.model)
    sampler.make_schedule(STEPS, verbose=False)
    seen = []

    class Watching:
        def __getattr__(self, name):
            return getattr(pipeline.model, name)

        def apply_model(self, x, t, cond):
            seen.append((x, int(t[0])))
            return pipeline.model.apply_model(x, t, cond)

    sampler.model = Watching()
    noise, cond = PerImageNoise([1, 2]), pipeline.model.get_learned_conditioning(["a cat"] * 2)
    _, states = walk.begin(sampler, noise, 2, cond=cond)
    last = list(states)[-1]
    kept = ~torch.from_numpy(mask().cells(2))
    latents = walk.encoded[0].latents(noise, 2)[..., kept]
    assert len(seen) == STEPS
    for x, t in seen:
        a = pipeline.model.alphas_cumprod[t]
        remainder = (x[..., kept] - a.sqrt() * latents) / (1 - a).sqrt()
        assert 0.85 < float(remainder.std()) < 1.15
        assert abs(float(remainder.mean())) < 0.15
    assert torch.equal(last.x[..., kept], latents)


def test_image_k_alone_is_image_k_of_the_batch(pipeline):
    batch = paint(pipeline, seed_mode="per-image", n_samples=3)
    for k, expected in enumerate(batch):
        alone = paint(pipeline, seed_mode="per-image", n_samples=1, seed=42 + k)[0]
        assert np.abs(alone.astype(int) - expected).max() <= 1


def test_one_picture_of_a_run_is_drawn_again_by_its_place(pipeline):
    chosen = settings(n_iter=2, ddim_eta=0.5)
    pictures, _ = draw(pipeline, chosen, image=picture(), mask=mask())
    third = pictures[2]
    again, _ = draw(pipeline, chosen, image=picture(), mask=mask(), place=third.place)
    assert np.array_equal(again[0].plain, third.plain)


def test_files_named_in_the_settings_are_read_and_recorded(pipeline, init_img, tmp_path):
    path = tmp_path / "mask.png"
    Image.fromarray(mask().marked).save(path)
    named = settings(init_img=str(init_img), mask=str(path))
    (first, *_), _ = draw(pipeline, named)
    assert "Inpaint area: Whole picture" in first.parameters
    assert f"Mask: {path}" in first.parameters.replace('"', "")
    assert "Mask hash: " in first.parameters


def test_an_inpainting_is_not_drawn_again_without_its_mask(pipeline, tmp_path):
    (first, *_), _ = draw(pipeline, settings(), image=picture(), mask=mask())
    Watermark("png")(first.pixels)
    path = tmp_path / "painted.png"
    from ldm.images.io import save_picture

    save_picture(first.pixels, path, metadata=first.parameters)
    with pytest.raises(UserError, match="is an inpainting; expected a picture made without a mask"):
        read_picture(str(path), Img2ImgSettings)


def test_a_flagged_picture_is_blacked_out_whole(pipeline, monkeypatch):
    class Strict:
        status = None

        def load(self):
            """Nothing to load."""

        def check(self, pixels, seen):
            return np.zeros_like(pixels), [True] * len(pixels), ["all of it"] * len(pixels)

    monkeypatch.setattr(type(pipeline), "checker", lambda self, policy: Strict())
    pictures, _ = draw(pipeline, settings(), image=picture(), mask=mask())
    assert all(each.flagged and not each.pixels.any() for each in pictures)


def test_the_safety_checker_sees_the_whole_picture(pipeline, monkeypatch):
    shown = []

    class Watching:
        status = None

        def load(self):
            """Nothing to load."""

        def check(self, pixels, seen):
            shown.append(seen)
            return pixels, [False] * len(pixels), [""] * len(pixels)

    monkeypatch.setattr(type(pipeline), "checker", lambda self, policy: Watching())
    draw(pipeline, settings(), image=picture(), mask=mask())
    kept = ~mask().marked
    assert np.array_equal(shown[0][0][kept], np.asarray(picture())[kept])


# --- the watermark ---


def waves(side=256):
    y, x = np.mgrid[:side, :side] / side
    turns = np.stack([9 * x + 3 * y, 20 * x * y, 7 * y - 2 * x], -1)
    return (127 + 100 * np.sin(6 * turns)).astype(np.uint8)


@pytest.mark.parametrize("format", ["png", "jpg"])
def test_the_watermark_is_in_the_repainted_part_alone_and_can_be_read(format):
    pytest.importorskip("imwatermark")
    part = Mask(np.zeros((256, 256), bool))
    part.marked[:, 20:] = True
    plain = waves()
    marked = Watermark(format)(plain, part)
    assert np.array_equal(marked[~part.marked], plain[~part.marked])
    assert not np.array_equal(marked, plain)
    assert read_watermark(after_saving(marked, format)) == "StableDiffusionV1"


def test_a_part_too_small_for_the_watermark_is_left_unmarked_and_told(caplog):
    pytest.importorskip("imwatermark")
    part = Mask(np.zeros((256, 256), bool))
    part.marked[100:120, 100:120] = True
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(Watermark("png")(waves(), part), waves())
    assert "without" in caplog.text


# --- what cannot be ---


def test_a_missing_picture_or_mask_is_one_line(pipeline, init_img):
    for given, flag in (({}, "--init-img"), ({"init_img": str(init_img)}, "--mask")):
        with pytest.raises(UserError, match=f"no {flag} was given; expected") as caught:
            draw(pipeline, settings(**given))
        assert "\n" not in str(caught.value)


def test_settings_of_another_kind_take_no_mask(pipeline, init_img):
    for other in (text_settings(), image_settings(init_img)):
        with pytest.raises(TypeError, match="takes no mask; use InpaintSettings"):
            draw(pipeline, other, mask=mask())


def test_a_mask_of_another_picture_is_refused(pipeline):
    with pytest.raises(UserError, match="proportions"):
        draw(pipeline, settings(), image=picture(), mask=Image.new("L", (30, 12), 255))


def test_the_picture_behind_the_mask_is_the_fitted_one(pipeline):
    image = InitImage(picture(), mask=mask()).fit(4)
    assert torch.equal(to_tensor(image.pixels), to_tensor(picture()))
