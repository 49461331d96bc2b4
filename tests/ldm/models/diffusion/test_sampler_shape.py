"""What users and forks read from samplers and call on them has the reference's names and kinds."""

from __future__ import annotations

import inspect
import logging

import numpy as np
import pytest
import torch
from oracle import GaussianModel

from ldm.errors import UserError
from ldm.models.diffusion import ddim, plms
from ldm.models.diffusion.ancestral import AncestralSampler
from ldm.models.diffusion.ddim import DDIMSampler
from ldm.models.diffusion.dpm_solver import DPMSolverSampler
from ldm.models.diffusion.plms import ADAMS_BASHFORTH, PLMSSampler
from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.modules.diffusionmodules.util import make_ddim_sampling_parameters, make_ddim_timesteps
from ldm.process.guidance import ClassifierFreeGuidance
from ldm.rng import PerImageNoise
from ldm.settings.samplers import SAMPLERS

SHAPE = (2, 4, 4)
IN_ORDER = """S batch_size shape conditioning callback normals_sequence img_callback quantize_x0 eta
    mask x0 temperature noise_dropout score_corrector corrector_kwargs verbose x_T log_every_t
    unconditional_guidance_scale unconditional_conditioning dynamic_threshold ucg_schedule"""


def normal(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(seed))


def means(value: float) -> torch.Tensor:
    return torch.full((2, 1, 1, 1), value)


def made(base=DDIMSampler, steps: int = 10, eta: float = 0.0, **options):
    sampler = base(GaussianModel(0.3), **options)
    sampler.make_schedule(steps, ddim_eta=eta, verbose=False)
    return sampler


class BareModel:
    """No more than the protocol asks of a model."""

    num_timesteps = 1000
    alphas_cumprod = GaussianModel().alphas_cumprod
    parameterization = "eps"
    device = torch.device("cpu")

    def apply_model(self, x, t, cond):
        return 0.1 * x


# What is read


@pytest.mark.parametrize("base", [DDIMSampler, PLMSSampler])
def test_the_tables_have_the_references_kinds(base):
    sampler = made(base)
    kinds = {
        "ddim_alphas": torch.float32,
        "ddim_sqrt_one_minus_alphas": torch.float32,
        "ddim_sigmas": torch.float64,
        "ddim_sigmas_for_original_num_steps": torch.float32,
        **dict.fromkeys(ORIGINAL, torch.float32),
    }
    for name, dtype in kinds.items():
        table = getattr(sampler, name)
        assert isinstance(table, torch.Tensor) and table.dtype == dtype, name
        assert len(table) == (10 if name in SHORT else 1000), name
    assert isinstance(sampler.ddim_timesteps, np.ndarray)
    assert sampler.ddim_alphas_prev.dtype == np.float64
    assert isinstance(sampler.ddim_alphas_prev, np.ndarray)


SHORT = ("ddim_alphas", "ddim_sqrt_one_minus_alphas", "ddim_sigmas")
ORIGINAL = {
    "betas": lambda a, before: 1 - a / before,
    "alphas_cumprod": lambda a, before: a,
    "alphas_cumprod_prev": lambda a, before: before,
    "sqrt_alphas_cumprod": lambda a, before: a**0.5,
    "sqrt_one_minus_alphas_cumprod": lambda a, before: (1 - a) ** 0.5,
    "log_one_minus_alphas_cumprod": lambda a, before: np.log(1 - a),
    "sqrt_recip_alphas_cumprod": lambda a, before: (1 / a) ** 0.5,
    "sqrt_recipm1_alphas_cumprod": lambda a, before: (1 / a - 1) ** 0.5,
}


