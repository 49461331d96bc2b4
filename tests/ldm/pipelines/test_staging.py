"""Runs whose parts take turns: the same pictures, nothing left behind, and ways out of trouble."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import groupby

import numpy as np
import pytest
import torch
from drawing import STEPS, draw, image_settings, pixels_of, text_settings

from ldm.errors import UserError
from ldm.offload.plan import POLICIES, PlanSettings
from ldm.pipelines import staging
from ldm.pipelines.pipeline import Pipeline
from ldm.pipelines.progress import Notice, Progress
from ldm.pipelines.staging import StagedModel, Staging
from ldm.settings.generation import Txt2ImgSettings
from ldm.settings.low_memory import LowMemoryImg2ImgSettings, LowMemoryTxt2ImgSettings
from ldm.settings.samplers import SAMPLERS

CPU = torch.device("cpu")
PARTS = {"text", "unet_encode", "unet_decode", "autoencoder"}


@pytest.fixture
def staged(pipeline):
    """The tiny model, its parts to take turns on the CPU; a copy of its own."""
    model = copy.deepcopy(pipeline.model)
    return Pipeline(model, pipeline.choice, staged=StagedModel(model, Staging(), CPU))


@pytest.fixture
def policy(monkeypatch):
    """Make every run take one policy, whatever it would have chosen."""

    def force(name, **rest):
        settings = PlanSettings(name, **rest)
        monkeypatch.setattr(staging, "choose", lambda *_, **__: settings)

    return force


def optimized(settings, **changes):
    """The same run as the programs for small devices have it."""
    schema = LowMemoryTxt2ImgSettings if settings.program == "txt2img" else LowMemoryImg2ImgSettings
    names = ("prompt", "sampler", "ddim_steps", "ddim_eta", "n_samples", "n_iter", "seed", "scale")
    values = {name: getattr(settings, name) for name in names}
    if settings.program == "img2img":
        values |= {"init_img": settings.init_img, "strength": settings.strength}
    return schema(**{**values, **changes})


def texts(events, warning=None):
    notices = [event for event in events if isinstance(event, Notice)]
    return [n.text for n in notices if warning is None or n.warning is warning]


def assert_at_home(pipeline, original):
    """Nothing is on the device, and the model is bitwise what it was."""
    assert pipeline.staged.ledger.resident == set()
    assert "encode" not in vars(pipeline.model.model.diffusion_model)
    weights = pipeline.model.state_dict()
    assert all(torch.equal(weights[k], v) for k, v in original.state_dict().items())
    assert {value.device for value in weights.values()} == {CPU}


# --- the same pictures ---


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_draws_the_scripts_pictures_under_every_policy(
    pipeline, staged, init_img, policy, sampler
):
    mode = {"sampler": sampler, "seed_mode": "per-image", "n_iter": 1, "n_samples": 2}
    for settings in (text_settings(**mode), image_settings(init_img, **mode)):
        wanted, _ = draw(pipeline, settings)
        for name in POLICIES:
            policy(name)
            pictures, _ = draw(staged, optimized(settings))
            assert np.array_equal(pixels_of(pictures), pixels_of(wanted)), name
            assert [picture.seed for picture in pictures] == [42, 43]
    assert_at_home(staged, pipeline.model)


@pytest.mark.parametrize("changes", [{"ddim_eta": 1.0}, {"scale": 1.0}, {"fixed_code": True}])
def test_other_settings_mean_the_same_too(pipeline, staged, changes):
    settings = text_settings(seed_mode="per-image", **changes)
    wanted, _ = draw(pipeline, settings)
    pictures, _ = draw(staged, optimized(settings, **changes))
    assert np.array_equal(pixels_of(pictures), pixels_of(wanted))


def test_rows_of_the_unet_apart_and_a_decoding_in_strips_give_nearly_the_same(
    pipeline, staged, policy
):
    settings = text_settings(seed_mode="per-image")
    wanted, _ = draw(pipeline, settings)
    policy("four-part", unet_rows=1, tiled_decode=True)
    pictures, _ = draw(staged, optimized(settings))
    assert np.abs(pixels_of(pictures).astype(int) - pixels_of(wanted)).max() <= 1


# --- one part at a time ---


def test_the_four_parts_take_turns_in_their_order(staged):
    draw(staged, optimized(text_settings(n_samples=2, n_iter=2)))
    present, visits = set(), []
    for event in staged.staged.ledger.events:
        if event.action == "load":
            present.add(event.stage)
            visits.append(event.stage)
        else:
            present.remove(event.stage)
        assert len(present) <= 1
    # Both encodings of guidance may be one visit or two.
    order = [stage for stage, _ in groupby(visits)]
    once = ["text", *(["unet_encode", "unet_decode"] * STEPS), "autoencoder"]
    assert order == 2 * once
    assert set(visits) == PARTS and present == set()


def test_image_to_image_begins_with_the_autoencoder(staged, init_img):
    draw(staged, optimized(image_settings(init_img, n_iter=1)))
    visits = [e.stage for e in staged.staged.ledger.events if e.action == "load"]
    assert (visits[0], visits[1], visits[-1]) == ("autoencoder", "text", "autoencoder")


def interrupt_at(step):
    def observer(event):
        if isinstance(event, Progress) and event.done >= step:
            raise KeyboardInterrupt

    return observer


@pytest.mark.parametrize("name", POLICIES)
def test_ctrl_c_leaves_nothing_behind(pipeline, staged, policy, name):
    policy(name)
    with pytest.raises(KeyboardInterrupt):
        list(staged.generate(optimized(text_settings()), observer=interrupt_at(3)))
    assert_at_home(staged, pipeline.model)
    wanted, _ = draw(pipeline, text_settings(seed_mode="per-image"))
    pictures, _ = draw(staged, optimized(text_settings()))
    assert np.array_equal(pixels_of(pictures), pixels_of(wanted))


@pytest.mark.parametrize("where", ["apply_model", "decode_first_stage", "get_learned_conditioning"])
def test_an_error_leaves_nothing_behind(pipeline, staged, monkeypatch, where):
    def broken(*_, **__):
        raise ValueError("broken")

    inner = {
        "apply_model": staged.model.model.diffusion_model.output_blocks[0],
        "decode_first_stage": staged.model.first_stage_model.decoder,
        "get_learned_conditioning": staged.model.cond_stage_model.transformer,
    }
    monkeypatch.setattr(inner[where], "forward", broken)
    with pytest.raises(ValueError, match="broken"):
        draw(staged, optimized(text_settings()))
    assert_at_home(staged, pipeline.model)


def test_a_run_that_nobody_follows_to_its_end_leaves_nothing_behind(pipeline, staged):
    pictures = staged.generate(optimized(text_settings()))
    next(pictures)
    pictures.close()
    assert_at_home(staged, pipeline.model)


# --- the plan ---


def test_the_plan_is_told_before_anything_is_drawn(staged):
    _, events = draw(staged, optimized(text_settings()))
    (plan,) = [text for text in texts(events) if "estimated" in text]
    assert plan.startswith("UNet fp32, halves swapped, estimated ")
    assert events.index(Notice(plan)) < events.index(Progress(0, 2 * 2 * STEPS, 0, 4))


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (Staging(turbo=True), "both halves resident"),
        (Staging(vram_budget=4.0), "everything resident, estimated "),
        (Staging(vram_budget=4.0, turbo=True), "everything resident"),
    ],
)
def test_what_the_user_asks_decides_the_plan(pipeline, asked, told):
    model = copy.deepcopy(pipeline.model)
    drawing = Pipeline(model, pipeline.choice, staged=StagedModel(model, asked, CPU))
    _, events = draw(drawing, optimized(text_settings()))
    assert any(told in text for text in texts(events))
    peak = drawing.staged.ledger.peak_bytes
    assert peak <= (asked.vram_budget or 1) * 2**30


def test_a_budget_that_nothing_fits_is_an_error_before_anything_is_drawn(pipeline):
    model = copy.deepcopy(pipeline.model)
    tight = Pipeline(model, pipeline.choice, staged=StagedModel(model, Staging(0.001), CPU))
    with pytest.raises(UserError, match="do not fit into") as caught:
        draw(tight, optimized(text_settings()))
    assert "\n" not in str(caught.value)
    assert_at_home(tight, pipeline.model)


@pytest.mark.parametrize(("rows", "warned"), [(1, 0), (None, 0), (3, 1)])
def test_rows_at_a_time_are_for_gpus_and_a_cpu_says_so(pipeline, rows, warned):
    model = copy.deepcopy(pipeline.model)
    asked = StagedModel(model, Staging(unet_bs=rows), CPU)
    wanted, _ = draw(pipeline, text_settings(seed_mode="per-image"))
    pictures, events = draw(
        Pipeline(model, pipeline.choice, staged=asked), optimized(text_settings())
    )
    assert len([text for text in texts(events, warning=True) if "--unet_bs" in text]) == warned
    assert np.array_equal(pixels_of(pictures), pixels_of(wanted))


def test_plain_settings_ask_for_no_plan():
    assert not Txt2ImgSettings().low_memory and LowMemoryTxt2ImgSettings().low_memory
    asked = LowMemoryTxt2ImgSettings(vram_budget=1.5, turbo=True, unet_bs=3, precision="full")
    assert Staging.of(asked) == Staging(1.5, turbo=True, unet_bs=3, precision="full")
    assert Staging.of(LowMemoryTxt2ImgSettings()) == Staging()


class _Noting:
    """Stands in for a plan, and keeps what it was made of."""

    made: list = []

    def __init__(self, model, settings, device, *, ledger):
        self.settings, self.device = settings, device
        _Noting.made.append(self)

    def attach(self):
        return self

    detach = attach


@pytest.mark.parametrize("name", ["cuda:1", "cuda"])
@pytest.mark.parametrize("precision", ["autocast", "full"])
def test_on_a_gpu_the_named_one_is_asked_and_weights_are_half_unless_full(
    tiny_ckpt, monkeypatch, name, precision
):
    """With torch's answers about devices replaced: this needs no GPU."""
    asked, chosen = [], {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(staging, "StagePlan", _Noting)
    monkeypatch.setattr(_Noting, "made", [])
    monkeypatch.setattr(staging, "free_memory", lambda device: asked.append(device) or 2**30)
    choose = staging.choose
    monkeypatch.setattr(staging, "choose", lambda *a, **k: chosen.update(k) or choose(*a, **k))
    asked_for = Staging(precision=precision, unet_bs=3)
    drawing = Pipeline.load(tiny_ckpt, device=name, staging=asked_for)
    settings = LowMemoryTxt2ImgSettings(H=16, W=16, precision=precision)
    with drawing.staged.run(drawing.prepare(settings), lambda _: None):
        pass
    device = torch.device(name)
    assert asked == [device] and drawing.device == device
    assert [plan.device for plan in _Noting.made] == [device]
    half = precision == "autocast"
    assert (chosen["itemsize"], chosen["unet_bs"], chosen["budget"]) == (2 if half else 4, 3, 2**30)
    weights = dict(drawing.model.named_parameters())
    kinds = {True: torch.float16, False: torch.float32}
    assert weights["model.diffusion_model.out.2.weight"].dtype == kinds[half]
    assert weights["model.diffusion_model.out.0.weight"].dtype == torch.float32
    assert drawing.model.alphas_cumprod.dtype == torch.float32
    other = replace(settings, precision="full" if half else "autocast")
    with (
        pytest.raises(UserError, match="--precision"),
        drawing.staged.run(drawing.prepare(other), lambda _: None),
    ):
        pass


# --- out of memory ---


def refuse(monkeypatch, module, times):
    """Let a module run out of memory so many times; return a list of its calls."""
    forward, calls = module.forward, []

    def scarce(*args, **kwargs):
        calls.append(1)
        if len(calls) <= times:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(*args, **kwargs)

    monkeypatch.setattr(module, "forward", scarce)
    return calls


@pytest.mark.parametrize("seed_mode", ["compvis", "per-image"])
def test_a_batch_that_runs_out_of_memory_is_drawn_under_a_tighter_plan(
    pipeline, staged, monkeypatch, seed_mode
):
    settings = text_settings(ddim_eta=1.0, seed_mode=seed_mode)
    wanted, _ = draw(pipeline, settings)
    block = staged.model.model.diffusion_model.output_blocks[0]
    # In the middle of the second batch, when random numbers have been drawn for it.
    forward, calls = block.forward, []

    def scarce(*args, **kwargs):
        calls.append(1)
        if len(calls) == STEPS + 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(*args, **kwargs)

    monkeypatch.setattr(block, "forward", scarce)
    pictures, events = draw(staged, optimized(settings, seed_mode=seed_mode))
    (told,) = texts(events, warning=True)
    why = "out of memory while sampling a batch: the UNet now takes 2 rows at a time"
    assert told == f"{why}; starting that again"
    assert np.array_equal(pixels_of(pictures[:2]), pixels_of(wanted[:2]))
    assert np.abs(pixels_of(pictures).astype(int) - pixels_of(wanted)).max() <= 1
    assert [event for event in events if isinstance(event, Progress)][-1] == Progress(16, 16, 4, 4)
    assert_at_home(staged, pipeline.model)


def test_each_refusal_tightens_the_plan_by_a_step_and_repeats_that_part_alone(staged, monkeypatch):
    refuse(monkeypatch, staged.model.first_stage_model.decoder.conv_in, times=2)
    pictures, events = draw(staged, optimized(text_settings(n_samples=1, scale=1.0)))
    told = [text.split(": ")[1].split(";")[0] for text in texts(events, warning=True)]
    assert told == [
        "the autoencoder now works in strips",
        "the layers of the UNet now come one by one",
    ]
    visits = [e.stage for e in staged.staged.ledger.events if e.action == "load"]
    assert visits.count("text") == 2 and visits.count("autoencoder") == 2 + 2


def test_at_the_end_of_the_ladder_the_error_says_what_to_do_and_finished_pictures_stay(
    pipeline, staged, monkeypatch
):
    wanted, _ = draw(pipeline, text_settings(seed_mode="per-image"))
    run = staged.generate(optimized(text_settings()), observer=(events := []).append)
    first = [next(run), next(run)]
    refuse(monkeypatch, staged.model.model.diffusion_model.out[2], times=10**6)
    with pytest.raises(UserError, match=r"pictures of 16x16, 2 at a time, .* --n_samples"):
        next(run)
    assert np.array_equal(pixels_of(first), pixels_of(wanted[:2]))
    assert len(texts(events, warning=True)) == 4
    assert_at_home(staged, pipeline.model)


def test_a_first_picture_that_runs_out_of_memory_is_encoded_again(staged, init_img, monkeypatch):
    refuse(monkeypatch, staged.model.first_stage_model.encoder.conv_in, times=1)
    pictures, events = draw(staged, optimized(image_settings(init_img)))
    assert len(pictures) == 3 and len(texts(events, warning=True)) == 1


# --- half precision ---


@pytest.fixture
def halved(pipeline, monkeypatch):
    """The tiny model in float16, which the CPU can compute when it is asked to."""
    monkeypatch.setattr(staging, "half_of", lambda *_: torch.float16)
    model = copy.deepcopy(pipeline.model)
    return Pipeline(model, pipeline.choice, staged=StagedModel(model, Staging(), CPU))


def overflowing(module):
    """Let a module's output be too large for float16, and no more than large in float32."""
    forward = module.forward

    def large(x, *args):
        out = forward(x, *args)
        return out * 1e6 / 1e6 if out.dtype == torch.float16 else out

    module.forward = large


def test_half_precision_draws_nearly_the_same(pipeline, halved):
    settings = text_settings(seed_mode="per-image")
    wanted, _ = draw(pipeline, settings)
    pictures, events = draw(halved, optimized(settings))
    assert not texts(events, warning=True)
    assert any("UNet fp16" in text for text in texts(events))
    difference = np.abs(pixels_of(pictures).astype(int) - pixels_of(wanted))
    assert 0 < difference.max() <= 8  # 10 bits of a number, through a few layers
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ("model.diffusion_model.out.2", "latents came out as NaN"),
        ("first_stage_model.decoder.conv_out", "a picture came out black or as NaN"),
        ("first_stage_model.encoder.conv_out", "the init image's latent came out as NaN"),
    ],
)
def test_what_overflows_in_half_precision_is_computed_again_in_float32(
    pipeline, halved, init_img, part, told
):
    settings = image_settings(init_img, seed_mode="per-image", n_iter=2, n_samples=2, ddim_eta=0.0)
    wanted, _ = draw(pipeline, settings)
    overflowing(halved.model.get_submodule(part))
    pictures, events = draw(halved, optimized(settings))
    (warned,) = texts(events, warning=True)  # the second batch begins in float32
    assert warned == f"{told} in half precision: computed again in float32"
    difference = np.abs(pixels_of(pictures).astype(int) - pixels_of(wanted))
    assert difference.max() <= 8
    assert halved.staged.ledger.resident == set()
    _, events = draw(halved, optimized(settings))
    assert not texts(events, warning=True)


