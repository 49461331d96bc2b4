"""Inversion of pictures: on data whose flow is known exactly, and on a narrow UNet."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from narrow_models import narrow_config, narrow_model
from oracle import GaussianModel
from torch import Tensor

from ldm.errors import UserError
from ldm.models.diffusion.ddim import DDIMSampler
from ldm.models.diffusion.inversion import METHODS, Inversion, invert
from ldm.models.diffusion.null_text import NullText
from ldm.models.diffusion.plms import PLMSSampler
from ldm.process.guidance import NoGuidance

SHAPE = (2, 4, 4)
# The oracle's "embedding" is the mean of its data, whose scale is not a text encoder's.
EAGER = NullText(updates=30, rate=0.2, epsilon=0.0, epsilon_growth=0.0)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape or (2, *SHAPE), generator=torch.Generator().manual_seed(seed))


def made(model, steps: int = 10, **schedule) -> DDIMSampler:
    sampler = DDIMSampler(model, spacing="linspace")
    sampler.make_schedule(steps, verbose=False, **schedule)
    return sampler


def redrawn(sampler: DDIMSampler, inversion: Inversion, cond) -> Tensor:
    return sampler.decode(inversion.x_T, cond, inversion.steps, guider=inversion.guider())


def error(sampler: DDIMSampler, x0: Tensor, cond, **how) -> float:
    """Return the mean squared error of drawing x0 again."""
    inversion = invert(sampler, x0, cond, **how)
    return float((redrawn(sampler, inversion, cond) - x0).square().mean())


def pictures() -> Tensor:
    return 0.3 + 0.5 * normal(0)


def means(value: float) -> Tensor:
    """Return a condition for each of two pictures: the mean of each number of its data."""
    return torch.full((2, *SHAPE), value)


GUIDED = {"scale": 3.0, "uncond": means(-0.1)}


# On exact data


@pytest.mark.parametrize("kind", ["eps", "v", "x0"])
def test_without_guidance_more_steps_bring_a_picture_back_more_closely(kind):
    model = GaussianModel(parameterization=kind)
    errors = [
        error(made(model, steps), pictures(), means(0.3), method="ddim", scale=1.0)
        for steps in (10, 40, 160)
    ]
    assert errors[0] > 4 * errors[1] > 16 * errors[2]


def test_the_start_is_where_the_exact_flow_leads():
    sampler = made(GaussianModel(), 250)
    inversion = invert(sampler, pictures(), means(0.3), method="ddim", scale=1.0)
    exact = sampler.model.flow(pictures(), 0, sampler.time(sampler.steps - 1), mean=0.3)
    assert (inversion.x_T - exact).abs().max() < 0.05


def test_the_negative_prompt_is_the_source_and_guidance_then_changes_nothing():
    sampler, cond = made(GaussianModel()), means(0.3)
    inversion = invert(sampler, pictures(), cond, method="negative-prompt", scale=7.5)
    assert all(torch.equal(uncond, cond) for uncond in inversion.unconds.values())
    unguided = invert(sampler, pictures(), cond, method="ddim", scale=1.0)
    assert isinstance(unguided.guider(), NoGuidance)
    assert torch.equal(inversion.x_T, unguided.x_T)
    ours, plain = (redrawn(sampler, each, cond) for each in (inversion, unguided))
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-5)


def test_plain_guidance_drifts_and_null_text_brings_it_back():
    sampler, cond = made(GaussianModel(parameterization="v"), 20), means(0.3)
    errors = {
        method: error(sampler, pictures(), cond, method=method, **GUIDED) for method in METHODS
    }
    optimised = error(sampler, pictures(), cond, method="null-text", **GUIDED, null_text=EAGER)
    assert optimised < 0.1 * errors["negative-prompt"] < errors["ddim"]
    assert errors["null-text"] < errors["ddim"]


def published(sampler, trajectory, cond, uncond, scale, settings):
    """Optimise one picture's unconditionals as arXiv:2211.09794 does, in plain words."""
    model, x, found = sampler.model, trajectory[-1], []
    table = model.alphas_cumprod
    before = {t: table[0] for t in sampler.ddim_timesteps[:1].tolist()}
    times = sampler.ddim_timesteps.tolist()
    before |= {t: table[s] for s, t in zip(times, times[1:], strict=False)}

    def step(x, uncond, t):
        time = torch.full((x.shape[0],), t)
        with torch.no_grad():
            eps_cond = model.apply_model(x, time, cond)
        eps_uncond = model.apply_model(x, time, uncond)
        eps = eps_uncond + scale * (eps_cond - eps_uncond)
        x0 = (x - (1 - table[t]).sqrt() * eps) / table[t].sqrt()
        return before[t].sqrt() * x0 + (1 - before[t]).sqrt() * eps

    for i, t in enumerate(reversed(times)):
        uncond = uncond.clone().detach().requires_grad_()
        adam = torch.optim.Adam([uncond], lr=settings.rate * (1 - i / settings.rate_steps))
        for _ in range(settings.updates):
            loss = torch.nn.functional.mse_loss(step(x, uncond, t), trajectory[-2 - i])
            adam.zero_grad()
            loss.backward()
            adam.step()
        found.append(uncond.detach())
        x = step(x, uncond, t).detach()
    return found, x


