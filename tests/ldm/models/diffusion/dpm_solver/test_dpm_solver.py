"""DPM-Solver under the reference's names, on data whose flow is known exactly."""

from __future__ import annotations

import math

import pytest
import torch
from oracle import GaussianModel

from ldm.errors import UserError
from ldm.models.diffusion.dpm_solver.dpm_solver import DPM_Solver, NoiseScheduleVP, model_wrapper
from ldm.models.diffusion.dpm_solver.sampler import DPMSolverSampler

SHAPE = (2, 4, 4)
MEAN = 0.5
METHODS = [
    *(("multistep", order) for order in (1, 2, 3)),
    *(("singlestep", order) for order in (1, 2, 3)),
    *(("singlestep_fixed", order) for order in (2, 3)),
]
SKIPS = ["time_uniform", "logSNR", "time_quadratic"]


def normal(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(seed))


def means(value: float) -> torch.Tensor:
    return torch.full((2, 1, 1, 1), value)


def solver(model, cond=None, uncond=None, scale=1.0, model_type="noise", **options) -> DPM_Solver:
    process = NoiseScheduleVP("discrete", alphas_cumprod=model.alphas_cumprod)
    wrapped = model_wrapper(
        model.apply_model if cond is not None else lambda x, t: model.apply_model(x, t, None),
        process,
        model_type=model_type,
        guidance_type="classifier-free",
        condition=cond,
        unconditional_condition=uncond,
        guidance_scale=scale,
    )
    return DPM_Solver(wrapped, process, **options)


def error(steps: int, predict_x0: bool = True, **options) -> float:
    model = GaussianModel(MEAN, 0.7)
    out = solver(model, predict_x0=predict_x0).sample(normal(), steps, **options)
    exact = model.flow(normal(), 999, 0, mean=MEAN)
    return (out - exact).square().mean().sqrt().item()


# The process


