"""Walks that were begun one by one are taken together where they are of one form."""

from __future__ import annotations

import torch

from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.pipelines.joined import Joined, Taken, form_of, join
from ldm.rng import PerImageNoise


class Echo:
    """Predicts each row's conditioning."""

    num_timesteps, parameterization, device = 1000, "eps", torch.device("cpu")
    alphas_cumprod = torch.linspace(0.999, 0.01, 1000)

    def apply_model(self, x, t, cond):
        return cond.expand_as(x) * x.cos()


def sampler():
    made = make_sampler("euler_a", Echo())
    made.make_schedule(4, verbose=False)
    return made


def keywords(number):
    found = {"cond": torch.full((1, 1, 1, 1), float(number)), "noise": PerImageNoise([number])}
    found["unconditional_conditioning"] = torch.full((1, 1, 1, 1), 0.5)
    return {**found, "unconditional_guidance_scale": 1.5 + number}


def begin(sampler, **given):
    x = torch.ones(1, 4, 2, 2)
    return x, doubled(sampler.walk(x, **given))


def doubled(states):
    """Change the last state, as inpainting does."""
    for state in states:
        state.x.mul_(2.0 if state.i + 1 == state.total else 1.0)
        yield state


def taken(number):
    made = Taken(sampler())
    made.begin(begin, **keywords(number))
    return made


def test_each_picture_ends_as_it_does_alone_with_what_who_began_it_makes_of_it():
    ticks = []
    found = Joined([taken(1), taken(4)]).latents(
        sampler(), lambda state: ticks.append((state.i, len(state.x)))
    )
    for x, number in zip(found, (1, 4), strict=True):
        alone = [s.x for s in sampler().walk(torch.ones(1, 4, 2, 2), **keywords(number))][-1]
        assert torch.equal(x, 2 * alone)
    assert ticks == [(0, 2), (1, 2), (2, 2), (3, 2)]


def test_the_start_is_the_end_where_no_step_is_taken():
    made = Taken(sampler())
    made.begin(begin, **keywords(1), t_start=0)
    assert torch.equal(Joined([made]).latents(sampler(), print)[0], torch.ones(1, 4, 2, 2))


def test_a_form_is_shapes_and_numbers_and_neither_scale_nor_noise():
    one, other = taken(1), taken(2)
    assert one.form == other.form
    other.keywords["t_start"] = 3
    assert one.form != other.form
    assert form_of({"c": [torch.zeros(1, 2)]}) == form_of({"c": [torch.ones(1, 2)]})
    assert form_of(torch.zeros(1, 2)) != form_of(torch.zeros(1, 3))


def test_conditionings_are_joined_row_by_row_whatever_holds_them():
    a, b = torch.zeros(1, 2), torch.ones(1, 2)
    joined = join([{"c": [a], "n": None}, {"c": [b], "n": None}])
    assert torch.equal(joined["c"][0], torch.cat([a, b])) and joined["n"] is None
    assert join([a]) is a