@pytest.mark.parametrize("model", [GaussianModel(), BareModel()])
@pytest.mark.parametrize("base", [DDIMSampler, PLMSSampler])
def test_the_tables_are_what_their_names_say_whatever_the_model_has_of_them(base, model):
    eta = 0.6 if base is DDIMSampler else 0.0
    sampler = base(model)
    sampler.make_schedule(10, ddim_eta=eta, verbose=False)
    a = model.alphas_cumprod.double().numpy()
    before = np.append(1.0, a[:-1])
    for name, formula in ORIGINAL.items():
        # 1 - a is near 0 at the clean end.
        assert np.allclose(getattr(sampler, name), formula(a, before), rtol=1e-3), name
    a_t, a_prev = a[sampler.ddim_timesteps], a[[0, *sampler.ddim_timesteps[:-1]]]
    assert np.allclose(sampler.ddim_alphas, a_t) and np.allclose(sampler.ddim_alphas_prev, a_prev)
    sigmas = eta * np.sqrt((1 - a_prev) / (1 - a_t) * (1 - a_t / a_prev))
    assert np.allclose(sampler.ddim_sigmas, sigmas, atol=1e-6)
    assert np.allclose(sampler.ddim_sqrt_one_minus_alphas, np.sqrt(1 - a_t))
    every = eta * np.sqrt((1 - before) / (1 - a) * (1 - a / before))
    assert np.allclose(sampler.ddim_sigmas_for_original_num_steps, every, atol=1e-3)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_constructor_keeps_what_it_is_given_and_where_the_model_is(name):
    base = type(make_sampler(name, GaussianModel()))
    sampler = base(GaussianModel(), "cosine", spacing="trailing")
    sampler.make_schedule(7, verbose=False)
    assert sampler.schedule == "cosine" and sampler.ddpm_num_timesteps == 1000
    assert sampler.steps == 7 and sampler.device == torch.device("cpu")
    sampler.device = "meta"  # forks set it
    sampler.register_buffer("numbers", torch.ones(3))
    sampler.register_buffer("word", "as it is")
    assert sampler.numbers.is_meta and sampler.word == "as it is"
    assert base(GaussianModel(), device="meta").device == "meta"


def test_dpm_solver_has_the_models_table_from_the_start():
    table = DPMSolverSampler(GaussianModel()).alphas_cumprod
    assert torch.equal(table, GaussianModel().alphas_cumprod) and table.dtype == torch.float32


@pytest.mark.parametrize("given", [torch.tensor, np.asarray])
def test_ddims_parameters_come_in_the_kind_of_what_was_given(given):
    cumprod, steps = np.linspace(0.99, 0.01, 1000, dtype=np.float32), np.array([1, 500, 999])
    sigmas, alphas, before = make_ddim_sampling_parameters(given(cumprod), steps, 0.5)
    kind = torch.Tensor if given is torch.tensor else np.ndarray
    assert isinstance(sigmas, kind) and isinstance(alphas, kind) and isinstance(before, np.ndarray)
    assert str(sigmas.dtype).endswith("float64") and str(alphas.dtype).endswith("float32")
    assert before.dtype == np.float64
    a, p = cumprod[steps].astype(float), cumprod[[0, 1, 500]].astype(float)
    assert np.allclose(alphas, a) and np.allclose(before, p)
    assert np.allclose(sigmas, 0.5 * np.sqrt((1 - p) / (1 - a) * (1 - a / p)), rtol=1e-5)


@pytest.mark.parametrize("steps", [10, 50, 200])
def test_quad_has_as_many_steps_as_asked_some_of_them_twice(steps):
    timesteps = make_ddim_timesteps("quad", steps, 1000)
    assert len(timesteps) == steps
    assert (np.diff(timesteps) >= 0).all()
    if steps == 50:
        assert timesteps[:3].tolist() == [1, 1, 2]
    unique = make_ddim_timesteps("quad_unique", steps, 1000)
    assert unique.tolist() == sorted(set(timesteps.tolist()))


@pytest.mark.parametrize("base", [DDIMSampler, PLMSSampler, DPMSolverSampler, AncestralSampler])
def test_a_step_that_is_taken_twice_does_no_harm(base):
    out = {}
    for spacing in ("quad", "quad_unique"):
        sampler = base(GaussianModel(0.3), spacing=spacing)
        out[spacing] = sampler.sample(
            50, 2, SHAPE, x_T=normal(), noise=PerImageNoise([1, 2]), verbose=False
        )[0]
    torch.testing.assert_close(out["quad"], out["quad_unique"], rtol=0, atol=0.1)


# What is called


@pytest.mark.parametrize("name", SAMPLERS)
def test_samples_arguments_are_in_the_references_order(name):
    sampler = make_sampler(name, GaussianModel(0.3))
    assert list(inspect.signature(sampler.sample).parameters)[:22] == IN_ORDER.split()
    named, _ = sampler.sample(
        8,
        2,
        SHAPE,
        means(0.4),
        x_T=normal(),
        verbose=False,
        unconditional_guidance_scale=2.0,
        unconditional_conditioning=means(0.1),
        noise=PerImageNoise([1, 2]),
    )
    unused = (None, None, None, False, 0.0, None, None, 1.0, 0.0, None, None, False)
    given = (8, 2, SHAPE, means(0.4), *unused, normal(), 100, 2.0, means(0.1))
    assert torch.equal(sampler.sample(*given, noise=PerImageNoise([1, 2]))[0], named)