def test_it_finds_what_the_published_algorithm_finds():
    sampler, cond, uncond = made(GaussianModel(), 6), means(0.3)[:1], means(-0.1)[:1]
    settings = NullText(updates=8, rate=1e-2, rate_steps=10, epsilon=0.0, epsilon_growth=0.0)
    x0 = pictures()[:1]
    ours = invert(
        sampler, x0, cond, method="null-text", scale=3.0, uncond=uncond, null_text=settings
    )
    _, kept = sampler.encode(x0, cond, 6, return_intermediates=6, at_timesteps=True)
    trajectory = [x0, *kept["intermediates"]]
    found, x = published(sampler, trajectory, cond, uncond, 3.0, settings)
    assert list(ours.unconds) == sampler.ddim_timesteps[::-1].tolist()
    for mine, theirs in zip(ours.unconds.values(), found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-5)
    torch.testing.assert_close(redrawn(sampler, ours, cond), x, rtol=0, atol=1e-5)


def test_the_numbers_of_the_paper_are_the_defaults():
    assert NullText() == NullText(10, 1e-2, 100, 1e-5, 2e-5)


def test_a_loss_never_ends_above_its_start_even_with_a_rate_that_is_too_high():
    wild = NullText(updates=6, rate=20.0, epsilon=0.0, epsilon_growth=0.0)
    inversion = invert(
        made(GaussianModel()), pictures(), means(0.3), method="null-text", **GUIDED, null_text=wild
    )
    assert len(inversion.fits) == 10
    assert all((fit.after <= fit.before).all() for fit in inversion.fits)


def test_the_losses_are_those_of_the_walk():
    sampler, cond = made(GaussianModel()), means(0.3)
    inversion = invert(sampler, pictures(), cond, method="null-text", **GUIDED, null_text=EAGER)
    drawn = redrawn(sampler, inversion, cond)
    apart = (drawn - pictures()).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(apart, inversion.fits[-1].after, rtol=1e-2, atol=1e-9)


def test_near_enough_steps_ask_the_model_twice_and_are_not_touched():
    model = GaussianModel()
    sampler = made(model)
    lazy = NullText(epsilon=math.inf)
    inversion = invert(
        sampler, pictures(), means(0.3), method="null-text", **GUIDED, null_text=lazy
    )
    assert len(model.calls) == 10 + 2 * 10  # the inversion; cond and uncond
    assert all(torch.equal(uncond, GUIDED["uncond"]) for uncond in inversion.unconds.values())


def test_the_conditional_prediction_is_made_once_a_step():
    model = GaussianModel()
    sampler = made(model)
    settings = NullText(updates=3, epsilon=0.0, epsilon_growth=0.0)
    invert(sampler, pictures(), means(0.3), method="null-text", **GUIDED, null_text=settings)
    assert len(model.calls) == 10 + 10 * (1 + 4)  # three updates look four times


def test_later_steps_are_done_at_higher_losses():
    model = GaussianModel()
    sampler = made(model)
    settings = NullText(epsilon=-1.0, epsilon_growth=0.2)  # done at once from the sixth step on
    invert(sampler, pictures(), means(0.3), method="null-text", **GUIDED, null_text=settings)
    assert len(model.calls) == 10 + 6 * (1 + 11) + 4 * 2


