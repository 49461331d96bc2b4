"""Which format `auto` stands for, what is said of it, and that a model is given back as it was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from drawing import draw, pixels_of, said, text_settings

from ldm.errors import UserError
from ldm.modules import int8
from ldm.pipelines import precision, request
from ldm.pipelines.precision import in_integers, notice_on_others, settled, weights_in
from ldm.processor import Speeds

CPU = torch.device("cpu")


@pytest.fixture
def fast(monkeypatch):
    """Return a function that makes this processor's formats as fast as it says."""

    def pretend(**seconds):
        monkeypatch.setattr(precision, "speeds", lambda: Speeds({"float32": 1.0, **seconds}))

    return pretend


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({}, "full"),
        ({"bfloat16": 0.5}, "bfloat16"),
        ({"bfloat16": 2.0}, "full"),
        ({"bfloat16": 0.8}, "full"),
        ({"bfloat16": 0.5, "float16": 0.4}, "float16"),
    ],
)
def test_auto_is_the_fastest_format_where_that_is_worth_another_picture(fast, seconds, chosen):
    fast(**seconds)
    name, words = settled("auto", CPU)
    assert name == chosen and words.startswith("--precision auto: ")
    assert ("PSNR" in words) is (chosen != "full")


def test_auto_says_so_where_nothing_could_be_measured(fast, monkeypatch):
    fast()
    monkeypatch.setattr(precision, "native_halves", lambda: ["bfloat16"])
    assert (
        settled("auto", CPU) == ("full", settled("auto", CPU)[1])
        and "busy" in settled("auto", CPU)[1]
    )


def test_auto_on_other_devices_is_their_half_or_float32():
    assert settled("auto", torch.device("cuda"))[0] == "autocast"
    assert settled("auto", torch.device("mps"))[0] == "full"


@pytest.mark.parametrize("name", ["full", "autocast", "bfloat16", "float16", "int8"])
def test_what_is_not_auto_is_taken_as_it_is_and_emulation_is_said(name, monkeypatch):
    monkeypatch.setattr(precision, "native_halves", lambda: ["bfloat16"])
    chosen, words = settled(name, CPU)
    assert chosen == name and ("emulated" in words) is (name == "float16")
    assert settled(name, torch.device("cuda")) == (name, "")


def test_integers_are_for_a_cpu_and_leave_no_trace(pipeline):
    settings = text_settings(seed_mode="per-image", precision="int8")
    with pytest.raises(UserError, match="--precision int8"), in_integers(None, torch.device("mps")):
        pass
    if not int8.is_native():
        with pytest.raises(UserError, match="VNNI"):
            draw(pipeline, settings)
        return
    wanted, _ = draw(pipeline, replace(settings, precision="full"))
    pictures, _ = draw(pipeline, settings)
    assert "Precision: int8" in pictures[0].parameters
    assert 0 < np.abs(pixels_of(pictures).astype(int) - pixels_of(wanted)).max() <= 64
    alone, _ = draw(pipeline, replace(settings, n_samples=1))
    assert np.abs(pixels_of(alone).astype(int) - pixels_of(pictures)[:2]).max() <= 8
    again, _ = draw(pipeline, replace(settings, precision="full"))
    assert np.array_equal(pixels_of(again), pixels_of(wanted))


def test_a_picture_records_the_format_that_auto_stood_for(pipeline, fast):
    fast(bfloat16=0.5)
    settings = text_settings(n_iter=1, n_samples=1)
    pictures, events = draw(pipeline, replace(settings, precision="auto"))
    assert "Precision: bfloat16" in pictures[0].parameters
    assert any("bfloat16" in text and "2.0 x" in text for text in said(events))
    wanted, _ = draw(pipeline, replace(settings, precision="bfloat16"))
    assert np.array_equal(pixels_of(pictures), pixels_of(wanted))


