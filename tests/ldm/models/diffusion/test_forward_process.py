"""The forward process: samples are noised as the schedule says."""

from __future__ import annotations

import torch

from ldm.models.diffusion.forward_process import ForwardProcess


def test_noising_is_equation_4_at_each_samples_own_step():
    process = ForwardProcess()
    process.register_schedule(timesteps=50)
    x0, noise = torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0, 20, 49])
    cumprod = (1 - process.betas.double()).cumprod(0)[t].reshape(3, 1, 1, 1)
    expected = cumprod.sqrt() * x0 + (1 - cumprod).sqrt() * noise
    torch.testing.assert_close(process.q_sample(x0, t, noise), expected.float())


def schedule(steps: int = 50) -> ForwardProcess:
    process = ForwardProcess()
    process.register_schedule(timesteps=steps)
    return process


def drawn() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x0, noise = torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    return x0, noise, torch.tensor([1, 20, 49])


def test_what_is_predicted_is_the_same_x0_noise_and_v_there_and_back():
    process, (x0, noise, t) = schedule(), drawn()
    x = process.q_sample(x0, t, noise)
    v = process.get_v(x0, noise, t)
    for found, wanted in (
        (process.predict_start_from_noise(x, t=t, noise=noise), x0),
        (process._predict_eps_from_xstart(x, t, x0), noise),
        (process.predict_start_from_z_and_v(x, t, v), x0),
        (process.predict_eps_from_z_and_v(x, t, v), noise),
    ):
        torch.testing.assert_close(found, wanted, rtol=0, atol=2e-4)


def test_the_distribution_of_noised_samples_is_that_of_q_sample():
    process, (x0, noise, t) = schedule(), drawn()
    mean, variance, log_variance = process.q_mean_variance(x0, t)
    torch.testing.assert_close(mean + variance.sqrt() * noise, process.q_sample(x0, t, noise))
    torch.testing.assert_close(log_variance.exp(), variance)


def test_the_posterior_is_bayes_rule_of_two_steps():
    """q(x_{t-1} | x_t, x0) is q(x_t | x_{t-1}) q(x_{t-1} | x0), up to a factor."""
    process, (x0, noise, t) = schedule(), drawn()
    x = process.q_sample(x0, t, noise)
    mean, variance, log_variance = process.q_posterior(x_start=x0, x_t=x, t=t)
    beta = process.betas.double()[t].reshape(3, 1, 1, 1)
    before = (1 - process.betas.double()).cumprod(0)[t - 1].reshape(3, 1, 1, 1)
    precision = (1 - beta) / beta + 1 / (1 - before)
    expected = ((1 - beta).sqrt() / beta * x + before.sqrt() / (1 - before) * x0) / precision
    torch.testing.assert_close(mean, expected.float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(variance, (1 / precision).float(), rtol=1e-4, atol=0)
    torch.testing.assert_close(log_variance, -precision.log().float(), rtol=1e-4, atol=1e-4)
    # At step 0 the variance is 0, and its logarithm is still a number.
    assert process.q_posterior(x0, x, t * 0)[2].isfinite().all()


def test_the_bound_s_last_term_is_a_divergence_in_bits_for_each_number():
    process, (x0, _, _) = schedule(), drawn()
    last = process.alphas_cumprod.double()[-1]
    normal = torch.distributions.Normal
    end = normal(last.sqrt() * x0.double(), (1 - last).sqrt())
    nats = torch.distributions.kl_divergence(end, normal(torch.zeros(()).double(), 1.0))
    expected = nats.flatten(1).mean(1) / torch.tensor(2.0).double().log()
    torch.testing.assert_close(process._prior_bpd(x0), expected.float(), rtol=1e-4, atol=1e-6)