def test_half_precision_conditioning_comes_back_in_half_precision_and_still_moves():
    uncond = GUIDED["uncond"].bfloat16()
    small = NullText(updates=1, rate=1e-2, epsilon=0.0, epsilon_growth=0.0)
    how = {"method": "null-text", "scale": 3.0, "uncond": uncond, "null_text": small}
    found = list(invert(made(GaussianModel()), pictures(), means(0.3), **how).unconds.values())
    assert all(each.dtype == torch.bfloat16 for each in found)
    assert not torch.equal(found[-1], uncond)


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_of_two_is_two_singles(method):
    sampler, cond = made(GaussianModel()), means(0.3)
    uncond = means(-0.1)
    uncond[1] = 0.3  # what the second moves away from is what it shows: it is done at once
    how = {"method": method, "scale": 3.0}
    both = invert(sampler, pictures(), cond, uncond=uncond, **how)
    for k in (0, 1):
        own = slice(k, k + 1)
        single = invert(sampler, pictures()[own], cond[own], uncond=uncond[own], **how)
        torch.testing.assert_close(both.x_T[own], single.x_T, rtol=0, atol=1e-6)
        for t, found in both.unconds.items():
            torch.testing.assert_close(found[own], single.unconds[t], rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_a_part_of_the_way_visits_only_the_clean_end(method):
    sampler, cond = made(GaussianModel()), means(0.3)
    how = {"method": method, **GUIDED}
    inversion = invert(sampler, pictures(), cond, steps=4, **how)
    assert list(inversion.unconds) == sampler.ddim_timesteps[3::-1].tolist()
    _, kept = sampler.encode(pictures(), cond, 10, return_intermediates=10, at_timesteps=True)
    assert torch.equal(inversion.x_T, kept["intermediates"][3])
    with pytest.raises(UserError, match="at which the picture was inverted"):
        sampler.decode(inversion.x_T, cond, 5, guider=inversion.guider())


def test_editing_walks_have_rows_for_each_prompt():
    sampler, cond = made(GaussianModel()), means(0.3)
    inversion = invert(sampler, pictures(), cond, method="null-text", **GUIDED, null_text=EAGER)
    prompts, starts = torch.cat([cond, means(0.8)]), inversion.x_T.repeat(2, 1, 1, 1)
    drawn = sampler.decode(starts, prompts, inversion.steps, guider=inversion.guider())
    torch.testing.assert_close(drawn[:2], redrawn(sampler, inversion, cond), rtol=0, atol=1e-6)
    assert (drawn[2:] - drawn[:2]).mean() > 0.5


@pytest.mark.parametrize(("method", "total"), [("ddim", 10), ("null-text", 20)])
def test_progress_is_told_step_by_step(method, total):
    seen = []
    note = lambda *numbers: seen.append(numbers)  # noqa: E731
    invert(made(GaussianModel()), pictures(), means(0.3), method=method, callback=note, **GUIDED)
    assert seen == [(k, total) for k in range(1, total + 1)]


def test_random_numbers_and_inputs_are_left_alone():
    given = pictures(), means(0.3), means(-0.1)
    kept, state = copy.deepcopy(given), torch.get_rng_state()
    x0, cond, uncond = given
    for method in METHODS:
        invert(made(GaussianModel()), x0, cond, method=method, scale=3.0, uncond=uncond)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(given, kept, strict=True))


# On a narrow UNet


@pytest.fixture(scope="module", params=["v1", "v2-v"])
def unet(request):
    return narrow_model(narrow_config(request.param))


@pytest.fixture(scope="module")
def hybrid():
    return narrow_model(narrow_config("inpainting"))


def texts(seed: int) -> Tensor:
    return normal(seed, 2, 7, 32)


# Four steps of guidance that matters, and a rate for random weights.
HARD = NullText(updates=8, rate=5e-2, epsilon=0.0, epsilon_growth=0.0)
NARROW = {"scale": 7.5, "uncond": texts(4)}


def test_null_text_follows_a_unets_trajectory_more_closely_than_plain_guidance(unet):
    sampler, x0, cond = made(unet, 4), 0.5 * normal(1, 2, 4, 8, 8), texts(3)
    plain = error(sampler, x0, cond, method="ddim", **NARROW)
    optimised = error(sampler, x0, cond, method="null-text", **NARROW, null_text=HARD)
    assert optimised < 0.7 * plain


def test_rows_of_a_unets_batch_are_independent(unet):
    sampler, x0, cond = made(unet, 3), 0.5 * normal(1, 2, 4, 8, 8), texts(3)
    how = {"method": "null-text", "scale": 7.5, "null_text": HARD}
    both = invert(sampler, x0, cond, uncond=texts(4), **how)
    for k in (0, 1):
        own = slice(k, k + 1)
        single = invert(sampler, x0[own], cond[own], uncond=texts(4)[own], **how)
        for pair, alone in zip(both.fits, single.fits, strict=True):
            torch.testing.assert_close(pair.after[own], alone.after, rtol=1e-3, atol=0)