@pytest.mark.parametrize("module", [ddim, plms])
def test_the_module_has_what_others_import_from_it(module):
    for name in ("make_ddim_sampling_parameters", "make_ddim_timesteps", "noise_like"):
        assert callable(getattr(module, name))
    assert callable(ddim.extract_into_tensor)


def step_by_formula(sampler, x, eps, index):
    """DDIM's Eq. 12 at eta 0 in float64."""
    a, before = (float(t[index]) for t in (sampler.ddim_alphas, sampler.ddim_alphas_prev))
    x0 = (x.double() - (1 - a) ** 0.5 * eps) / a**0.5
    return before**0.5 * x0 + (1 - before) ** 0.5 * eps, x0


@pytest.mark.parametrize("index", [0, 4, 9])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_one_step_of_ddim_is_equation_12(index, scale):
    sampler, x = made(), normal()
    t = torch.full((2,), int(sampler.ddim_timesteps[index]))
    out = sampler.p_sample_ddim(
        x,
        means(0.4),
        t,
        index,
        unconditional_guidance_scale=scale,
        unconditional_conditioning=means(0.1),
    )
    guided = GaussianModel().apply_model(x, t, means(0.1 + scale * 0.3))
    for got, expected in zip(out, step_by_formula(sampler, x, guided, index), strict=True):
        torch.testing.assert_close(got, expected.float(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("given", range(5))
def test_one_step_of_plms_extrapolates_from_the_eps_that_it_is_given(given):
    sampler, x, index = made(PLMSSampler), normal(), 6
    t, t_next = (torch.full((2,), int(sampler.ddim_timesteps[i])) for i in (index, index - 1))
    old = [normal(seed) for seed in range(1, given + 1)]
    out = sampler.p_sample_plms(x, means(0.4), t, index, old_eps=old, t_next=t_next)
    eps = sampler.model.apply_model(x, t, means(0.4))
    assert torch.equal(out[2], eps)
    if given:
        numerators, denominator = ADAMS_BASHFORTH[min(given, 3) + 1]
        newest_first = [eps, *reversed(old)]
        ahead = sum(c * e for c, e in zip(numerators, newest_first, strict=False)) / denominator
    else:
        trial = step_by_formula(sampler, x, eps, index)[0].float()
        ahead = (eps + sampler.model.apply_model(trial, t_next, means(0.4))) / 2
        no_old = sampler.p_sample_plms(x, means(0.4), t, index)
        assert torch.equal(no_old[0], out[0])
    for got, expected in zip(out[:2], step_by_formula(sampler, x, ahead, index), strict=True):
        torch.testing.assert_close(got, expected.float(), rtol=0, atol=1e-5)


def test_one_step_asks_the_model_at_the_time_that_it_is_given():
    sampler = made()
    sampler.p_sample_ddim(normal(), None, torch.tensor([3, 700]), 5)
    assert sampler.model.calls[-1].tolist() == [3, 700]


def test_noise_that_is_repeated_is_the_same_in_every_row():
    sampler, x = made(eta=1.0), torch.zeros(2, *SHAPE)
    sampler.model.apply_model = lambda x, t, c: torch.zeros_like(x)
    apart, repeated = (
        sampler.p_sample_ddim(x, None, torch.full((2,), 500), 5, repeat_noise=repeat)[0]
        for repeat in (False, True)
    )
    assert torch.equal(repeated[0], repeated[1]) and not torch.equal(apart[0], apart[1])
    torch.manual_seed(4)
    drawn = sampler.p_sample_ddim(x, None, torch.full((2,), 500), 5, True)[0]
    torch.manual_seed(4)
    expected = torch.randn(1, *SHAPE) * float(sampler.ddim_sigmas[5])
    torch.testing.assert_close(drawn, expected.expand(2, *SHAPE))


def test_one_step_of_original_steps_is_one_of_all_training_steps():
    sampler, x = made(), normal()
    with sampler.original_steps(True):
        walked = next(iter(sampler.walk(x, None, t_start=31))).x
    t = torch.full((2,), 30)
    assert torch.equal(sampler.p_sample_ddim(x, None, t, 30, use_original_steps=True)[0], walked)
    assert sampler.steps == 10


@pytest.mark.parametrize("base", [DDIMSampler, PLMSSampler])
@pytest.mark.parametrize(
    ("timesteps", "taken"), [(None, 10), (10, 9), (7, 6), (1, 0), (99, 9), (0, 9)]
)
def test_a_loop_from_part_of_the_way_is_one_step_shorter_as_the_references(base, timesteps, taken):
    sampler = made(base)
    loop = sampler.ddim_sampling if base is DDIMSampler else sampler.plms_sampling
    steps: list[int] = []
    out, kept = loop(
        None, (2, *SHAPE), normal(), timesteps=timesteps, callback=steps.append, verbose=False
    )
    assert steps == list(range(taken))
    assert torch.equal(out, sampler.decode(normal(), None, taken))
    assert kept.keys() == {"x_inter", "pred_x0"}


def test_a_loop_over_original_steps_takes_as_many_as_it_is_told():
    sampler, steps = made(), []
    sampler.ddim_sampling(
        None, (2, *SHAPE), normal(), True, steps.append, timesteps=25, verbose=False
    )
    assert len(steps) == 25 and [int(t[0]) for t in sampler.model.calls] == list(range(24, -1, -1))


# Keywords that nobody knows


def warnings(caplog) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ("unconditional_guidance_scal", "unconditional_guidance_scale"),
        ("quantize_denoised", "quantize_x0"),
        ("log_every", "log_every_t"),
        ("x_t", "x_T"),
    ],
)
def test_unknown_keywords_are_taken_with_one_warning_of_the_nearest(name, given, nearest, caplog):
    sampler = make_sampler(name, GaussianModel())
    options = {"x_T": normal(), "verbose": False}
    expected, _ = sampler.sample(5, 2, SHAPE, noise=PerImageNoise([0, 1]), **options)
    caplog.clear()
    for _ in range(2):
        out, _ = sampler.sample(
            5, 2, SHAPE, noise=PerImageNoise([0, 1]), **options, **{given: 3.0}, of_a_fork=object()
        )
        assert torch.equal(out, expected)
    (told,) = warnings(caplog)
    assert repr(given) in told and repr(nearest) in told and "'of_a_fork'" in told


