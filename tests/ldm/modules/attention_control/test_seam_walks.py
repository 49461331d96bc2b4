"""What controllers are told in every walk, and under every plan of devices."""

from __future__ import annotations

import pytest
import torch
from controlled import Changes, Notes, contexts, draw, drawn_under, narrow_hub, state_of
from torch import nn

from ldm.errors import UserError
from ldm.models.diffusion.ddim import DDIMSampler
from ldm.models.diffusion.plms import PLMSSampler
from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.modules.attention_control.controller import Controller
from ldm.modules.attention_control.moments import Row
from ldm.modules.attention_control.seam import control_attention
from ldm.modules.diffusionmodules.openaimodel import UNetModel
from ldm.offload.plan import POLICIES, PlanSettings, StagePlan
from ldm.process.guidance import ClassifierFreeGuidance
from ldm.settings.samplers import SAMPLERS

# What is told


@pytest.mark.parametrize("scale", [1.0, 2.0])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_says_step_evaluation_and_rows(hub, sampler, scale):
    notes, steps = Notes("cross"), 4
    with control_attention(hub, notes):
        draw(hub, sampler, steps=steps, scale=scale)
        draw(hub, sampler, steps=1, scale=scale)
    assert len(notes.walks) == 3  # once as it attaches, and once a walk
    made = make_sampler(sampler, hub)
    made.make_schedule(steps, verbose=False)
    times = [made.time(index) for index in reversed(range(made.steps))]
    first_walk = [m for name, m in notes.steps if name == "before"][: made.steps]
    assert [(m.number, m.total, m.time) for m in first_walk] == [
        (i, made.steps, time) for i, time in enumerate(times)
    ]
    assert [name for name, _ in notes.steps] == ["before", "after"] * (made.steps + 1)
    parts = ["cond"] if scale == 1.0 else ["uncond", "cond"]
    expected = [Row(part, picture) for part in parts for picture in range(2)]
    sites = len(notes.walks[0]) // 2
    calls = [(m.number, m.total, m.evaluation) for _, _, m, _ in notes.calls]
    assert all(rows == expected for *_, rows in notes.calls)
    evaluations = [calls[start : start + sites] for start in range(0, len(calls), sites)]
    assert all(len(set(layers)) == 1 for layers in evaluations)
    numbers = [layers[0] for layers in evaluations]
    assert {n for n, total, _ in numbers if total == made.steps} >= set(range(made.steps - 1))
    for before, after in zip(numbers, numbers[1:], strict=False):
        assert after[2] in (0, before[2] + 1)


