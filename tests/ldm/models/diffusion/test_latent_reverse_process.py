"""The reverse process on the hubs: whole walks, and forks that override a part of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from exact_hub import SHAPE, STEPS, Latents, Pixels, conditions, drawn, equal, seeded
from torch.utils._pytree import tree_flatten

from ldm.errors import UserError
from ldm.models.diffusion.ddim import DDIMSampler


def test_states_are_kept_at_multiples_from_the_start_on():
    for x, kept in (
        seeded(Pixels().p_sample_loop, SHAPE, return_intermediates=True),
        seeded(Latents().p_sample_loop, None, SHAPE, True, verbose=False),
        seeded(Pixels().sample, 3, return_intermediates=True),
        seeded(Latents().sample, None, 3, True, verbose=False),
    ):
        # The start, after steps 19, 14, 7 and 0.
        assert len(kept) == 5 and torch.equal(kept[-1], x)
        assert torch.equal(kept[0], seeded(torch.randn, SHAPE))


def test_progress_is_shown_by_estimates_of_the_same_walk():
    hub = Latents()
    x, kept = seeded(hub.progressive_denoising, None, SHAPE, verbose=False, log_every_t=5)
    assert torch.equal(x, seeded(hub.p_sample_loop, None, SHAPE, verbose=False))
    assert len(kept) == 5 and torch.equal(kept[-1], x)  # step 0 adds nothing to its estimate
    start, last = seeded(torch.randn, SHAPE), torch.full((3,), STEPS - 1)
    first = hub.predict_start_from_noise(start, last, hub.apply_model(start, last))
    assert torch.equal(kept[0], first)
    sized = seeded(hub.progressive_denoising, None, SHAPE[1:], batch_size=3, verbose=False)[0]
    assert torch.equal(sized, x)


@pytest.mark.parametrize("name", ["p_sample_loop", "progressive_denoising"])
def test_walks_start_where_they_are_told_and_say_where_they_are(name):
    hub, (x, _), seen = Latents(), drawn(), []
    walk = getattr(hub, name)
    told = {"callback": lambda i: seen.append(i), "img_callback": lambda x, i: seen.append(x)}
    end = walk(None, SHAPE, x_T=x, start_T=4, verbose=False, **told)
    end = end[0] if isinstance(end, tuple) else end
    assert seen[::2] == [3, 2, 1, 0] and torch.equal(seen[-1], end)
    first = seeded(walk, None, SHAPE, x_T=x, start_T=1, verbose=False)
    first = first[0] if isinstance(first, tuple) else first
    expected = hub.p_mean_variance(x, None, torch.zeros(3).long(), False)[0]
    assert torch.equal(first, expected)
    assert not torch.equal(first, x)


def test_fewer_steps_are_the_last_ones():
    hub, seen = Latents(), []
    hub.p_sample_loop(None, SHAPE, timesteps=6, callback=seen.append, verbose=False)
    hub.p_sample_loop(None, SHAPE, timesteps=6, start_T=2, callback=seen.append, verbose=False)
    assert seen == [5, 4, 3, 2, 1, 0, 1, 0]


@pytest.mark.parametrize("name", ["p_sample_loop", "progressive_denoising"])
def test_a_mask_keeps_what_it_covers(name):
    hub, (x0, _) = Latents(), drawn()
    mask = torch.zeros(3, 1, 4, 4)
    mask[..., :2] = 1.0
    end = getattr(hub, name)(None, SHAPE, mask=mask, x0=x0 + 5, verbose=False)
    end = end[0] if isinstance(end, tuple) else end
    # As in the reference what is kept ends with the first step's noise.
    assert (end - x0 - 5)[..., :2].abs().max() < 1 and end[..., 2:].abs().max() < 3
    with pytest.raises(ValueError, match="without x0"):
        getattr(hub, name)(None, SHAPE, mask=mask, verbose=False)
    with pytest.raises(ValueError, match="resize"):
        getattr(hub, name)(None, SHAPE, mask=mask, x0=torch.zeros(3, 2, 8, 8), verbose=False)


def test_a_temperature_may_be_given_for_each_step():
    hub = Latents()
    cold = seeded(hub.progressive_denoising, None, SHAPE, temperature=[0.0] * STEPS, verbose=False)
    hub_mean = seeded(torch.randn, SHAPE)
    for i in reversed(range(STEPS)):
        hub_mean = hub.p_mean_variance(hub_mean, None, torch.full((3,), i), False)[0]
    assert torch.equal(cold[0], hub_mean)
    last = [1.0, *[0.0] * (STEPS - 1)]  # step 0 adds none
    again = seeded(hub.progressive_denoising, None, SHAPE, temperature=last, verbose=False)
    assert torch.equal(again[0], cold[0])


class DullSample(Latents):
    def p_sample(self, x, c, t, **_):
        return (x * 0 + 7, x) if _.get("return_x0") else x * 0 + 7  # as in the reference


class DullMean(Latents):
    def p_mean_variance(self, x, c, t, clip_denoised, **kwargs):
        mean, *rest = super().p_mean_variance(x, c, t, clip_denoised, **kwargs)
        return mean * 0 + 7, *rest


class DullPosterior(Latents):
    def q_posterior(self, x_start, x_t, t):
        return x_t * 0 + 7, *super().q_posterior(x_start, x_t, t)[1:]


class DullNetwork(Latents):
    def apply_model(self, x, t, cond=None):
        a, s = self.mix(t, x.shape)
        return (x - a * 7) / s


class DullStart(Latents):
    def predict_start_from_noise(self, x_t, t, noise):
        return x_t * 0 + 7


class DullNoising(Latents):
    def q_sample(self, x_start, t, noise=None):
        return x_start * 0 + 7


@pytest.mark.parametrize(
    "fork", [DullSample, DullMean, DullPosterior, DullNetwork, DullStart, DullNoising]
)
def test_what_a_fork_overrides_is_obeyed_by_every_walk(fork):
    hub, painted = fork(), {}
    if fork is DullNoising:
        painted = {"mask": torch.ones(1, 1, 4, 4), "x0": torch.zeros(SHAPE)}
    for end in (
        hub.p_sample_loop(None, SHAPE, verbose=False, **painted),
        hub.progressive_denoising(None, SHAPE, verbose=False, **painted)[0],
        hub.sample(None, 3, verbose=False, **painted),
        hub.sample_log(None, 3, False, None, verbose=False, **painted)[0],
    ):
        torch.testing.assert_close(end, torch.full(SHAPE, 7.0), rtol=0, atol=1e-3)


class DullPixelSample(Pixels):
    def p_sample(self, x, t, clip_denoised=True, repeat_noise=False):
        return x * 0 + 7


class DullPixelMean(Pixels):
    def p_mean_variance(self, x, t, clip_denoised):
        mean, *rest = super().p_mean_variance(x, t, clip_denoised)
        return mean * 0 + 7, *rest


@pytest.mark.parametrize("fork", [DullPixelSample, DullPixelMean])
def test_what_a_fork_of_the_plain_hub_overrides_is_obeyed(fork):
    for end in (fork().p_sample_loop(SHAPE), fork().sample(batch_size=3)):
        assert (end == 7).all() and end.shape == SHAPE


@pytest.mark.parametrize(
    "kind",
    [
        lambda c: c,
        lambda c: [c, c],
        lambda c: {"c_crossattn": [c]},
        lambda c: {"c_concat": [c, c], "pos_x": c},
    ],
)
def test_conditioning_is_cut_to_the_batch(kind):
    class Seen(Latents):
        def apply_model(self, x, t, cond=None):
            self.seen = cond
            return x

    hub, c, rows = Seen(steps=1), conditions(), conditions()[:2]
    for walk in (
        lambda: hub.sample(kind(c), batch_size=2, verbose=False),
        lambda: hub.sample_log(kind(c), 2, False, None, verbose=False),
        lambda: hub.progressive_denoising(kind(c), SHAPE[1:], batch_size=2, verbose=False),
    ):
        walk()
        flat, wanted = (tree_flatten(v) for v in (hub.seen, kind(rows)))
        assert flat[1] == wanted[1] and equal(flat[0], wanted[0])


def test_what_ancestral_sampling_cannot_do_is_said(caplog):
    hub = Latents(steps=1)
    hub.sample(None, 1, verbose=False, eta=1.0)
    assert not caplog.records
    hub.sample_log(None, 1, False, None, verbose=False, unconditional_guidance_scale=3.0)
    assert "unconditional_guidance_scale" in caplog.text


def test_samples_to_look_at_are_ddim_s_or_the_whole_walk_s():
    hub = Latents()
    quick, states = seeded(hub.sample_log, cond=1.0, batch_size=3, ddim=True, ddim_steps=5, eta=0.5)
    expected, _ = seeded(DDIMSampler(hub).sample, 5, 3, SHAPE[1:], 1.0, eta=0.5, verbose=False)
    assert torch.equal(quick, expected) and set(states) == {"x_inter", "pred_x0"}
    c = conditions()
    whole, kept = seeded(hub.sample_log, c, 3, False, None, verbose=False, eta=1.0)
    assert torch.equal(whole, seeded(hub.sample, c, 3, verbose=False)) and len(kept) == 5


def test_ddim_s_samples_to_look_at_are_snapped_when_asked():
    hub = Latents()
    hub.first_stage_model = torch.nn.Module()
    hub.first_stage_model.quantize = lambda z: (z.round(), None, (None, None, None))
    states = hub.sample_log(None, 1, True, 4, quantize_denoised=True, eta=0.0)[1]
    assert all(torch.equal(x0, x0.round()) for x0 in states["pred_x0"][1:])


def shortened() -> Latents:
    hub = Latents()
    hub.num_timesteps_cond, hub.shorten_cond_schedule = 4, True
    hub.cond_ids = torch.cat([torch.arange(4), torch.full((16,), 19)])
    return hub


@pytest.mark.parametrize("name", ["p_sample_loop", "progressive_denoising"])
def test_a_short_schedule_noises_the_conditioning_on_the_way(name):
    class Seen(Latents):
        def apply_model(self, x, t, cond=None):
            self.seen.append(cond)
            return super().apply_model(x, t, cond)

        def q_sample(self, x_start, t, noise=None):
            self.steps.append(int(t[0]))
            return super().q_sample(x_start, t, noise)

    hub = shortened()
    hub.__class__, hub.seen, hub.steps = Seen, [], []
    c = torch.full(SHAPE, 5.0)
    getattr(hub, name)(c, SHAPE, verbose=False)
    assert hub.steps == [19] * 16 + [3, 2, 1, 0] and (c == 5).all()
    assert not torch.equal(hub.seen[0], c)


def test_conditioning_of_several_parts_cannot_be_noised():
    hub = shortened()
    hub.model = torch.nn.Module()
    hub.model.conditioning_key = "hybrid"
    with pytest.raises(UserError, match="num_timesteps_cond 4"):
        hub.p_sample_loop({"c_concat": [conditions()]}, SHAPE, verbose=False)


@pytest.mark.parametrize("kind", [list, tuple, np.asarray, torch.tensor])
def test_temperatures_for_each_step_may_be_any_row_of_numbers(kind):
    hub, rising = Latents(), [step / STEPS for step in range(STEPS)]
    options = {"shape": SHAPE, "verbose": False}
    expected = seeded(hub.progressive_denoising, None, temperature=rising, **options)[0]
    given = seeded(hub.progressive_denoising, None, temperature=kind(rising), **options)[0]
    torch.testing.assert_close(given, expected)
    one = seeded(hub.progressive_denoising, None, temperature=np.float64(0.5), **options)[0]
    assert not torch.equal(one, expected)
