"""Forks that take a step, a loop or a schedule their own way are obeyed."""

from __future__ import annotations

import functools
from types import MethodType

import pytest
import torch
from oracle import GaussianModel

from ldm.models.diffusion.ddim import DDIMSampler
from ldm.models.diffusion.plms import PLMSSampler
from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.modules.diffusionmodules.util import make_ddim_sampling_parameters, make_ddim_timesteps
from ldm.process.guidance import ClassifierFreeGuidance
from ldm.rng import PerImageNoise

SHAPE = (2, 4, 4)
STEPS = {DDIMSampler: "p_sample_ddim", PLMSSampler: "p_sample_plms"}
LOOPS = {DDIMSampler: "ddim_sampling", PLMSSampler: "plms_sampling"}
OPTIONS = {"unconditional_guidance_scale": 3.0, "verbose": False}


def normal(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(seed))


def means(value: float) -> torch.Tensor:
    return torch.full((2, 1, 1, 1), value)


def sample(sampler, **options):
    options = {"x_T": normal(), "unconditional_conditioning": means(0.0), **OPTIONS, **options}
    return sampler.sample(8, 2, SHAPE, means(0.4), **options)


def decode(sampler):
    sampler.make_schedule(8, verbose=False)
    return sampler.decode(normal(), means(0.4), 5, 3.0, means(0.0))


def walk(sampler):
    sampler.make_schedule(8, verbose=False)
    guidance = {"unconditional_guidance_scale": 3.0, "unconditional_conditioning": means(0.0)}
    return [state.x for state in sampler.walk(normal(), means(0.4), **guidance)][-1]


WAYS = {"sample": lambda sampler: sample(sampler)[0], "decode": decode, "walk": walk}


def counting(base, seen):
    """Return a subclass that notes each step's index and takes it as its base does."""

    def step(self, x, c, t, index, **keywords):
        seen.append((index, int(t[0]), keywords))
        return getattr(base, STEPS[base])(self, x, c, t, index, **keywords)

    return type("Counting", (base,), {STEPS[base]: step})


@pytest.mark.parametrize("base", STEPS)
@pytest.mark.parametrize("way", WAYS)
def test_an_override_of_one_step_takes_every_step_and_may_call_ours(base, way):
    seen = []
    sampler = counting(base, seen)(GaussianModel())
    out = WAYS[way](sampler)
    taken = 5 if way == "decode" else 8
    assert [index for index, _, _ in seen] == list(reversed(range(taken)))
    assert [t for _, t, _ in seen] == sampler.ddim_timesteps[:taken][::-1].tolist()
    assert all(k["unconditional_guidance_scale"] == 3.0 for _, _, k in seen)
    assert torch.equal(out, WAYS[way](base(GaussianModel())))


def test_an_override_is_called_with_the_references_arguments_and_no_others():
    class Strict(DDIMSampler):
        def p_sample_ddim(
            self, x, c, t, index, repeat_noise=False, use_original_steps=False,
            quantize_denoised=False, temperature=1.0, noise_dropout=0.0, score_corrector=None,
            corrector_kwargs=None, unconditional_guidance_scale=1.0,
            unconditional_conditioning=None,
        ):  # fmt: skip
            return x * 0.5, x * 0.25

    class StrictPLMS(PLMSSampler):
        def p_sample_plms(
            self, x, c, t, index, repeat_noise=False, use_original_steps=False,
            quantize_denoised=False, temperature=1.0, noise_dropout=0.0, score_corrector=None,
            corrector_kwargs=None, unconditional_guidance_scale=1.0,
            unconditional_conditioning=None, old_eps=None, t_next=None,
        ):  # fmt: skip
            lengths.append((len(old_eps), int(t[0]), int(t_next[0])))
            return x * 0.5, x * 0.25, x

    lengths = []
    for strict in (Strict, StrictPLMS):
        out, kept = sample(strict(GaussianModel()), log_every_t=1)
        assert torch.allclose(out, normal() * 0.5**8)
        assert torch.allclose(kept["pred_x0"][1], normal() * 0.25)
    assert [n for n, _, _ in lengths] == [0, 1, 2, 3, 3, 3, 3, 3]
    assert lengths[0][1:] == (876, 751) and lengths[-1][1:] == (1, 1)