@pytest.mark.parametrize("kind", ["v1", "v2", "v2-v", "other"])
def test_sites_are_told_in_the_order_of_computing_with_their_sides(kind):
    hub, notes = narrow_hub(kind), Notes()
    drawn_under(notes, hub, steps=1, side=(8, 12))
    sites = [site for _, site, _, _ in notes.calls]
    assert [site.number for site in sites] == list(range(len(sites)))
    assert {site.place for site in sites} == {"down", "mid", "up"}
    for probs, site, _, rows in notes.calls:
        h, w = site.side
        assert site.latent == (8, 12) and (h, w) == (8 // site.rate, 12 // site.rate)
        assert probs.shape[0] == len(rows) == 4 and probs.shape[2] == h * w
        assert probs.shape[3] == (h * w if site.kind == "self" else 6)
        assert hub.get_submodule(f"model.diffusion_model.{site.path}").processor is not None


def test_sides_that_halving_rounds_up_are_right():
    # Stride 2 rounds up; such a UNet has no way up that fits, so only its way down is run.
    hub, notes = narrow_hub(attention_resolutions=[2, 1]), Notes()
    unet, (cond, _) = hub.model.diffusion_model, contexts(1)
    with torch.no_grad(), control_attention(hub, notes):
        unet.encode(torch.randn(1, 4, 7, 5), torch.zeros(1), cond)
    assert {(site.rate, site.side) for _, site, _, _ in notes.calls} == {(1, (7, 5)), (2, (4, 3))}
    assert all(probs.shape[2] == site.side[0] * site.side[1] for probs, site, *_ in notes.calls)


def test_a_unet_of_plain_attention_blocks_has_self_attention_alone():
    torch.manual_seed(0)
    unet = UNetModel(
        image_size=8,
        in_channels=4,
        out_channels=4,
        model_channels=32,
        num_res_blocks=1,
        attention_resolutions=[2],
        channel_mult=[1, 2],
        num_heads=2,
        use_checkpoint=True,
    ).eval()
    for parameter in unet.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    x, t, notes = torch.randn(1, 4, 8, 8), torch.zeros(1), Notes()
    expected = unet(x, t)
    with control_attention(unet, notes):
        given = unet(x, t)
        given.sum().backward()
    assert torch.equal(given, expected)
    assert {site.kind for _, site, _, _ in notes.calls} == {"self"}
    assert len(notes.calls) == len(notes.walks[0])


def test_recomputing_blocks_ask_the_controller_once(hub):
    recomputing = narrow_hub(attention_resolutions=[2, 1], use_checkpoint=True)
    notes, (cond, _) = Notes(), contexts(1)
    x = torch.randn(1, 4, 8, 8, requires_grad=True)
    before = state_of(recomputing)
    with control_attention(recomputing, notes):
        out = recomputing.apply_model(x, torch.zeros(1), cond)
        (grad,) = torch.autograd.grad(out.sum(), x)
    assert len(notes.calls) == len(notes.walks[0])
    assert state_of(recomputing) == before
    plain = x.detach().requires_grad_()
    (expected,) = torch.autograd.grad(hub.apply_model(plain, torch.zeros(1), cond).sum(), plain)
    assert torch.allclose(grad, expected, atol=1e-5)


def test_probabilities_have_a_gradient_where_gradients_are_on(hub):
    kept = []
    cond, _ = contexts(1)
    x = torch.randn(1, 4, 8, 8, requires_grad=True)
    with control_attention(hub, Changes(lambda probs, *_: kept.append(probs))):
        hub.apply_model(x, torch.zeros(1), cond)
        (grad,) = torch.autograd.grad(sum(probs.square().sum() for probs in kept), x)
    assert grad.abs().max() > 0


# Walks


def test_img2img_counts_the_steps_that_it_takes(hub):
    notes, sampler, (cond, uncond) = Notes(), DDIMSampler(hub), contexts(2)
    sampler.make_schedule(10, verbose=False)
    options = {"unconditional_guidance_scale": 2.0, "unconditional_conditioning": uncond}
    x = torch.randn(2, 4, 8, 8)
    expected = sampler.decode(x, cond, 4, **options)
    with control_attention(hub, notes):
        assert torch.equal(sampler.decode(x, cond, 4, **options), expected)
    assert [(m.number, m.total) for name, m in notes.steps if name == "after"] == [
        (number, 4) for number in range(4)
    ]


def test_inpainting_is_under_control_with_the_known_part_in_place(hub):
    known = {"x0": torch.ones(2, 4, 8, 8), "mask": (torch.arange(8) < 4).float()}
    notes = Notes()
    assert torch.equal(drawn_under(notes, hub, **known), draw(hub, **known))
    assert len(notes.steps) == 2 * 4

    class Moves(Controller):
        def __init__(self, by):
            self.by, self.seen = by, []

        def before_step(self, x, moment, predict):  # noqa: ARG002
            self.seen.append(x.clone())
            return x + self.by

    a_little, much = Moves(0.1), Moves(1.0)
    for moves in (a_little, much):
        drawn_under(moves, hub, **known)
    for number, (x, other) in enumerate(zip(a_little.seen, much.seen, strict=True)):
        assert torch.equal(x[..., :4], other[..., :4])
        assert torch.equal(x[..., 4:], other[..., 4:]) == (number == 0)


def test_what_the_hooks_return_is_what_the_walk_goes_on_with(hub):
    seen = []

    class Moves(Controller):
        def before_step(self, x, moment, predict):  # noqa: ARG002
            seen.append(("before", x.clone()))
            return x * 0.5

        def after_step(self, x, moment):  # noqa: ARG002
            seen.append(("after", x.clone()))
            return torch.full_like(x, 3.0)

    x = drawn_under(Moves(), hub)
    assert torch.equal(x, torch.full_like(x, 3.0))
    befores = [x for name, x in seen if name == "before"]
    assert not torch.equal(befores[0], torch.full_like(x, 3.0))
    assert all(torch.equal(before, torch.full_like(x, 3.0)) for before in befores[1:])
    afters = [x for name, x in seen if name == "after"]
    assert not torch.equal(afters[-1], x)


def test_predict_is_the_model_at_the_step_under_the_prompts_alone(hub):
    cond, _ = contexts(2)
    given = []

    class Asks(Notes):
        def before_step(self, x, moment, predict):
            self.calls.clear()
            given.append((x.clone(), moment, predict(x)))
            assert {tuple(rows) for *_, rows in self.calls} == {(Row("cond", 0), Row("cond", 1))}
            assert {m for _, _, m, _ in self.calls} == {moment}
            return x

    drawn_under(Asks(), hub)
    assert [moment.number for _, moment, _ in given] == [0, 1, 2, 3]
    for x, moment, out in given:
        with torch.no_grad():
            times = torch.full((2,), int(moment.time))
            assert torch.allclose(hub.apply_model(x, times, cond), out, atol=1e-6)


def test_a_walk_that_is_left_early_ends_and_the_next_begins_anew(hub):
    notes, sampler, (cond, _) = Notes(), DDIMSampler(hub), contexts(1)
    sampler.make_schedule(5, verbose=False)
    x = torch.randn(1, 4, 8, 8)
    with control_attention(hub, notes) as control:
        for stop in (1, 3, 5):
            walk = sampler.walk(x, cond)
            for _ in range(stop):
                next(walk)
            walk.close()
            assert control.moment.number is None
        assert len(notes.walks) == 1 + 3
        notes.calls.clear()
        with torch.no_grad():
            hub.apply_model(torch.cat([x, x, x]), torch.zeros(3), torch.cat([cond] * 3))
    assert notes.calls[0][3] == [Row("cond", n) for n in range(3)]


def test_a_walk_that_is_closed_late_does_not_end_another(hub):
    notes, (cond, _) = Notes(), contexts(1)
    walks = []
    with control_attention(hub, notes) as control:
        for _ in range(2):
            sampler = DDIMSampler(hub)
            sampler.make_schedule(5, verbose=False)
            walks.append(sampler.walk(torch.randn(1, 4, 8, 8), cond))
            next(walks[-1])
        walks[0].close()
        assert control.moment.number == 0
        walks[1].close()
        assert control.moment.number is None


def test_one_step_by_itself_has_no_number_unless_a_loop_says_it(hub):
    notes, (cond, uncond) = Notes(), contexts(2)
    sampler = PLMSSampler(hub)
    sampler.make_schedule(4, verbose=False)
    x, t = torch.randn(2, 4, 8, 8), torch.full((2,), 251)
    options = {"unconditional_guidance_scale": 2.0, "unconditional_conditioning": uncond}
    with torch.no_grad(), control_attention(hub, notes) as control:
        sampler.p_sample_plms(x, cond, t, 1, **options)
        assert {(m.number, m.total) for _, _, m, _ in notes.calls} == {(None, None)}
        assert notes.calls[0][3] == [Row(part, n) for part in ("uncond", "cond") for n in range(2)]
        notes.calls.clear()
        with control.at(2, 4, 251.0):
            sampler.p_sample_plms(x, cond, t, 1, **options)
        assert {(m.number, m.total, m.time) for _, _, m, _ in notes.calls} == {(2, 4, 251.0)}


def test_a_loop_of_ones_own_says_steps_and_rows(hub):
    notes, (cond, uncond) = Notes(), contexts(2)
    x = torch.randn(2, 4, 8, 8)
    with torch.no_grad(), control_attention(hub, notes) as control:
        for _ in range(2):
            for number, time in enumerate((900, 500, 100)):
                t = torch.full((2,), time)
                with control.at(number, 3, time, pictures=2, layout=("cond", "uncond")):
                    both = torch.cat([cond, uncond])
                    hub.apply_model(torch.cat([x, x]), torch.cat([t, t]), both)
        hub.apply_model(x, t, cond)
    assert len(notes.walks) == 3
    *walk, outside = [
        (m.number, m.total, m.time, rows) for _, site, m, rows in notes.calls if site.number == 0
    ]
    both = [Row(part, n) for part in ("cond", "uncond") for n in range(2)]
    assert walk == [(n, 3, time, both) for n, time in enumerate((900, 500, 100))] * 2
    assert outside == (None, None, None, [Row("cond", 0), Row("cond", 1)])


# Rows in parts, and plans of devices


class ThreeParts(ClassifierFreeGuidance):
    """[uncond, cond, cond], of which the last is thrown away."""

    layout = None

    def prepare(self, x, t, cond, uncond):
        return torch.cat([x] * 3), torch.cat([t] * 3), torch.cat([uncond, cond, cond])

    def combine(self, out, t):
        return super().combine(out[: 2 * len(out) // 3], t)


class NamedParts(ThreeParts):
    layout = ("uncond", "cond", "again")


class WronglyNamedParts(ThreeParts):
    layout = ("uncond", "cond")


@pytest.fixture
def planned(hub):
    """A function that puts the model under a plan until the test is over."""
    plans = []

    def attach(**settings):
        plans.append(StagePlan(hub, PlanSettings(**settings), torch.device("cpu")).attach())

    yield attach
    for plan in plans:
        plan.detach()


@pytest.mark.parametrize("rows", [None, 1, 2, 3])
@pytest.mark.parametrize("policy", POLICIES)
def test_rows_are_told_apart_under_every_plan(hub, plain, planned, policy, rows):
    expected = plain(pictures=3, steps=2)

    def change(probs, site, moment, told):  # noqa: ARG001
        probs[[row == Row("cond", 1) for row in told]] *= 0.5

    changed = drawn_under(Changes(change), hub, pictures=3, steps=2)
    planned(policy=policy, unet_rows=rows)
    notes = Notes()
    given = drawn_under(notes, hub, pictures=3, steps=2)
    assert torch.allclose(given, expected, atol=1e-5)
    everything = [Row(part, n) for part in ("uncond", "cond") for n in range(3)]
    for path in {site.path for _, site, _, _ in notes.calls}:
        for step in range(2):
            calls = [told for _, s, m, told in notes.calls if s.path == path and m.number == step]
            assert [row for told in calls for row in told] == everything
            assert rows is None or max(map(len, calls)) == rows
    given = drawn_under(Changes(change), hub, pictures=3, steps=2)
    assert torch.allclose(given, changed, atol=1e-5)
    assert (given[1] - expected[1]).abs().max() > 1e-3


@pytest.mark.parametrize("rows", [None, 1, 2, 3])
def test_parts_that_a_guider_names_are_told(hub, planned, rows):
    planned(unet_rows=rows)
    notes = Notes()
    drawn_under(notes, hub, steps=1, guider=NamedParts(2.0))
    first = [told for _, site, _, told in notes.calls if site.number == 0]
    assert [row for told in first for row in told] == [
        Row(part, n) for part in ("uncond", "cond", "again") for n in range(2)
    ]


@pytest.mark.parametrize("guider", [ThreeParts(2.0), WronglyNamedParts(2.0)])
@pytest.mark.parametrize("rows", [None, 1, 2])
def test_a_guider_of_an_unknown_layout_is_refused_in_one_line(hub, planned, rows, guider):
    planned(unet_rows=rows)
    with pytest.raises(UserError, match=r"lays out 6 rows for 2 pictures.*layout") as error:
        drawn_under(Notes(), hub, steps=1, guider=guider)
    assert "\n" not in str(error.value)


def test_rows_count_as_pictures_outside_of_walks_in_parts_too(hub, planned):
    planned(unet_rows=2)
    notes, (cond, _) = Notes(), contexts(3)
    with torch.no_grad(), control_attention(hub, notes):
        hub.apply_model(torch.randn(3, 4, 8, 8), torch.zeros(3), cond)
    first = [told for _, site, _, told in notes.calls if site.number == 0]
    assert first == [[Row("cond", 0), Row("cond", 1)], [Row("cond", 2)]]
