"""What every sampler promises, on a model whose answers are exact."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from oracle import GaussianModel

from ldm.errors import UserError
from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.rng import PerImageNoise
from ldm.settings.samplers import SAMPLERS

STRIDED = ("ddim", "plms")  # DPM-Solver's times are uniform in its own continuous clock
# Ask the model twice a step, but for the last one.
TWICE = [name for name, entry in SAMPLERS.items() if entry.calls == 2]
STOCHASTIC = ("dpmpp_2m_sde", "dpmpp_2m_sde_heun", "dpmpp_3m_sde")
ANCESTRAL = ("euler_a", "dpm2_a", "dpmpp_2s_a", "dpmpp_sde", *STOCHASTIC)
NOISY = (*ANCESTRAL, "lcm", "tcd")  # draw noise in every step but the last
DISTILLED = ("lcm", "tcd")
# Extrapolate estimates, and the oracle's estimates of a picture far from its data are poor.
EXTRAPOLATING = ("dpm_solver", "dpmpp_2m", "dpmpp_3m", "deis", "unipc", "unipc_bh2")
WITHOUT_ORIGINAL_STEPS = [name for name in SAMPLERS if name not in STRIDED]
SHAPE = (2, 4, 4)
UNALIKE = (*NOISY, "ddpm", "restart")  # whose noise a mask's draws would move
# Where the reference's striding reaches step 1000 and its tables end at 999.
CRASHING = [3, 9, 27, 36, 37, *range(101, 112), *range(251, 334), *range(501, 1001)]


def start_noise(batch: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, *SHAPE, generator=torch.Generator().manual_seed(seed))


def two_seeds() -> PerImageNoise:
    """Return a new source, so that a sampler that adds noise can be run twice alike."""
    return PerImageNoise([0, 1])


def sample(name: str, steps: int = 10, batch: int = 2, cond=None, *, model=None, **options):
    sampler = make_sampler(
        name, model or GaussianModel(0.3), spacing=options.pop("spacing", "uniform")
    )
    return sampler.sample(steps, batch, SHAPE, cond, verbose=False, **options)


def calls_of(name: str, steps: int) -> int:
    """Return how often a walk of so many steps asks the model."""
    return {"plms": steps + 1, **dict.fromkeys(TWICE, 2 * steps - 1)}.get(name, steps)


def means(*values: float) -> torch.Tensor:
    """Return one condition per image: the mean of its data."""
    return torch.tensor(values).reshape(-1, 1, 1, 1)


# Step counts


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("spacing", ["linspace", "trailing"])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 30, 37, 48, 501, 1000])
def test_linspace_and_trailing_take_exactly_the_steps_asked_for(name, spacing, steps):
    sampler = make_sampler(name, GaussianModel(), spacing=spacing)
    sampler.make_schedule(steps, ddim_eta=0.0, verbose=False)
    assert sampler.steps == steps


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("spacing", ["uniform", "linspace", "trailing"])
def test_the_model_is_called_as_often_as_the_schedule_says(name, spacing):
    model = GaussianModel()
    sampler = make_sampler(name, model, spacing=spacing)
    sampler.sample(30, 1, SHAPE, verbose=False)
    assert len(model.calls) == calls_of(name, sampler.steps)


@pytest.mark.parametrize("name", STRIDED)
def test_every_step_count_makes_a_schedule_inside_the_model(name):
    sampler = make_sampler(name, GaussianModel())
    for steps in range(1, 1001):
        sampler.make_schedule(steps, ddim_eta=0.0, verbose=False)
        times = np.asarray(sampler.ddim_timesteps)
        assert len(times) == sampler.steps
        assert (np.diff(times) > 0).all()
        assert times[0] >= 0
        assert times[-1] <= 999


@pytest.mark.parametrize("name", STRIDED)
def test_step_counts_at_which_the_reference_works_keep_its_timesteps(name):
    sampler = make_sampler(name, GaussianModel())
    for steps in sorted(set(range(1, 1001)) - set(CRASHING)):
        sampler.make_schedule(steps, ddim_eta=0.0, verbose=False)
        expected = range(1, 1001, 1000 // steps)
        assert list(sampler.ddim_timesteps) == list(expected), steps


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [3, 9, 27, 36, 37, 101, 111, 251, 333, 501, 1000])
def test_step_counts_at_which_the_reference_crashes_run(name, steps):
    if name in DISTILLED and steps > 50:  # of which its models were distilled
        return
    out, _ = sample(name, steps, batch=1)
    assert out.isfinite().all()


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2])
def test_one_and_two_steps_run(name, steps):
    out, _ = sample(name, steps)
    assert out.isfinite().all()


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_impossible_step_counts_are_a_user_error(name, steps):
    with pytest.raises(UserError, match=str(steps)):
        sample(name, steps)


def test_a_count_that_differs_from_the_one_asked_for_is_said(caplog):
    with caplog.at_level(logging.WARNING):
        sample("ddim", 30)
    assert "31" in caplog.text
    assert "linspace" in caplog.text


@pytest.mark.parametrize("steps", [10, 50])
def test_a_count_that_is_met_is_not_warned_about(caplog, steps):
    with caplog.at_level(logging.WARNING):
        sample("ddim", steps)
    assert not caplog.records


# Inputs


@pytest.mark.parametrize("name", SAMPLERS)
def test_no_input_is_modified(name):
    inputs = {
        "conditioning": means(0.3, 0.4),
        "unconditional_conditioning": means(0.0, 0.0),
        "x_T": start_noise(),
        "x0": start_noise(seed=1),
        "mask": (start_noise(seed=2)[:, :1] > 0).float(),
    }
    copies = {key: value.clone() for key, value in inputs.items()}
    cond = inputs.pop("conditioning")
    sample(name, cond=cond, unconditional_guidance_scale=3.0, **inputs)
    for key, value in {"conditioning": cond, **inputs}.items():
        assert torch.equal(value, copies[key]), key


@pytest.mark.parametrize("name", SAMPLERS)
def test_scale_one_is_no_guidance_and_costs_nothing(name):
    plain, guided = GaussianModel(), GaussianModel()
    options = {"cond": means(0.3, 0.4), "x_T": start_noise()}
    expected, _ = sample(name, model=plain, noise=two_seeds(), **options)
    out, _ = sample(
        name,
        model=guided,
        noise=two_seeds(),
        unconditional_guidance_scale=1.0,
        unconditional_conditioning=means(0.0, 0.0),
        **options,
    )
    assert torch.equal(out, expected)
    assert all(len(t) == 2 for t in guided.calls)


@pytest.mark.parametrize("name", SAMPLERS)
def test_guidance_asks_the_model_once_per_step_for_both_halves(name):
    model = GaussianModel()
    sample(
        name,
        model=model,
        cond=means(0.3, 0.4),
        unconditional_guidance_scale=2.0,
        unconditional_conditioning=means(0.0, 0.0),
    )
    assert {len(t) for t in model.calls} == {4}


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_dict_of_conditions_means_the_same_as_the_tensor_in_it(name):
    cond, uncond = means(0.3, 0.4), means(0.0, 0.1)
    options = {"x_T": start_noise(), "unconditional_guidance_scale": 3.0}
    expected, _ = sample(
        name, cond=cond, unconditional_conditioning=uncond, noise=two_seeds(), **options
    )
    out, _ = sample(
        name,
        cond={"c_crossattn": [cond]},
        noise=two_seeds(),
        unconditional_conditioning={"c_crossattn": [uncond]},
        **options,
    )
    assert torch.equal(out, expected)


def test_plms_refuses_noise():
    with pytest.raises(UserError, match="ddim_eta must be 0 for PLMS"):
        sample("plms", eta=0.5)


# Batches and randomness


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_batch_of_two_is_two_singles_with_a_generator_per_image(name):
    eta = 0.7 if name == "ddim" else 0.0
    cond = means(0.3, 0.9)
    both, _ = sample(name, cond=cond, eta=eta, noise=PerImageNoise([5, 6]))
    for row, seed in enumerate([5, 6]):
        alone, _ = sample(
            name, batch=1, cond=cond[row : row + 1], eta=eta, noise=PerImageNoise([seed])
        )
        torch.testing.assert_close(both[row : row + 1], alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_global_stream_moves_by_the_references_number_of_draws(name):
    own = {"ddim": 10, "plms": 11, "dpmpp_sde": 18, "ddpm": 10}
    draws = {**dict.fromkeys(NOISY, 9), **own}.get(name, 0)
    torch.manual_seed(7)
    for _ in range(draws):
        torch.randn(2, *SHAPE)
    expected = torch.randn(3)
    torch.manual_seed(7)
    sample(name, steps=10, x_T=start_noise())
    assert torch.equal(torch.randn(3), expected)


@pytest.mark.parametrize("name", SAMPLERS)
def test_without_a_start_the_first_draw_of_the_stream_is_the_start(name):
    torch.manual_seed(7)
    x_T = torch.randn(2, *SHAPE)
    expected, _ = sample(name, x_T=x_T)
    torch.manual_seed(7)
    out, _ = sample(name)
    assert torch.equal(out, expected)


def test_temperature_zero_takes_the_noise_out_of_ddim():
    options = {"x_T": start_noise(), "eta": 0.8, "temperature": 0.0}
    assert torch.equal(sample("ddim", **options)[0], sample("ddim", **options)[0])


# Masks


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name not in UNALIKE])
def test_a_mask_keeps_what_it_covers_and_leaves_the_rest_to_the_model(name):
    near = 2.0 if name in EXTRAPOLATING else 0.2
    known = torch.full((1, *SHAPE), 5.0)  # ten standard deviations from the model's data
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    start = {"batch": 1, "model": GaussianModel(0.0, 0.5), "x_T": start_noise(1)}
    out, _ = sample(name, 50, mask=mask, x0=known, noise=PerImageNoise([0]), **start)
    free, _ = sample(name, 50, **start)
    assert (out[..., :2] - known[..., :2]).abs().max() < near
    torch.testing.assert_close(out[..., 2:], free[..., 2:])


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_mask_may_be_of_truth_values_and_its_picture_in_half_precision(name):
    known, mask = torch.full((2, *SHAPE), 0.5), torch.rand(2, 1, 4, 4) > 0.5
    torch.manual_seed(1)
    expected, _ = sample(name, x_T=start_noise(), mask=mask.float(), x0=known)
    torch.manual_seed(1)
    out, _ = sample(name, x_T=start_noise(), mask=mask, x0=known.half())
    assert torch.equal(out, expected)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_mask_without_a_picture_is_refused(name):
    with pytest.raises(ValueError, match="x0"):
        sample(name, mask=torch.ones(1, 1, 4, 4))


# Starting part of the way


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_start_in_half_precision_is_walked_from_in_full(name):
    half = start_noise().half()
    expected, _ = sample(name, x_T=half.float(), noise=two_seeds())
    out, _ = sample(name, x_T=half, noise=two_seeds())
    assert out.dtype == torch.float32 and torch.equal(out, expected)


@pytest.mark.parametrize("name", SAMPLERS)
def test_without_a_schedule_there_is_nothing_to_decode_and_that_is_an_error(name):
    sampler = make_sampler(name, GaussianModel())
    with pytest.raises(RuntimeError, match="make_schedule"):
        sampler.decode(start_noise(), None, 5)
    with pytest.raises(RuntimeError, match="make_schedule"):
        sampler.stochastic_encode(start_noise(), 5)


@pytest.mark.parametrize("name", STRIDED)
def test_original_steps_visit_every_training_step_and_end_at_the_clean_sample(name):
    model = GaussianModel(0.3)
    sampler = make_sampler(name, model)
    sampler.make_schedule(20, ddim_eta=0.0, verbose=False)
    picture, noise = start_noise(seed=4), start_noise()
    a_bar = model.alphas_cumprod[30]
    encoded = sampler.stochastic_encode(picture, 30, use_original_steps=True, noise=noise)
    torch.testing.assert_close(encoded, a_bar.sqrt() * picture + (1 - a_bar).sqrt() * noise)
    with sampler.original_steps(True):
        assert torch.equal(sampler.table.alphas, model.alphas_cumprod)
        assert torch.equal(sampler.table.alphas_prev, model.alphas_cumprod_prev)
    model.calls.clear()
    steps = [None]
    out = sampler.decode(encoded, None, 30, use_original_steps=True, callback=steps.append)
    assert len(steps) == 31 and int(model.calls[-1][0]) == 0
    last = model.flow(encoded, 29, 0, 0.3)  # the exact sample before the last step
    x0 = 0.3 + (last - 0.3) / last.std() * out.std()
    torch.testing.assert_close(out, x0.float(), rtol=0, atol=0.01)
    assert sampler.steps == 20  # the made schedule is back


@pytest.mark.parametrize("name", WITHOUT_ORIGINAL_STEPS)
def test_samplers_between_training_steps_say_that_they_have_no_original_steps(name):
    sampler = make_sampler(name, GaussianModel())
    sampler.make_schedule(20, verbose=False)
    with pytest.raises(UserError, match="use_original_steps"):
        sampler.decode(start_noise(), None, 5, use_original_steps=True)


@pytest.mark.parametrize("name", SAMPLERS)
def test_pictures_of_a_batch_can_be_noised_to_steps_of_their_own(name):
    sampler = make_sampler(name, GaussianModel())
    sampler.make_schedule(20, verbose=False)
    picture, noise = start_noise(seed=4), start_noise()
    both = sampler.stochastic_encode(picture, torch.tensor([3, 15]), noise=noise)
    for row, t in enumerate((3, 15)):
        alone = sampler.stochastic_encode(picture[row : row + 1], t, noise=noise[row : row + 1])
        assert torch.equal(both[row : row + 1], alone)


# Options of the reference


class Corrector:
    """Adds a constant to eps, and remembers what it was called with."""

    def __init__(self, offset: float):
        self.offset, self.calls = offset, []

    def modify_score(self, model, eps, x, t, cond, **keywords):
        self.calls.append((tuple(eps.shape), tuple(x.shape), tuple(t.shape), cond, keywords))
        return eps + self.offset


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("kind", ["eps", "v"])
def test_a_score_corrector_changes_the_guided_eps(name, kind):
    options = {"x_T": start_noise(), "model": GaussianModel(0.3, parameterization=kind)}
    plain, _ = sample(name, noise=two_seeds(), **options)
    unmoved = {"score_corrector": Corrector(0.0), "corrector_kwargs": None}
    neutral, _ = sample(name, noise=two_seeds(), **unmoved, **options)
    torch.testing.assert_close(neutral, plain, rtol=0, atol=1e-5)
    corrector = Corrector(0.1)
    cond = means(0.3, 0.4)
    moved, _ = sample(
        name,
        cond=cond,
        score_corrector=corrector,
        corrector_kwargs={"strength": 2},
        noise=two_seeds(),
        unconditional_guidance_scale=2.0,
        unconditional_conditioning=means(0.0, 0.0),
        **options,
    )
    assert (moved - plain).abs().max() > 0.05
    shapes = ((2, *SHAPE), (2, *SHAPE), (2,))
    assert all(call[:3] == shapes and call[3] is cond for call in corrector.calls)
    assert corrector.calls[0][4] == {"strength": 2}


@pytest.mark.parametrize("name", SAMPLERS)
def test_estimates_can_be_snapped_to_a_codebook(name):
    class Codebook:
        def quantize(self, z):
            return z.round(), None, [None, None, None]

    model, estimates = GaussianModel(0.3), []
    model.first_stage_model = Codebook()
    sample(name, model=model, quantize_x0=True, img_callback=lambda x0, i: estimates.append(x0))
    assert len(estimates) == 10
    for x0 in estimates:
        # A consistency model's estimate has a little of the sample in it.
        near = 1e-4 if name == "lcm" else 0
        torch.testing.assert_close(x0, x0.round(), rtol=0, atol=near)


def test_all_noise_dropped_out_is_no_noise():
    options = {"x_T": start_noise(), "eta": 0.8}
    silent, _ = sample("ddim", temperature=0.0, **options)
    assert torch.equal(sample("ddim", noise_dropout=1.0, **options)[0], silent)


# Decoding


@pytest.mark.parametrize("name", SAMPLERS)
def test_decoding_from_step_zero_returns_what_it_was_given(name):
    sampler = make_sampler(name, GaussianModel())
    sampler.make_schedule(20, ddim_eta=0.0, verbose=False)
    x = start_noise()
    assert torch.equal(sampler.decode(x, None, 0), x)


@pytest.mark.parametrize("name", SAMPLERS)
def test_decoding_all_steps_is_sampling(name):
    sampler = make_sampler(name, GaussianModel(0.3))
    options = {"x_T": start_noise(), "verbose": False}
    expected, _ = sampler.sample(20, 2, SHAPE, noise=two_seeds(), **options)
    sampler.make_schedule(20, ddim_eta=0.0, verbose=False)
    out = sampler.decode(start_noise(), None, sampler.steps, noise=two_seeds())
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("t_start", [1, 2, 5, 19])
def test_decoding_some_steps_takes_that_many(name, t_start):
    model = GaussianModel(0.3)
    sampler = make_sampler(name, model)
    sampler.make_schedule(20, ddim_eta=0.0, verbose=False)
    assert sampler.decode(start_noise(), None, t_start).isfinite().all()
    assert len(model.calls) == calls_of(name, t_start)


@pytest.mark.parametrize("name", SAMPLERS)
def test_encoding_then_decoding_stays_near_a_typical_picture(name):
    model = GaussianModel(0.3, 0.5)
    sampler = make_sampler(name, model)
    sampler.make_schedule(50, ddim_eta=0.0, verbose=False)
    picture = 0.3 + 0.5 * start_noise(seed=4)

    def distance(t: int) -> float:
        noisy = sampler.stochastic_encode(picture, t, noise=start_noise())
        out = sampler.decode(noisy, None, t, noise=two_seeds())
        return (out - picture).abs().mean().item()

    # Samplers that add noise have forgotten the picture well before their first step.
    forgetful = (*DISTILLED, "ddpm", "restart")
    steps = {**dict.fromkeys(forgetful, (1, 2, 10)), **dict.fromkeys(ANCESTRAL, (1, 2, 10, 25))}
    far = [distance(t) for t in steps.get(name, (1, 2, 10, 25, 50))]
    assert far[0] < 0.15  # the data's own spread is 0.5
    assert far == sorted(far)


@pytest.mark.parametrize("name", SAMPLERS)
def test_full_strength_is_clamped_to_the_last_entry_of_the_table(name):
    sampler = make_sampler(name, GaussianModel())
    sampler.make_schedule(20, ddim_eta=0.0, verbose=False)
    zeros, noise = torch.zeros(2, *SHAPE), start_noise()
    full = sampler.stochastic_encode(zeros, 20, noise=noise)
    assert full.isfinite().all()
    assert (full.norm() / noise.norm()).item() > 0.98


def test_ddim_encodes_to_the_alpha_of_the_index_given():
    model = GaussianModel()
    sampler = make_sampler("ddim", model)
    sampler.make_schedule(20, ddim_eta=0.0, verbose=False)
    picture, noise = start_noise(seed=4), start_noise()
    a_bar = model.alphas_cumprod[int(sampler.ddim_timesteps[12])]
    expected = a_bar.sqrt() * picture + (1 - a_bar).sqrt() * noise
    for t_enc in (12, torch.tensor([12, 12])):
        torch.testing.assert_close(sampler.stochastic_encode(picture, t_enc, noise=noise), expected)


def test_encoding_draws_from_the_global_stream_unless_told_otherwise():
    sampler = make_sampler("ddim", GaussianModel())
    sampler.make_schedule(20, ddim_eta=0.0, verbose=False)
    picture = start_noise(seed=4)
    torch.manual_seed(3)
    noise = torch.randn(2, *SHAPE)
    torch.manual_seed(3)
    assert torch.equal(
        sampler.stochastic_encode(picture, 12), sampler.stochastic_encode(picture, 12, noise=noise)
    )


# Watching


@pytest.mark.parametrize("name", SAMPLERS)
def test_callbacks_are_called_once_per_step(name):
    seen, pictures = [], []
    sample(
        name,
        callback=seen.append,
        img_callback=lambda x0, i: pictures.append((tuple(x0.shape), i)),
    )
    assert seen == list(range(10))
    assert pictures == [((2, *SHAPE), i) for i in range(10)]


@pytest.mark.parametrize("name", SAMPLERS)
def test_intermediates_hold_samples_and_estimates(name):
    out, intermediates = sample(name, log_every_t=2)
    if name == "dpm_solver":  # as in the reference
        assert intermediates is None
        return
    assert len(intermediates["x_inter"]) == len(intermediates["pred_x0"]) > 4
    assert torch.equal(intermediates["x_inter"][-1], out)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_walk_can_be_left_at_any_step(name):
    model = GaussianModel(0.3)
    sampler = make_sampler(name, model)
    sampler.make_schedule(20, ddim_eta=0.0, verbose=False)
    for state in sampler.walk(
        start_noise(), None, unconditional_guidance_scale=1.0, unconditional_conditioning=None
    ):
        assert state.total == 20
        if state.i == 4:
            break
    assert len(model.calls) == calls_of(name, 5) + (name in TWICE)  # the last step is not reached


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_last_estimate_of_a_walk_is_near_its_sample(name):
    sampler = make_sampler(name, GaussianModel(0.3))
    sampler.make_schedule(50, ddim_eta=0.0, verbose=False)
    *_, last = sampler.walk(
        start_noise(), None, unconditional_guidance_scale=1.0, unconditional_conditioning=None
    )
    assert (last.i, last.total) == (49, 50)
    assert (last.x - last.x0).abs().mean() < 0.1