@pytest.mark.parametrize("base", STEPS)
def test_a_step_set_on_the_class_or_on_one_object_is_an_override_too(base, monkeypatch):
    calls = []

    @functools.wraps(getattr(base, STEPS[base]))
    def step(self, x, c, t, index, **keywords):
        calls.append(index)
        return (x, x, x)[: 2 if base is DDIMSampler else 3]

    sampler = base(GaussianModel())
    setattr(sampler, STEPS[base], MethodType(step, sampler))
    assert torch.equal(sample(sampler)[0], normal()) and len(calls) == 8
    assert not torch.equal(sample(base(GaussianModel()))[0], normal())
    monkeypatch.setattr(base, STEPS[base], step)
    assert torch.equal(sample(base(GaussianModel()))[0], normal()) and len(calls) == 16


@pytest.mark.parametrize("base", STEPS)
def test_a_step_within_a_walk_has_its_noise_its_guider_and_its_options(base):
    class Codebook:
        def quantize(self, z):
            return (z * 4).round() / 4, None, [None, None, None]

    class Corrector:
        def modify_score(self, model, eps, x, t, cond, shift=0.0):
            return eps + shift

    model = GaussianModel()
    model.first_stage_model = Codebook()
    options = {
        "eta": 0.8 if base is DDIMSampler else 0.0,
        "guider": ClassifierFreeGuidance(5.0),
        "quantize_x0": True,
        "temperature": 0.9,
        "score_corrector": Corrector(),
        "corrector_kwargs": {"shift": 0.1},
        "dynamic_threshold": 0.4,
    }
    plain = sample(base(model), noise=PerImageNoise([5, 6]), **options)[0]
    ours = sample(counting(base, [])(model), noise=PerImageNoise([5, 6]), **options)[0]
    assert torch.equal(ours, plain)
    if base is DDIMSampler:  # which adds noise
        other = sample(base(model), noise=PerImageNoise([5, 7]), **options)[0]
        assert not torch.equal(plain, other)


def test_an_override_may_change_the_scale_or_the_condition_that_ours_then_uses():
    class Unguided(DDIMSampler):
        def p_sample_ddim(self, x, c, t, index, unconditional_guidance_scale=1.0, **keywords):
            return super().p_sample_ddim(x, means(0.9), t, index, **keywords)

    expected = DDIMSampler(GaussianModel()).sample(8, 2, SHAPE, means(0.9), x_T=normal())[0]
    assert torch.equal(sample(Unguided(GaussianModel()))[0], expected)


def test_two_interleaved_walks_of_an_override_keep_their_own_noise():
    sampler = counting(DDIMSampler, [])(GaussianModel())
    sampler.make_schedule(8, ddim_eta=1.0, verbose=False)
    walks = [sampler.walk(normal(), None, noise=PerImageNoise([n, n])) for n in (1, 2)]
    both = [[a.x, b.x] for a, b in zip(*walks, strict=True)][-1]
    for seed, x in zip((1, 2), both, strict=True):
        *_, last = sampler.walk(normal(), None, noise=PerImageNoise([seed, seed]))
        assert torch.equal(last.x, x)


@pytest.mark.parametrize("base", LOOPS)
def test_an_override_of_the_loop_is_called_by_sample_with_the_references_arguments(base):
    seen = {}

    def loop(
        self, cond, shape, x_T=None, ddim_use_original_steps=False, callback=None, timesteps=None,
        quantize_denoised=False, mask=None, x0=None, img_callback=None, log_every_t=100,
        temperature=1.0, noise_dropout=0.0, score_corrector=None, corrector_kwargs=None,
        unconditional_guidance_scale=1.0, unconditional_conditioning=None,
    ):  # fmt: skip
        seen.update(locals())
        return x_T + 1, {"x_inter": [], "pred_x0": []}

    sampler = type("Looping", (base,), {LOOPS[base]: loop})(GaussianModel())
    out, kept = sample(sampler, temperature=0.5, quantize_x0=True)
    assert torch.equal(out, normal() + 1) and kept == {"x_inter": [], "pred_x0": []}
    assert seen["shape"] == (2, *SHAPE) and seen["temperature"] == 0.5
    assert seen["quantize_denoised"] and seen["unconditional_guidance_scale"] == 3.0
    assert sampler.steps == 8  # the schedule was made before