@pytest.mark.parametrize(("name", "most"), [("bfloat16", 40), ("float16", 8)])
def test_a_half_format_draws_nearly_the_same_and_leaves_the_model_as_it_was(pipeline, name, most):
    settings = text_settings(seed_mode="per-image")
    before = {key: (value, value.clone()) for key, value in pipeline.model.state_dict().items()}
    wanted, _ = draw(pipeline, settings)
    pictures, _ = draw(pipeline, replace(settings, precision=name))
    difference = np.abs(pixels_of(pictures).astype(int) - pixels_of(wanted))
    assert 0 < difference.max() <= most
    for key, value in pipeline.model.state_dict().items():
        own, copy = before[key]
        assert value.data_ptr() == own.data_ptr() and torch.equal(value, copy)
    again, _ = draw(pipeline, settings)
    assert np.array_equal(pixels_of(again), pixels_of(wanted))


def test_the_layers_that_multiply_are_converted_and_norms_and_the_encoder_are_not(pipeline):
    model = pipeline.model
    with weights_in(model, torch.bfloat16):
        formats = {key: value.dtype for key, value in model.state_dict().items()}
    half = {key for key, dtype in formats.items() if dtype == torch.bfloat16}
    assert any(key.startswith("model.diffusion_model.input_blocks") for key in half)
    assert any(key.startswith("cond_stage_model.") for key in half)
    assert any(key.startswith("first_stage_model.decoder.") for key in half)
    assert not any(key.startswith("first_stage_model.encoder.") for key in half)
    assert not any("norm" in key or "alphas" in key or "embedding" in key for key in half)


def test_weights_come_home_after_an_error_too(pipeline):
    weight = next(pipeline.model.model.parameters())
    with pytest.raises(RuntimeError), weights_in(pipeline.model, torch.float16):
        raise RuntimeError
    assert weight.dtype == torch.float32


def test_a_long_run_hears_of_a_faster_format_once_and_a_short_one_is_not_delayed(
    pipeline, fast, monkeypatch
):
    fast(bfloat16=0.5)
    settings = text_settings(n_iter=1)
    _, events = draw(pipeline, settings)
    assert not any("faster" in text for text in said(events))
    monkeypatch.setattr(request, "LONG_RUN", 0.0)
    _, events = draw(pipeline, settings)
    assert [text for text in said(events) if text.startswith("faster: --precision bfloat16")]
    for other in ("bfloat16", *(["int8"] if int8.is_native() else [])):
        _, events = draw(pipeline, replace(settings, precision=other))
        assert not any("faster" in text for text in said(events))
    fast(bfloat16=0.9)
    _, events = draw(pipeline, settings)
    assert not any("faster" in text for text in said(events))


@pytest.mark.parametrize(
    ("others", "threads", "advice"),
    [(1.5, 4, "=2"), (3.6, 4, "=1"), (9.0, 4, "=1"), (0.2, 4, ""), (3.0, 1, "")],
)
def test_a_run_beside_other_programs_hears_of_fewer_threads(monkeypatch, others, threads, advice):
    monkeypatch.setattr(precision, "cores", lambda: 4)
    monkeypatch.setattr(precision, "taken_by_others", lambda *_: others)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    said = notice_on_others(None)
    assert (f"OMP_NUM_THREADS{advice} " in said) if advice else said is None


def test_a_run_is_long_by_all_that_it_draws(pipeline, monkeypatch):
    settings = text_settings(n_iter=1, n_samples=1, ddim_steps=2)
    weights = sum(weight.numel() for weight in pipeline.model.model.parameters())
    rows = 2 * 2  # steps, and guidance
    asked = pipeline.prepare(settings)
    positions = (asked.size[0] // asked.settings.f) * (asked.size[1] // asked.settings.f)
    work = 0.23 * weights * rows * positions
    for factor, changes in ((6, {"n_samples": 3, "ddim_steps": 4}), (0.5, {"scale": 1.0})):
        for bar, is_long in ((0.99, True), (1.01, False)):
            monkeypatch.setattr(request, "LONG_RUN", bar * factor * work)
            assert pipeline.prepare(replace(settings, **changes)).is_long(pipeline.model) is is_long
