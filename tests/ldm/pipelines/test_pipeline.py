"""The pictures of a run: which random numbers they are made of, and that they can be made again."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from drawing import PROMPTS, STEPS, draw, image_settings, pixels_of, text_settings
from PIL import Image

from ldm.errors import UserError
from ldm.images.io import to_tensor, to_uint8
from ldm.models.diffusion.ddim import DDIMSampler
from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.pipelines.batches import Place
from ldm.pipelines.pipeline import Pipeline, resolve_device
from ldm.pipelines.progress import Notice, Progress
from ldm.rng import PerImageNoise
from ldm.settings.samplers import SAMPLERS


@torch.no_grad()
def reference_txt2img(model, settings, prompts):
    """CompVis's txt2img loop, spelled out."""
    torch.manual_seed(settings.seed)
    n, shape = settings.n_samples, (4, 8, 8)
    start_code = torch.randn([n, *shape]) if settings.fixed_code else None
    pixels = []
    for _ in range(settings.n_iter):
        for k in range(0, len(prompts), n):
            chunk = prompts[k : k + n]
            uc = model.get_learned_conditioning(len(chunk) * [""])
            c = model.get_learned_conditioning(chunk)
            x_T = None if start_code is None else start_code[: len(chunk)]
            samples, _ = make_sampler(settings.sampler, model).sample(
                S=settings.ddim_steps,
                batch_size=len(chunk),
                shape=shape,
                conditioning=c,
                verbose=False,
                unconditional_guidance_scale=settings.scale,
                unconditional_conditioning=uc,
                eta=settings.ddim_eta,
                x_T=x_T,
            )
            pixels.append(to_uint8(model.decode_first_stage(samples)))
    return np.concatenate(pixels)


@torch.no_grad()
def reference_img2img(model, settings):
    """CompVis's img2img loop, spelled out."""
    torch.manual_seed(settings.seed)
    n = settings.n_samples
    image = to_tensor(Image.open(settings.init_img)).repeat(n, 1, 1, 1)
    latent = model.get_first_stage_encoding(model.encode_first_stage(image))
    sampler = DDIMSampler(model)
    sampler.make_schedule(settings.ddim_steps, ddim_eta=settings.ddim_eta, verbose=False)
    t_enc = int(settings.strength * settings.ddim_steps)
    pixels = []
    for _ in range(settings.n_iter):
        uc = model.get_learned_conditioning(n * [""])
        c = model.get_learned_conditioning(n * [settings.prompt])
        z_enc = sampler.stochastic_encode(latent, torch.tensor([t_enc] * n))
        samples = sampler.decode(
            z_enc,
            c,
            t_enc,
            unconditional_guidance_scale=settings.scale,
            unconditional_conditioning=uc,
        )
        pixels.append(to_uint8(model.decode_first_stage(samples)))
    return np.concatenate(pixels)


# --- the reference's draw order ---


@pytest.mark.parametrize(
    "changes",
    [
        {"sampler": "ddim"},
        {"sampler": "plms"},
        {"sampler": "dpm_solver"},
        {"sampler": "euler_a"},
        {"sampler": "lms"},
        {"sampler": "ddim", "ddim_eta": 1.0},
        {"sampler": "plms", "fixed_code": True},
    ],
)
def test_a_prompt_files_pictures_are_the_references_also_of_the_short_last_batch(pipeline, changes):
    settings = text_settings(**changes)
    pictures, _ = draw(pipeline, settings, prompts=PROMPTS)
    expected = reference_txt2img(pipeline.model, settings, PROMPTS)
    assert len(expected) == 2 * len(PROMPTS)
    assert np.array_equal(pixels_of(pictures), expected)
    assert [picture.prompt for picture in pictures] == 2 * PROMPTS


def test_img2imgs_pictures_are_the_references(pipeline, init_img):
    settings = image_settings(init_img, n_iter=2, ddim_eta=0.3)
    pictures, _ = draw(pipeline, settings)
    expected = reference_img2img(pipeline.model, settings)
    # The picture is encoded once, not once per row: that moves the last bits.
    assert np.abs(pixels_of(pictures).astype(int) - expected).max() <= 1
    assert pixels_of(pictures).shape == (6, 12, 16, 3)


def test_building_a_model_or_drawing_before_does_not_move_the_pictures(pipeline):
    first, _ = draw(pipeline, text_settings(n_iter=1))
    torch.rand(1000)
    second, _ = draw(pipeline, text_settings(n_iter=1))
    assert np.array_equal(pixels_of(first), pixels_of(second))


def test_what_a_caller_draws_between_two_pictures_does_not_move_the_next(pipeline):
    expected, _ = draw(pipeline, text_settings())
    pictures = []
    for picture in pipeline.generate(text_settings()):
        torch.rand(10)
        pictures.append(picture)
    assert np.array_equal(pixels_of(pictures), pixels_of(expected))


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 43},
        {"prompt": "a dog"},
        {"negative_prompt": "fog"},
        {"scale": 3.0},
        {"sampler": "plms"},
        {"ddim_steps": 5},
        {"spacing": "trailing"},
        {"ddim_eta": 0.5},
    ],
)
def test_every_setting_changes_the_picture(pipeline, change):
    base = text_settings(n_iter=1, n_samples=1)
    plain, _ = draw(pipeline, base)
    changed, _ = draw(pipeline, replace(base, **change))
    assert not np.array_equal(pixels_of(plain), pixels_of(changed))