@pytest.mark.parametrize("base", LOOPS)
def test_an_override_of_the_loop_may_call_ours(base):
    def loop(self, cond, shape, **keywords):
        return getattr(base, LOOPS[base])(self, cond, shape, **keywords)

    sampler = type("Looping", (base,), {LOOPS[base]: loop})(GaussianModel())
    noise = {"noise": PerImageNoise([1, 2])}
    expected = sample(base(GaussianModel()), noise=PerImageNoise([1, 2]))[0]
    assert torch.equal(sample(sampler, **noise)[0], expected)


class OwnSchedule(DDIMSampler):
    """Makes the whole schedule itself, as the reference's own method does."""

    def make_schedule(self, ddim_num_steps, ddim_discretize="uniform", ddim_eta=0.0, verbose=True):
        self.ddim_timesteps = make_ddim_timesteps(
            ddim_discretize, ddim_num_steps, self.ddpm_num_timesteps, verbose
        )
        cumprod = self.model.alphas_cumprod
        self.register_buffer("alphas_cumprod", cumprod.clone())
        sigmas, alphas, before = make_ddim_sampling_parameters(
            alphacums=cumprod.cpu(), ddim_timesteps=self.ddim_timesteps, eta=ddim_eta
        )
        self.register_buffer("ddim_sigmas", sigmas)
        self.register_buffer("ddim_alphas", alphas)
        self.register_buffer("ddim_alphas_prev", before)
        self.register_buffer("ddim_sqrt_one_minus_alphas", torch.sqrt(1.0 - alphas))


def test_a_schedule_made_by_a_fork_in_full_is_the_one_that_is_walked():
    torch.manual_seed(1)
    expected = sample(DDIMSampler(GaussianModel()), eta=0.5)[0]
    torch.manual_seed(1)
    torch.testing.assert_close(sample(OwnSchedule(GaussianModel()), eta=0.5)[0], expected)
    sampler = OwnSchedule(GaussianModel())
    sampler.sample(8, 2, SHAPE, x_T=normal(), verbose=False)
    short = sampler.sample(4, 2, SHAPE, x_T=normal(), verbose=False)[0]  # not the tables of 8
    plain = DDIMSampler(GaussianModel()).sample(4, 2, SHAPE, x_T=normal(), verbose=False)[0]
    torch.testing.assert_close(short, plain)


def test_a_fork_need_not_call_our_constructor():
    class Own(DDIMSampler):
        def __init__(self, model, schedule="linear", **kwargs):
            self.model, self.schedule = model, schedule
            self.ddpm_num_timesteps = model.num_timesteps

    assert torch.equal(
        sample(Own(GaussianModel(), some="thing"))[0], sample(DDIMSampler(GaussianModel()))[0]
    )


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("name", ["ddim_sigmas", "ddim_alphas_prev", "ddim_alphas"])
def test_a_table_that_is_replaced_or_written_to_is_the_one_that_is_walked(name, in_place):
    def out(change: float) -> torch.Tensor:
        sampler = make_sampler("ddim", GaussianModel())
        sampler.make_schedule(8, ddim_eta=1.0, verbose=False)
        once = sampler.walk(normal(), None, noise=PerImageNoise([0, 1]))
        next(once)
        if in_place:
            getattr(sampler, name)[3:] *= change
        else:
            setattr(sampler, name, getattr(sampler, name) * change)
        *_, last = sampler.walk(normal(), None, noise=PerImageNoise([0, 1]))
        return last.x

    assert not torch.allclose(out(0.9), out(1.0), atol=1e-3)
