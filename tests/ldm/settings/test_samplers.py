"""The tables of samplers, spacings and beta schedules: one line each, and everything follows."""

from __future__ import annotations

import inspect
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_model import write_tiny_model

from ldm.errors import UserError
from ldm.images.metadata import read_parameters
from ldm.models.diffusion.ddim import DDIMSampler
from ldm.models.diffusion.sampler import Sampler
from ldm.process.schedules import make_beta_schedule
from ldm.process.sigmas import SigmaSchedule, make_sigmas
from ldm.process.spacing import make_timesteps
from ldm.programs.drawing import DrawingProgram
from ldm.settings.generation import Txt2ImgSettings
from ldm.settings.samplers import (
    BETA_SCHEDULES,
    SAMPLERS,
    SPACINGS,
    BetaScheduleEntry,
    SamplerEntry,
    SpacingEntry,
    samplers_for,
)
from ldm.util import get_obj_from_str


@pytest.fixture
def own(monkeypatch):
    """A module of somebody's own rules, which tables can name."""
    module = ModuleType("own_rules")
    monkeypatch.setitem(sys.modules, "own_rules", module)
    return module


def draw(tmp_path, *flags):
    checkpoint = write_tiny_model(tmp_path)
    few = ["--n_samples", "1", "--n_iter", "1", "--ddim_steps", "4", "--outdir", str(tmp_path)]
    argv = ["--prompt", "a cat", "--ckpt", str(checkpoint), "--device", "cpu", *few, *flags]
    assert DrawingProgram(Txt2ImgSettings, "").main(argv) == 0
    return tmp_path / "samples" / "00000.png"


def test_a_sampler_of_ones_own_needs_one_line_to_be_drawn_with_and_written(
    own, monkeypatch, tmp_path, capsys
):
    class Steady(DDIMSampler):
        """Counts how often it steps."""

        taken = 0

        def update(self, *args, **kwargs):
            Steady.taken += 1
            return super().update(*args, **kwargs)

    own.Steady = Steady
    monkeypatch.setitem(SAMPLERS, "steady", SamplerEntry("own_rules.Steady", "Steady state"))
    written = draw(tmp_path, "--sampler", "steady")
    assert Steady.taken == 4
    assert np.asarray(Image.open(written)).std() > 0
    assert "Sampler: Steady state," in read_parameters(written)
    assert np.array_equal(*redraw(written, tmp_path))


def redraw(written, tmp_path):
    """Draw a picture again from what its file says; return both as arrays."""
    again = tmp_path / "again"
    again.mkdir()
    argv = ["--from-image", str(written), "--outdir", str(again), "--device", "cpu"]
    argv += ["--ckpt", str(write_tiny_model(again))]
    assert DrawingProgram(Txt2ImgSettings, "").main(argv) == 0
    return [np.asarray(Image.open(path)) for path in (written, again / "samples" / "00000.png")]


def test_a_spacing_of_ones_own_needs_one_line_to_be_drawn_with_written_and_read_back(
    own, monkeypatch, tmp_path
):
    own.early = lambda steps, count: np.arange(count - steps, count)
    monkeypatch.setitem(SPACINGS, "early", SpacingEntry("own_rules.early", label="Early bird"))
    assert list(make_timesteps("early", 3, 100)) == [97, 98, 99]
    written = draw(tmp_path, "--spacing", "early")
    assert "Schedule type: Early bird," in read_parameters(written)
    assert np.array_equal(*redraw(written, tmp_path))


@pytest.mark.parametrize(("sampler", "rule"), [("euler", "times"), ("ddim", "sigmas")])
def test_a_spacing_without_the_rule_that_a_sampler_needs_is_refused_at_once(
    monkeypatch, sampler, rule
):
    monkeypatch.setitem(SPACINGS, "early", SpacingEntry(**{rule: "own_rules.early"}))
    with pytest.raises(UserError, match="--spacing early with --sampler") as caught:
        Txt2ImgSettings(sampler=sampler, spacing="early").validate()
    fitting = str(caught.value).split("is for ")[1].split(";")[0].split(", ")
    assert fitting == samplers_for("early") and sampler not in fitting


def test_a_beta_schedule_of_ones_own_needs_one_line(own, monkeypatch):
    own.flat = lambda count, start, end, offset: np.full(count, start)
    monkeypatch.setitem(BETA_SCHEDULES, "flat", BetaScheduleEntry("own_rules.flat"))
    assert make_beta_schedule("flat", 5, linear_start=0.25).tolist() == [0.25] * 5


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_runs_the_model_as_often_as_the_table_says(name):
    from oracle import GaussianModel

    model = GaussianModel()
    calls = []
    apply_model = model.apply_model
    model.apply_model = lambda x, t, cond: calls.append(1) or apply_model(x, t, cond)
    made = get_obj_from_str(SAMPLERS[name].target)(model)
    made.make_schedule(8, verbose=False)
    x = torch.zeros(1, *model.shape) if hasattr(model, "shape") else torch.zeros(1, 1, 4, 4)
    assert isinstance(made, Sampler)
    for _ in made.walk(x, None):
        pass
    # Rules of several calls take a single one where a step ends at no noise; PLMS warms up.
    assert len(calls) in ({8, 9} if SAMPLERS[name].calls == 1 else {15})


@pytest.mark.parametrize("name", SPACINGS)
def test_every_spacing_has_rules_with_the_arguments_that_are_said(name):
    entry = SPACINGS[name]
    assert entry.times or entry.sigmas
    if entry.times:
        times = make_timesteps(name, 7, 1000)
        assert (np.diff(times) > 0).all() and times[0] >= 0 and times[-1] < 1000
    if entry.sigmas:
        schedule = SigmaSchedule(np.linspace(0.99, 0.01, 1000))
        sigmas = make_sigmas(name, 7, schedule)
        assert sigmas[0] == 0 and (np.diff(sigmas) > 0).all() and len(sigmas) == 8


@pytest.mark.parametrize("name", BETA_SCHEDULES)
def test_every_beta_schedule_has_a_rule_of_four_arguments(name):
    assert len(inspect.signature(get_obj_from_str(BETA_SCHEDULES[name].target)).parameters) == 4
    betas = make_beta_schedule(name, 10)
    assert betas.shape == (10,) and (betas > 0).all() and (betas < 1).all()