@pytest.mark.parametrize("schedule", ["discrete", "linear", "cosine"])
def test_times_and_levels_of_noise_are_each_others_inverse(schedule):
    process = NoiseScheduleVP(schedule, alphas_cumprod=GaussianModel().alphas_cumprod)
    t = torch.linspace(0.002, process.T, 50)
    lam = process.marginal_lambda(t)
    assert lam.dtype == torch.float32 and lam.shape == (50,) and (lam.diff() < 0).all()
    torch.testing.assert_close(process.inverse_lambda(lam), t, rtol=1e-4, atol=1e-5)
    alpha, sigma = process.marginal_alpha(t), process.marginal_std(t)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones(50))
    torch.testing.assert_close(lam, alpha.log() - sigma.log(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        process.marginal_log_mean_coeff(t), alpha.log(), rtol=1e-3, atol=1e-5
    )


def test_the_discrete_process_meets_the_models_table_given_either_way():
    model = GaussianModel()
    t = torch.arange(1, 1001) / 1000
    for given in ({"alphas_cumprod": model.alphas_cumprod}, {"betas": model.betas}):
        process = NoiseScheduleVP("discrete", **given)
        assert (process.total_N, process.T, process.schedule) == (1000, 1.0, "discrete")
        torch.testing.assert_close(process.marginal_alpha(t), model.sqrt_alphas_cumprod)
        assert process.t_array.shape == process.log_alpha_array.shape == (1, 1000)
        assert process.marginal_alpha(torch.tensor(0.5)).shape == (1,)


def test_the_linear_process_is_the_integral_of_its_rate():
    process = NoiseScheduleVP("linear", continuous_beta_0=0.2, continuous_beta_1=10.0)
    t = torch.linspace(0, 1, 20001, dtype=torch.float64)
    rate = 0.2 + t * 9.8
    total = torch.cumulative_trapezoid(rate, t)
    torch.testing.assert_close(process.marginal_log_mean_coeff(t[1:]), -0.5 * total)


@pytest.mark.parametrize(
    "given", [("discrte", {}), ("discrete", {}), ("", {"betas": torch.ones(3) / 2})]
)
def test_a_process_without_its_numbers_is_a_user_error(given):
    with pytest.raises(UserError, match=r"discrete|alphas_cumprod"):
        NoiseScheduleVP(given[0], **given[1])


# The model


@pytest.mark.parametrize(("model_type", "kind"), [("x_start", "x0"), ("v", "v"), ("score", "eps")])
def test_every_prediction_becomes_the_same_noise(model_type, kind):
    process = NoiseScheduleVP("discrete", alphas_cumprod=GaussianModel().alphas_cumprod)
    t = torch.tensor([0.3, 0.9])

    def predict(x, t, cond=None):
        out = GaussianModel(MEAN, parameterization=kind).apply_model(x, t, cond)
        sigma = process.marginal_std((t + 1) / 1000).reshape(-1, 1, 1, 1)
        return -out / sigma if model_type == "score" else out

    wrapped = model_wrapper(predict, process, model_type)
    expected = model_wrapper(lambda x, t: GaussianModel(MEAN).apply_model(x, t, None), process)
    torch.testing.assert_close(wrapped(normal(), t), expected(normal(), t), rtol=0, atol=1e-5)


def test_the_model_is_asked_at_training_steps_and_one_time_serves_all_rows():
    seen = []
    process = NoiseScheduleVP("discrete", alphas_cumprod=GaussianModel().alphas_cumprod)
    wrapped = model_wrapper(
        lambda x, t, extra: seen.append(t) or x, process, model_kwargs={"extra": 1}
    )
    for t in (torch.tensor([1.0]), torch.tensor(0.001), torch.tensor([0.5, 0.7])):
        wrapped(normal(), t)
    expected = [[999, 999], [0, 0], [499, 699]]
    torch.testing.assert_close(torch.stack(seen), torch.tensor(expected).float(), rtol=0, atol=1e-3)
    continuous = model_wrapper(lambda x, t: seen.append(t) or x, NoiseScheduleVP("linear"))
    continuous(normal(), torch.tensor([0.25]))
    assert seen[-1].tolist() == [0.25, 0.25]


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_classifier_free_guidance_moves_the_mean_by_the_scale(scale):
    guided = solver(GaussianModel(), means(0.4), means(0.1), scale)
    moved = solver(GaussianModel(), means(0.1 + scale * 0.3))
    for t in (torch.tensor([0.5]), torch.tensor([0.1, 0.9])):
        out, expected = (each.noise_prediction_fn(normal(), t) for each in (guided, moved))
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)


def test_a_classifiers_gradient_is_taken_off_the_noise():
    process = NoiseScheduleVP("discrete", alphas_cumprod=GaussianModel().alphas_cumprod)
    wrapped = model_wrapper(
        lambda x, t: torch.zeros_like(x),
        process,
        guidance_type="classifier",
        condition="up",
        guidance_scale=2.0,
        classifier_fn=lambda x, t, cond, sign: sign * x.flatten(1).sum(1),
        classifier_kwargs={"sign": 1.0},
    )
    out = wrapped(normal(), torch.tensor([0.5]))
    expected = -2.0 * process.marginal_std(torch.tensor([0.5])).item()
    torch.testing.assert_close(out, torch.full_like(out, expected))


def test_what_the_wrapper_does_not_know_is_a_user_error():
    process = NoiseScheduleVP("linear")
    for options in ({"model_type": "epsilon"}, {"guidance_type": "cfg"}):
        with pytest.raises(UserError, match="expected"):
            model_wrapper(lambda x, t: x, process, **options)
    with pytest.raises(UserError, match="classifier_fn"):
        model_wrapper(lambda x, t: x, process, guidance_type="classifier")(normal(), torch.ones(1))


# The solver


@pytest.mark.parametrize("predict_x0", [True, False])
@pytest.mark.parametrize("skip_type", SKIPS)
@pytest.mark.parametrize(("method", "order"), METHODS)
@pytest.mark.parametrize("solver_type", ["dpm_solver", "taylor"])
def test_every_method_ends_near_the_exact_flow(method, order, skip_type, predict_x0, solver_type):
    options = {"skip_type": skip_type, "solver_type": solver_type, "predict_x0": predict_x0}
    found = error(60, method=method, order=order, **options)
    # Steps even in time are long in lambda at the clean end.
    uneven = 0.025 if skip_type == "time_uniform" else 0.012
    assert found < (0.05 if order == 1 else uneven)