def test_weights_keep_their_values_their_flags_and_have_no_gradients(unet):
    model = copy.deepcopy(unet)
    names = [name for name, _ in model.named_parameters()]
    for name, weight in model.named_parameters():
        weight.requires_grad_(name != names[0])
    before = copy.deepcopy(model.state_dict())
    how = {"method": "null-text", **NARROW, "null_text": HARD}
    learning = []

    def look(*_):
        learning.append(any(weight.requires_grad for weight in model.parameters()))

    invert(made(model, 2), normal(1, 2, 4, 8, 8), texts(3), callback=look, **how)
    assert learning == [True, True, False, False]  # inverting two steps, optimising two
    with pytest.raises(UserError, match="losses of"):
        invert(made(model, 2), normal(1, 2, 4, 8, 8) * math.nan, texts(3), **how)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    flags = {name: weight.requires_grad for name, weight in model.named_parameters()}
    assert flags == {name: name != names[0] for name in names}
    assert all(weight.grad is None for weight in model.parameters())


def test_of_a_dict_only_the_text_is_optimised(hybrid):
    cond = {"c_crossattn": [texts(3)], "c_concat": [normal(5, 2, 5, 8, 8)]}
    uncond = {"c_crossattn": [texts(4)], "c_concat": cond["c_concat"]}
    sampler, x0 = made(hybrid, 2), normal(1, 2, 4, 8, 8)
    inversion = invert(
        sampler, x0, cond, method="null-text", scale=7.5, uncond=uncond, null_text=HARD
    )
    for found in inversion.unconds.values():
        assert torch.equal(found["c_concat"][0], cond["c_concat"][0])
        assert not torch.equal(found["c_crossattn"][0], texts(4))
    assert redrawn(sampler, inversion, cond).isfinite().all()


def test_tensors_made_under_inference_mode_can_be_inverted_but_not_inside(unet):
    with torch.inference_mode():
        x0, cond, uncond = normal(1, 2, 4, 8, 8).clone(), texts(3).clone(), texts(4).clone()
    how = {"method": "null-text", "scale": 7.5, "null_text": HARD}
    assert invert(made(unet, 2), x0, cond, uncond=uncond, **how).fits
    with torch.inference_mode(), pytest.raises(UserError, match="inference_mode"):
        invert(made(unet, 2), x0, cond, uncond=uncond, **how)


# What is refused


class OwnStep(DDIMSampler):
    def p_sample_ddim(self, *args, **kwargs):
        return super().p_sample_ddim(*args, **kwargs)


def quad() -> DDIMSampler:
    sampler = DDIMSampler(GaussianModel(), spacing="quad")
    sampler.make_schedule(100, verbose=False)
    return sampler


def ready(kind: type) -> DDIMSampler:
    sampler = kind(GaussianModel())
    sampler.make_schedule(10, verbose=False)
    return sampler


REFUSED = {
    "^sampler PLMSSampler given": {"sampler": lambda: ready(PLMSSampler)},
    "^sampler OwnStep given": {"sampler": lambda: ready(OwnStep)},
    "ddim_eta above 0": {"sampler": lambda: made(GaussianModel(), ddim_eta=0.5)},
    "visits a time twice": {"sampler": quad, "method": "null-text"},
    "^method 'null' given; expected one of ddim, null-text": {"method": "null"},
    "method null-text with scale 1 given": {"method": "null-text", "scale": 1.0},
    "method null-text without cond": {"method": "null-text", "cond": None},
    "method ddim with scale 3 given; expected uncond": {"uncond": None},
    "null_text given with the method ddim": {"null_text": NullText()},
    "^0 steps to invert given; expected 1 to 10": {"steps": 0},
    "^11 steps to invert given": {"steps": 11},
    "^uncond of 1 rows given for 2 pictures": {"uncond": means(0.0)[:1]},
    "^cond of 1 rows given for 2 pictures": {"cond": means(0.0)[:1]},
    "^updates 0 given": {"method": "null-text", "null_text": NullText(updates=0)},
    "^rate_steps 9 given; expected 10": {
        "method": "null-text",
        "null_text": NullText(rate_steps=9),
    },
    "optimises embeddings": {"method": "null-text", "uncond": torch.zeros(2, dtype=torch.long)},
    "conditioning of c_concat given": {
        "method": "null-text",
        "uncond": {"c_concat": [means(0.0)]},
    },
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_inverted_is_refused_in_one_line(message):
    case = {"method": "ddim", "cond": means(0.3), **GUIDED, **REFUSED[message]}
    sampler = case.pop("sampler", lambda: made(GaussianModel()))()
    with pytest.raises(UserError, match=message) as caught:
        invert(sampler, pictures(), case.pop("cond"), **case)
    assert "\n" not in str(caught.value)


def test_a_sampler_without_a_schedule_is_told_so():
    with pytest.raises(RuntimeError, match="make_schedule"):
        invert(DDIMSampler(GaussianModel()), pictures(), None, method="ddim", scale=1.0)
