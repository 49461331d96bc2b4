"""Attend-and-Excite: samples move down the slope of the published loss, each by itself."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from controlled import TOKENS, Notes, contexts, draw, narrow_hub

from ldm.errors import UserError
from ldm.modules.attention_control import attend_and_excite
from ldm.modules.attention_control.attend_and_excite import AttendAndExcite
from ldm.modules.attention_control.chain import Chain
from ldm.modules.attention_control.seam import control_attention
from ldm.offload.plan import PlanSettings, StagePlan
from ldm.settings.samplers import SAMPLERS

WORDS = [[1, 3], [2]]


@pytest.fixture(scope="module")
def hub():
    return narrow_hub(attention_resolutions=[2, 1])


@pytest.fixture(autouse=True)
def few_refinements(monkeypatch):
    monkeypatch.setattr(attend_and_excite, "REFINEMENTS", 3)


class Watched(AttendAndExcite):
    """Notes each slope, and the sample before and after each step's moves."""

    def begin(self, sites):
        super().begin(sites)
        self.losses, self.steps, self.sites = [], [], sites

    def slope(self, x, predict):
        loss, grad = super().slope(x, predict)
        self.losses.append((x, loss, grad))
        return loss, grad

    def before_step(self, x, moment, predict):
        count = len(self.losses)
        moved = super().before_step(x, moment, predict)
        self.steps.append((moment, x, moved, len(self.losses) - count))
        return moved


def loss_by_hand(maps, words):
    """Return the loss of one picture's maps (L, h, w), in Python's own numbers."""
    count, h, w = maps.shape
    maps = maps.double().tolist()
    worst = 0.0
    for word in words:
        shares = [[0.0] * w for _ in range(h)]
        for i in range(h):
            for j in range(w):
                powers = [math.exp(100 * maps[token][i][j]) for token in range(1, count - 1)]
                shares[i][j] = powers[word - 1] / sum(powers)
        bell = {d: math.exp(-(d**2) / (2 * 0.5**2)) for d in (-1, 0, 1)}
        norm = sum(bell.values()) ** 2
        peak = 0.0
        for i in range(h):
            for j in range(w):
                blurred = 0.0
                for di in (-1, 0, 1):
                    for dj in (-1, 0, 1):
                        a, b = i + di, j + dj  # mirrored at the edges
                        a, b = (abs(a) if a < h else h - 2), (abs(b) if b < w else w - 2)
                        blurred += bell[di] * bell[dj] / norm * shares[a][b]
                peak = max(peak, blurred)
        worst = max(worst, 1.0 - peak)
    return worst


def test_the_loss_is_the_published_one():
    maps = torch.rand(2, TOKENS, 5, 3, generator=torch.Generator().manual_seed(0)) * 0.05
    loss = AttendAndExcite(WORDS).loss(maps)
    expected = [loss_by_hand(each, words) for each, words in zip(maps, WORDS, strict=True)]
    assert torch.allclose(loss, torch.tensor(expected, dtype=torch.float32), atol=1e-6)
    cut = AttendAndExcite(WORDS, end=4).loss(maps)
    assert torch.allclose(cut, AttendAndExcite(WORDS).loss(maps[:, :5]), atol=1e-6)


def test_a_word_that_has_all_attention_somewhere_costs_nothing():
    maps = torch.zeros(1, TOKENS, 4, 4)
    maps[:, 2] = 1.0
    assert AttendAndExcite([[2]]).loss(maps).abs().max() < 1e-6
    assert (AttendAndExcite([[2, 3]]).loss(maps) - 1).abs().max() < 1e-6


def test_the_maps_are_the_mean_of_cross_attention_at_a_quarter(hub):
    watched, notes = Watched(WORDS), Notes()
    with control_attention(hub, Chain(notes, watched)):
        draw(hub, steps=1)
    x, loss, _ = watched.losses[0]
    rate = max(site.rate for site in watched.sites if site.place != "mid")  # 2 of 1 and 2
    maps = [
        probs.mean(1).transpose(1, 2).unflatten(2, site.side)
        for probs, site, moment, rows in notes.calls[: len(watched.sites)]
        if site.kind == "cross" and site.rate == rate and len(rows) == 2
    ]
    assert len(maps) >= 3
    assert torch.allclose(AttendAndExcite(WORDS).loss(sum(maps) / len(maps)), loss, atol=1e-6)


def test_a_step_goes_alpha_down_the_slope_which_falls_with_a_root(hub):
    watched = Watched(WORDS, scale=3.0)
    with control_attention(hub, watched):
        draw(hub, steps=20)
    usual = [(m, before, after) for m, before, after, slopes in watched.steps if slopes == 1]
    assert [m.number for m, *_ in usual if m.number not in (0, 4, 8)] == [1, 2, 3, 5, 6, 7, 9]
    for moment, before, after in usual:
        grad = next(grad for x, _, grad in watched.losses if torch.equal(x.detach(), before))
        alpha = 3.0 * math.sqrt(1.0 - 0.5 * moment.number / 19)
        assert torch.allclose(after, before - alpha * grad, atol=1e-5)


def test_the_gradient_is_that_of_finite_differences(hub):
    watched = Watched(WORDS)
    cond, _ = contexts(2)
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(2, 4, 8, 8, generator=generator)
    direction = torch.randn(2, 4, 8, 8, generator=generator)

    def predict(x):
        return hub.apply_model(x, torch.full((2,), 500), cond)

    with torch.no_grad(), control_attention(hub, watched):
        _, grad = watched.slope(x, predict)
        up, down = (watched.slope(x + step * direction, predict)[0] for step in (1e-2, -1e-2))
    slope = (grad * direction).sum((1, 2, 3))
    assert slope.abs().min() > 1e-6
    assert torch.allclose(slope, (up - down) / 2e-2, rtol=0.05)