@pytest.mark.parametrize("predict_x0", [True, False])
@pytest.mark.parametrize(("method", "order"), METHODS)
def test_every_method_converges_with_its_order(method, order, predict_x0):
    options = {"skip_type": "logSNR", "predict_x0": predict_x0, "lower_order_final": False}
    coarse, fine = (error(n, method=method, order=order, **options) for n in (24, 48))
    # "singlestep" of order 3 ends in steps of lower order, and a multistep walk begins so.
    least = {1: 0.8, 2: 1.6, 3: 2.0}[order]
    assert math.log2(coarse / fine) > least


@pytest.mark.parametrize("steps", [3, 8, 14, 15, 40])
@pytest.mark.parametrize("lower_order_final", [True, False])
def test_of_second_order_it_is_the_sampler_that_programs_use(steps, lower_order_final):
    model = GaussianModel(MEAN)
    out = solver(model, predict_x0=True).sample(
        normal(), steps, order=2, method="multistep", lower_order_final=lower_order_final
    )
    assert len(model.calls) == steps
    ours, _ = DPMSolverSampler(model).sample(steps, 2, SHAPE, x_T=normal(), verbose=False)
    same = lower_order_final or steps >= 15
    assert ((out - ours).abs().max() < 2e-4) == same


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("steps", [6, 7, 8, 9, 10])
def test_single_steps_use_up_exactly_the_calls_that_they_are_given(order, steps):
    model = GaussianModel(MEAN)
    find = solver(model).get_orders_and_timesteps_for_singlestep_solver
    times, orders = find(steps, order, "time_uniform", 1.0, 0.001, "cpu")
    assert sum(orders) == steps and len(times) == len(orders) + 1 and max(orders) == order
    assert times[0] == 1.0 and times[-1] == pytest.approx(0.001)
    solver(model).sample(normal(), steps, order=order, method="singlestep")
    assert len(model.calls) == steps


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("predict_x0", [True, False])
def test_adaptive_steps_are_as_accurate_as_they_are_asked_to_be(order, predict_x0):
    rough, fine = (
        error(0, predict_x0, method="adaptive", order=order, atol=tolerance, rtol=tolerance)
        for tolerance in (0.05, 0.0005)
    )
    assert fine < 0.003 and fine < rough < 0.2


def test_the_last_estimate_is_of_the_clean_sample():
    model = GaussianModel(MEAN, 0.0)  # all data are one point
    out = solver(model, predict_x0=True).sample(
        normal(), 10, order=2, method="multistep", denoise_to_zero=True
    )
    torch.testing.assert_close(out, torch.full_like(out, MEAN), rtol=0, atol=1e-4)
    assert len(model.calls) == 11


def test_thresholding_keeps_estimates_within_the_range_of_pixels():
    loud = GaussianModel(3.0, 0.2)
    for thresholding, largest in ((False, 3.5), (True, 1.0)):
        made = solver(loud, predict_x0=True, thresholding=thresholding)
        x0 = made.model_fn(normal(), torch.tensor([0.2, 0.2]))
        assert x0.abs().max() == pytest.approx(largest, abs=0.6 if not thresholding else 1e-6)


def test_steps_may_begin_and_end_anywhere():
    model = GaussianModel(MEAN)
    x = solver(model, predict_x0=True).sample(
        normal(), 40, t_start=0.8, t_end=0.3, order=2, method="multistep"
    )
    torch.testing.assert_close(x, model.flow(normal(), 799, 299, MEAN).float(), rtol=0, atol=0.01)


@pytest.mark.parametrize(
    "options",
    [
        {"method": "multistp"},
        {"order": 4},
        {"order": 1, "method": "adaptive"},
        {"skip_type": "quadratic"},
        {"solver_type": "tylor", "order": 2},
        {"method": "multistep", "order": 3, "steps": 2},
    ],
)
def test_what_the_solver_does_not_have_is_a_user_error(options):
    with pytest.raises(UserError, match="expected"):
        solver(GaussianModel()).sample(normal(), **{"steps": 6, **options})