def test_a_picture_that_is_black_in_float32_too_is_kept_and_half_precision_with_it(halved):
    conv_out = halved.model.first_stage_model.decoder.conv_out
    with torch.no_grad():
        conv_out.weight.zero_()
        conv_out.bias.fill_(-2.0)
    pictures, events = draw(halved, optimized(text_settings(n_iter=1)))
    assert not pixels_of(pictures).any()
    assert len(texts(events, warning=True)) == 1
    assert conv_out.weight.dtype == torch.float16


def test_nan_in_float32_stays_an_error(halved):
    with torch.no_grad():
        halved.model.get_parameter("model.diffusion_model.out.2.bias").fill_(float("nan"))
    with pytest.raises(UserError, match="NaN"):
        draw(halved, optimized(text_settings()))
    assert halved.staged.ledger.resident == set()


# --- several runs ---


def test_a_seed_of_chance_is_chosen_once_and_named(staged):
    settings = optimized(text_settings(n_iter=1), seed=None)
    pictures, _ = draw(staged, settings)
    seed = pictures[0].seed
    assert [picture.seed for picture in pictures] == [seed, seed + 1] and 0 <= seed <= 10**6
    assert all(f"Seed: {p.seed}," in p.parameters for p in pictures)
    again, _ = draw(staged, replace(settings, seed=seed))
    assert np.array_equal(pixels_of(again), pixels_of(pictures))