def test_samples_move_in_the_first_half_alone_and_the_loss_falls(hub, monkeypatch):
    monkeypatch.setattr(attend_and_excite, "THRESHOLDS", {0.0: 0.9})
    watched = Watched(WORDS, scale=5.0)
    with control_attention(hub, watched):
        draw(hub, steps=10)
    assert [
        m.number for m, before, after, _ in watched.steps if not torch.equal(before, after)
    ] == [0, 1, 2, 3, 4]
    losses = [loss for _, loss, _ in watched.losses[:4]]  # all of the first step
    assert all((after < before).all() for before, after in pairwise(losses))


def test_refinement_ends_where_each_word_attends_enough(hub, monkeypatch):
    monkeypatch.setattr(attend_and_excite, "THRESHOLDS", {0.0: 0.0, 0.2: 1.0})
    watched = Watched(WORDS)
    with control_attention(hub, watched):
        draw(hub, steps=10)
    assert [slopes for *_, slopes in watched.steps] == [1, 1, 4, 1, 1, 0, 0, 0, 0, 0]


def test_pictures_are_independent_of_their_batch(hub):
    def drawn(words, rows=None):
        with control_attention(hub, AttendAndExcite(words, scale=5.0)):
            return draw(hub, rows=rows)

    both = drawn(WORDS)
    for number in range(2):
        alone = drawn(WORDS[number : number + 1], rows=[number])
        assert torch.allclose(alone[0], both[number], rtol=1e-3, atol=1e-2)  # of up to 30
    assert not torch.allclose(drawn([[1, 3], [4]])[1], both[1], rtol=1e-3, atol=1e-2)


def test_a_picture_that_attends_enough_waits_for_the_others(hub, monkeypatch):
    watched = Watched(WORDS, scale=0.1)
    with control_attention(hub, watched):
        draw(hub, steps=1)
    low, high = sorted(watched.losses[0][1].tolist())
    monkeypatch.setattr(attend_and_excite, "THRESHOLDS", {0.0: 1.0 - (low + high) / 2})
    with control_attention(hub, watched):
        draw(hub, steps=1)
    ready = int(watched.losses[0][1].argmin())
    xs = [x for x, *_ in watched.losses]
    assert len(xs) > 2
    assert all(torch.equal(x[ready], xs[1][ready]) for x in xs[2:])
    assert not torch.equal(xs[1][1 - ready], xs[2][1 - ready])


def test_the_published_numbers_stand():
    assert attend_and_excite.THRESHOLDS == {0 / 50: 0.05, 10 / 50: 0.5, 20 / 50: 0.8}
    assert attend_and_excite.UNTIL == 25 / 50
    assert AttendAndExcite(WORDS).scale == 20


@pytest.mark.parametrize("recomputes", [False, True])
def test_weights_have_no_gradient_and_random_numbers_go_on(recomputes):
    hub = narrow_hub(attention_resolutions=[2, 1], use_checkpoint=recomputes)
    assert all(parameter.requires_grad for parameter in hub.model.parameters())
    draw(hub, "euler_a")
    expected = torch.rand(3)
    with control_attention(hub, AttendAndExcite(WORDS)):
        draw(hub, "euler_a")
    assert torch.equal(torch.rand(3), expected)
    assert all(parameter.grad is None for parameter in hub.parameters())
    assert all(parameter.requires_grad for parameter in hub.model.parameters())


@pytest.mark.parametrize("scale", [1.0, 2.0])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_takes_its_steps_from_the_moved_samples(hub, sampler, scale):
    plain = draw(hub, sampler, scale=scale, steps=2)
    with control_attention(hub, AttendAndExcite(WORDS, scale=5.0)):
        moved = draw(hub, sampler, scale=scale, steps=2)
    assert not moved.requires_grad and moved.isfinite().all()
    assert (moved - plain).abs().max() > 1e-3
    with control_attention(hub, AttendAndExcite(WORDS, scale=0.0)):
        assert torch.equal(draw(hub, sampler, scale=scale, steps=2), plain)


def test_fused_kernels_compute_the_step_itself(hub):
    notes = Notes()
    excite = AttendAndExcite(WORDS)
    with control_attention(hub, excite) as control:
        draw(hub, steps=1)
        assert not any(excite.wants(site, control.moment) for site in control.sites)
    assert notes.calls == []


def test_a_plan_of_devices_is_refused_in_one_line_and_works_on(hub):
    plan = StagePlan(hub, PlanSettings(), torch.device("cpu")).attach()
    try:
        refused = pytest.raises(UserError, match="with gradients under a plan of devices")
        with refused as error, control_attention(hub, AttendAndExcite(WORDS)):
            draw(hub)
        assert "\n" not in str(error.value)
        draw(hub)
    finally:
        plan.detach()


def test_inference_mode_is_refused_in_one_line(hub):
    refused = pytest.raises(UserError, match=r"use torch.no_grad\(\)")
    with refused as error, torch.inference_mode(), control_attention(hub, AttendAndExcite(WORDS)):
        draw(hub)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("words", [[[1]], [[1], [2], [3]], [[1], []], [[1], [0]], [[1], [5]]])
def test_tokens_that_do_not_fit_are_refused_in_one_line(hub, words):
    refused = pytest.raises(UserError, match="for 2 pictures; expected some of 1 ... 4 for each")
    with refused as error, control_attention(hub, AttendAndExcite(words)):
        draw(hub)
    assert "\n" not in str(error.value)