def test_scale_1_is_no_guidance_whatever_the_negative_prompt(pipeline):
    base = text_settings(n_iter=1, n_samples=1, scale=1.0)
    plain, _ = draw(pipeline, base)
    negative, _ = draw(pipeline, replace(base, negative_prompt="fog"))
    assert np.array_equal(pixels_of(plain), pixels_of(negative))


def test_fixed_code_starts_every_iteration_from_the_same_noise(pipeline, init_img):
    for settings in (text_settings(), image_settings(init_img, n_iter=2, n_samples=2)):
        pictures, _ = draw(pipeline, replace(settings, fixed_code=True))
        first, second = pixels_of(pictures[:2]), pixels_of(pictures[2:])
        assert np.array_equal(first, second)
        assert not np.array_equal(first[0], first[1])
        pictures, _ = draw(pipeline, settings)
        assert not np.array_equal(pixels_of(pictures[:2]), pixels_of(pictures[2:]))


# --- one seed per picture ---


def nearly_equal(a, b):
    """Equal but for the last bits that the size of a batch decides."""
    return np.abs(a.astype(int) - b.astype(int)).max() <= 1


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("fixed_code", [False, True])
def test_per_image_pictures_do_not_depend_on_the_batch(pipeline, init_img, sampler, fixed_code):
    mode = {"seed_mode": "per-image", "sampler": sampler, "fixed_code": fixed_code}
    for settings in (text_settings(**mode), image_settings(init_img, **mode)):
        together, _ = draw(pipeline, replace(settings, n_samples=3, n_iter=1))
        apart, _ = draw(pipeline, replace(settings, n_samples=1, n_iter=3))
        assert nearly_equal(pixels_of(together), pixels_of(apart))
        assert [picture.seed for picture in together] == [42, 43, 44]
        if not fixed_code:
            alone, _ = draw(pipeline, replace(settings, seed=44, n_samples=1, n_iter=1))
            assert nearly_equal(pixels_of(together[2:]), pixels_of(alone))
            assert not nearly_equal(pixels_of(together[:1]), pixels_of(alone))


def test_per_image_fixed_code_gives_every_picture_the_first_ones_start(pipeline):
    mode = {"seed_mode": "per-image", "n_iter": 1, "n_samples": 3}
    free, _ = draw(pipeline, text_settings(**mode))
    fixed, _ = draw(pipeline, text_settings(fixed_code=True, **mode))
    assert np.array_equal(free[0].pixels, fixed[0].pixels)
    for picture in fixed[1:]:
        assert nearly_equal(picture.pixels, fixed[0].pixels)
    noisy, _ = draw(pipeline, text_settings(fixed_code=True, ddim_eta=1.0, **mode))
    assert not nearly_equal(noisy[1].pixels, noisy[0].pixels)
    # The steps' noise is the same with and without: the start noise is drawn though not used.
    free, _ = draw(pipeline, text_settings(ddim_eta=1.0, **mode))
    assert np.array_equal(free[0].pixels, noisy[0].pixels)


def test_a_single_picture_on_the_cpu_is_the_same_in_both_seed_modes(pipeline, init_img):
    for settings in (text_settings(ddim_eta=0.5), image_settings(init_img)):
        single = replace(settings, n_samples=1, n_iter=1)
        shared, _ = draw(pipeline, single)
        own, _ = draw(pipeline, replace(single, seed_mode="per-image"))
        assert np.array_equal(pixels_of(shared), pixels_of(own))


def test_per_image_start_noise_is_the_seeds_first_draw(pipeline, monkeypatch):
    started = []
    walk = DDIMSampler.walk
    monkeypatch.setattr(
        DDIMSampler, "walk", lambda s, x, *a, **k: started.append(x) or walk(s, x, *a, **k)
    )
    draw(pipeline, text_settings(seed_mode="per-image", n_samples=2, n_iter=1, seed=7))
    assert torch.equal(started[0], PerImageNoise([7, 8]).randn((2, 4, 8, 8)))


# --- drawn again ---