@pytest.mark.parametrize("name", SAMPLERS)
def test_decoding_takes_unknown_keywords_too(name, caplog):
    sampler = make_sampler(name, GaussianModel())
    sampler.make_schedule(5, verbose=False)
    expected = sampler.decode(normal(), None, 3, noise=PerImageNoise([0, 1]))
    out = sampler.decode(normal(), None, 3, noise=PerImageNoise([0, 1]), callbak=print)
    assert torch.equal(out, expected)
    (told,) = warnings(caplog)
    assert "'callbak', did you mean 'callback'?" in told


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_constructor_takes_unknown_keywords_too(name, caplog):
    base = type(make_sampler(name, GaussianModel()))
    base(GaussianModel(), spacng="trailing")
    assert "'spacng'" in warnings(caplog)[0]


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sequence_of_normals_is_ignored_as_in_the_reference_and_that_is_said(name, caplog):
    sampler = make_sampler(name, GaussianModel())
    sampler.sample(5, 1, SHAPE, normals_sequence=[1.0], verbose=False)
    assert "normals_sequence" in warnings(caplog)[0]


# What Stable Diffusion 2 added


@pytest.mark.parametrize("name", SAMPLERS)
def test_guidance_scales_can_be_given_for_each_step(name):
    sampler, scales = make_sampler(name, GaussianModel()), np.linspace(6.0, 1.0, 10)

    def draw(**guidance):
        noise = PerImageNoise([1, 2])
        guidance |= {"unconditional_conditioning": means(0.0), "x_T": normal(), "noise": noise}
        return sampler.sample(10, 2, SHAPE, means(0.4), verbose=False, **guidance)[0]

    constant = draw(unconditional_guidance_scale=3.0)
    assert torch.equal(draw(ucg_schedule=10 * [3.0]), constant)
    assert not torch.equal(draw(ucg_schedule=scales), constant)
    # The last step is not guided: one row of the model's batch for each picture.
    assert len(sampler.model.calls[-1]) == 2 and len(sampler.model.calls[-3]) == 4
    with pytest.raises(UserError, match="9 guidance scales given; expected 10"):
        draw(ucg_schedule=scales[1:])
    with pytest.raises(UserError, match="guider"):
        draw(ucg_schedule=scales, guider=ClassifierFreeGuidance(2.0))


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_dynamic_threshold_bounds_the_size_of_every_estimate(name):
    sizes = {}
    for limit in (None, 0.2):
        estimates = []
        make_sampler(name, GaussianModel(0.9)).sample(
            6,
            2,
            SHAPE,
            x_T=normal(),
            verbose=False,
            dynamic_threshold=limit,
            img_callback=lambda x0, i, seen=estimates: seen.append(x0),
        )
        sizes[limit] = max(x0.square().flatten(1).mean(1).sqrt().max() for x0 in estimates)
    assert sizes[None] > 0.5 and sizes[0.2] == pytest.approx(0.2, rel=1e-4)