@pytest.mark.parametrize("seed_mode", ["compvis", "per-image"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_one_picture_of_a_run_is_drawn_again_to_the_bit(pipeline, init_img, sampler, seed_mode):
    mode = {"sampler": sampler, "seed_mode": seed_mode, "n_samples": 3, "n_iter": 2}
    for settings in (text_settings(**mode), image_settings(init_img, **mode)):
        pictures, _ = draw(pipeline, settings)
        wanted = pictures[4]  # the second of the second iteration
        assert wanted.place == Place(iteration=1, position=1, per_iteration=3, n_samples=3)
        (again,), _ = draw(pipeline, settings, place=wanted.place)
        assert np.array_equal(again.pixels, wanted.pixels)
        assert (again.seed, again.parameters) == (wanted.seed, wanted.parameters)


@pytest.mark.parametrize("fixed_code", [False, True])
def test_a_picture_of_a_prompt_file_is_drawn_again_without_the_file(pipeline, fixed_code):
    settings = text_settings(ddim_eta=0.7, fixed_code=fixed_code)
    pictures, _ = draw(pipeline, settings, prompts=PROMPTS)
    for wanted in (pictures[3], pictures[9]):  # the latter alone in a short batch
        own = replace(settings, prompt=wanted.prompt)
        (again,), _ = draw(pipeline, own, place=wanted.place)
        assert np.array_equal(again.pixels, wanted.pixels)


def test_drawing_again_runs_the_model_only_for_the_last_batch(pipeline, monkeypatch):
    calls = []
    apply_model = type(pipeline.model).apply_model
    monkeypatch.setattr(
        type(pipeline.model),
        "apply_model",
        lambda self, *args: calls.append(1) or apply_model(self, *args),
    )
    draw(pipeline, text_settings(), place=Place(9, 1, 2, 2))
    assert len(calls) == STEPS


# --- image to image ---


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_strength_0_keeps_the_picture_and_strength_1_forgets_it(pipeline, init_img, sampler):
    kept, events = draw(pipeline, image_settings(init_img, sampler=sampler, strength=0.0))
    torch.manual_seed(42)
    with torch.no_grad():
        posterior = pipeline.model.encode_first_stage(to_tensor(Image.open(init_img)))
        latent = pipeline.model.get_first_stage_encoding(
            type(posterior)(posterior.parameters.repeat(3, 1, 1, 1))
        )
        encoded = to_uint8(pipeline.model.decode_first_stage(latent))
    assert np.array_equal(pixels_of(kept), encoded)
    assert any("nothing is redrawn" in e.text for e in events if isinstance(e, Notice))
    pictures, events = draw(pipeline, image_settings(init_img, sampler=sampler, strength=1.0))
    assert events[-1] == Progress(3 * STEPS, 3 * STEPS, 3, 3)
    assert len(pictures) == 3


def test_a_picture_of_another_size_is_resized_and_the_user_told(pipeline, tmp_path):
    path = tmp_path / "odd.png"
    Image.new("RGB", (19, 15), "red").save(path)
    (picture, *_), events = draw(pipeline, image_settings(path))
    assert picture.pixels.shape == (12, 16, 3)
    assert any("19x15: resized to 16x12" in e.text for e in events if isinstance(e, Notice))


def test_a_picture_from_memory_serves_as_well_as_a_file(pipeline, init_img):
    settings = image_settings(init_img)
    from_file, _ = draw(pipeline, settings)
    with Image.open(init_img) as image:
        in_memory, _ = draw(pipeline, replace(settings, init_img=None), image=image)
    assert np.array_equal(pixels_of(from_file), pixels_of(in_memory))
    with pytest.raises(UserError, match="no --init-img"):
        draw(pipeline, replace(settings, init_img=None))
    with pytest.raises(TypeError, match="Img2ImgSettings"):
        draw(pipeline, text_settings(), image=Image.new("RGB", (16, 16)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("precision", ["autocast", "full"])
def test_on_cuda_pictures_are_drawn_again_to_the_bit_and_autocast_does_not_leak(
    tiny_ckpt, init_img, precision
):
    on_cuda = Pipeline.load(tiny_ckpt, device="cuda")
    for settings in (text_settings(ddim_eta=0.5), image_settings(init_img, n_iter=2)):
        run = on_cuda.generate(replace(settings, precision=precision))
        pictures = [(picture, torch.is_autocast_enabled("cuda")) for picture in run]
        wanted, enabled = pictures[3]
        assert not enabled
        own = replace(settings, precision=precision)
        (again,), _ = draw(on_cuda, own, place=wanted.place)
        assert np.array_equal(again.pixels, wanted.pixels)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
@pytest.mark.parametrize("name", ["cuda", "cuda:1", "mps"])
def test_a_device_that_is_not_there_is_an_error(name):
    if name == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has the device")
    with pytest.raises(UserError, match=f"--device {name} .* --device cpu"):
        resolve_device(name)
    assert resolve_device("auto") == torch.device("cpu")


@pytest.mark.parametrize("name", ["abacus", "meta", "cuda:x"])
def test_a_device_that_pictures_cannot_be_drawn_on_is_an_error(name):
    with pytest.raises(UserError, match=f"--device {name} is unknown; expected auto, cpu"):
        resolve_device(name)


def test_an_ema_model_draws_with_its_averages_and_gets_its_weights_back(pipeline):
    model = copy.deepcopy(pipeline.model)
    swaps = []

    class Scope:
        def __enter__(self):
            swaps.append("in")

        def __exit__(self, *_):
            swaps.append("out")

    model.ema_scope = Scope
    next(Pipeline(model, pipeline.choice).generate(text_settings())).pixels.any()
    assert swaps[0] == "in" and swaps.count("in") == swaps.count("out")


def test_the_pipeline_is_found_at_its_first_address_too():
    from ldm.pipelines import generate

    assert generate.Pipeline is Pipeline and generate.resolve_device is resolve_device
