"""Recorded steps: the same numbers as the model's own, and recorded anew where they would not be.

A recording that keeps to a graph's rules stands in for CUDA's: it repeats the work on the memory
that the work saw, and writes its result to the same place.
"""

from __future__ import annotations

import operator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from dividing import Dividing
from small_hubs import latent
from torch.utils._python_dispatch import TorchDispatchMode
from waits import DEVICE, counted_waits

from ldm.kernels.deferred import HALF, OPERATIONS, PRODUCTS, Tape, do
from ldm.kernels.division import DIVISIONS, Division
from ldm.kernels.graphs import OFTEN, StepGraphs, _Recorded, _with_numbers
from ldm.models.diffusion.ddim import DDIMSampler
from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.process.guidance import NoGuidance
from ldm.settings.samplers import SAMPLERS


class Repeated:
    """Work that is repeated in place of a graph."""

    made = 0
    at_work = False

    def __init__(self, work, beside=None):
        type(self).made += 1
        self.beside = beside
        self._work, self.out = work, tuple(out.clone() for out in work())

    def replay(self):
        Repeated.at_work = True
        for place, out in zip(self.out, self._work(), strict=True):
            place.copy_(out)
        Repeated.at_work = False


@pytest.fixture(scope="module")
def hub():
    torch.manual_seed(0)
    model = latent(use_ema=False).eval().requires_grad_(False)
    for parameter in model.model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.fixture
def recorded(hub):
    """Return the hub with recorded steps."""
    Repeated.made = 0
    hub.step_graphs = StepGraphs(hub, Repeated)
    yield hub
    del hub.step_graphs


def prompts(hub, seed: int, rows: int = 2) -> torch.Tensor:
    width = hub.model.diffusion_model.factory.context_dim
    return torch.randn(rows, 5, width, generator=torch.Generator().manual_seed(seed))


def begun(hub, *, name="ddim", seed=1, rows=2, side=8, scale=3.0, steps=3, conditioning=None):
    """Return a sampler with its schedule, a start, and keywords of its walk."""
    sampler = make_sampler(name, hub)
    sampler.make_schedule(steps, verbose=False)
    x = torch.randn(rows, 4, side, side, generator=torch.Generator().manual_seed(seed))
    cond = prompts(hub, seed, rows) if conditioning is None else conditioning
    options = {"cond": cond, "unconditional_conditioning": prompts(hub, 99, rows)}
    torch.manual_seed(7)
    return sampler, x, {**options, "unconditional_guidance_scale": scale}


WALK = ("mask", "x0", "dynamic_threshold", "score_corrector", "ucg_schedule", "repeat_noise")
WALK += ("temperature",)


def walk(hub, **given):
    own = {key: given.pop(key) for key in WALK if key in given}
    sampler, x, options = begun(hub, **given)
    states = list(sampler.walk(x, **options, **own))
    return torch.stack([torch.cat([s.x, s.x0, s.eps]) for s in states])


def plainly(hub, **options) -> torch.Tensor:
    kept = hub.__dict__.pop("step_graphs")
    try:
        return walk(hub, **options)
    finally:
        hub.step_graphs = kept


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_recorded_walk_is_the_plain_one_to_the_bit(recorded, name):
    steps = 20 if name == "restart" else 8  # fewer are Heun's
    plain = plainly(recorded, name=name, steps=steps)
    for _ in range(OFTEN):  # in the last one the first step is recorded too
        assert torch.equal(walk(recorded, name=name, steps=steps), plain)
    assert Repeated.made >= 2


@pytest.mark.parametrize("name", ["ddim", "plms", "euler", "lms", "ddpm"])
def test_one_recording_serves_all_steps_of_one_form_whatever_their_numbers(recorded, name):
    for steps in (8, 12):
        assert torch.equal(
            walk(recorded, name=name, steps=steps), plainly(recorded, name=name, steps=steps)
        )
    assert Repeated.made == 2  # the model's call, and a whole step


@pytest.mark.parametrize("name", ["ddim", "plms", "dpm_solver", "dpmpp_2m", "lms", "unipc"])
def test_of_a_recorded_step_only_copies_and_noise_are_left_outside(recorded, name):
    outside = Outside()
    sampler, x, options = begun(recorded, name=name, steps=10)
    for state in sampler.walk(x, **options):
        if state.i == 6:
            outside.__enter__()
        elif state.i == 8:
            outside.__exit__(None, None, None)
    drawn = {"aten.randn", "aten._to_copy", "aten.expand", "aten.mul"}
    noise = drawn if name in ("ddim", "plms") else set()
    assert outside.seen - {"aten.lift_fresh"} == {"aten.clone", "aten.copy_", "aten.full"} | noise


class Outside(TorchDispatchMode):
    """Sees the operations on tensors that are done, but for numbers' and those of a replay."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ARG002
        result = func(*args, **(kwargs or {}))
        if not Repeated.at_work and getattr(result, "ndim", 0):
            self.seen.add(str(func.overloadpacket))
        return result


def test_nobody_waits_for_the_device_at_a_replay():
    with counted_waits() as waits, DEVICE:
        x = torch.randn(2, 4, 8, 8)
        tape = Tape(do)
        with tape.step(x) as begin:
            end = 0.3 * begin / torch.tensor(2.0, device="cpu")  # noqa: F841 - held
            work, numbers = tape.work(), tape.numbers
            recorded = _Recorded(Repeated, work, [x], DIVISIONS[1])
        for _ in range(2):
            (out,) = recorded.run([torch.randn(2, 4, 8, 8)], numbers)
    assert out.device == DEVICE and waits.found == []


def test_other_prompts_and_other_noise_are_drawn_with_the_same_recording(recorded):
    first = walk(recorded)
    made = Repeated.made
    other = walk(recorded, seed=2)
    assert torch.equal(other, plainly(recorded, seed=2))
    assert torch.equal(walk(recorded), first)
    assert Repeated.made == made


@pytest.mark.parametrize("name", ["ddim", "plms", "dpmpp_2m"])
def test_steps_in_half_precision_are_rounded_as_the_plain_ones(recorded, name):
    with torch.autocast("cpu", torch.bfloat16):
        drawn, plain = (draw(recorded, name=name, steps=8) for draw in (walk, plainly))
    assert torch.equal(drawn, plain) and Repeated.made >= 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("does", OPERATIONS.values())
def test_numbers_on_the_device_round_as_those_of_the_host(dtype, does):
    x = torch.linspace(-3, 3, 1000).to(dtype)
    if dtype in HALF and does not in PRODUCTS:
        with Tape(do).step(x.float()) as begin:
            assert type(does(begin.to(dtype), 0.3)) is torch.Tensor  # it is done at once
        return
    found = _with_numbers(does, (x, torch.tensor(0.3)), DIVISIONS[0])
    assert found.dtype == dtype and torch.equal(found, does(x, 0.3))


@pytest.mark.parametrize("way", DIVISIONS[1:])
def test_on_a_device_that_multiplies_by_inverses_a_recorded_step_does_too(recorded, way):
    with Dividing(way):
        recorded.step_graphs = StepGraphs(recorded, Repeated)
        drawn = walk(recorded, name="euler", steps=8)
        assert torch.equal(drawn, plainly(recorded, name="euler", steps=8)) and Repeated.made == 2
    assert not torch.equal(drawn, plainly(recorded, name="euler", steps=8))


def test_where_nobody_knows_how_a_device_divides_the_update_is_not_recorded(recorded):
    with Dividing(Division(operator.mul, lambda b: 1.0000001 / b)):
        recorded.step_graphs = StepGraphs(recorded, Repeated)
        walk(recorded, name="euler", steps=8)
    assert Repeated.made == 1


def threshold(hub):
    return {"dynamic_threshold": 0.5}


def mask(hub):
    half = torch.zeros(2, 1, 8, 8)
    half[..., :4] = 1.0
    return {"mask": half, "x0": torch.ones(2, 4, 8, 8)}


def corrector(hub):
    modify = lambda model, eps, x, t, cond: eps + 0.1 * x.sign()  # noqa: E731, ARG005
    return {"score_corrector": SimpleNamespace(modify_score=modify)}


def scales(hub):
    return {"ucg_schedule": [1.0, 3.0] * 4}


def repeated_noise(hub):
    return {"repeat_noise": True, "temperature": 0.5}


@pytest.mark.parametrize("option", [threshold, mask, corrector, scales, repeated_noise])
@pytest.mark.parametrize("name", ["ddpm", "plms"])
def test_options_of_a_walk_act_as_on_the_plain_one(recorded, name, option):
    more = {"name": name, "steps": 8, **option(recorded)}
    assert torch.equal(walk(recorded, **more), plainly(recorded, **more))


def test_a_callers_own_sampler_is_given_tensors(recorded):
    class Own(DDIMSampler):
        def update(self, denoiser, x, eps, index):
            assert type(x) is type(eps) is torch.Tensor
            return super().update(denoiser, x, eps, index)

    sampler, x, options = begun(recorded, steps=8)
    own = Own(recorded)
    own.make_schedule(8, verbose=False)
    (*_, plain), (*_, drawn) = sampler.walk(x, **options), own.walk(x, **options)
    assert torch.equal(drawn.x, plain.x)


@pytest.mark.parametrize(
    "look",
    [
        lambda x: x if float(x.sum()) > 1e9 else x * 1.0,
        lambda x: torch.where(x > 0, x, 0.5 * x),
        lambda x: torch.cat([x[:1], -x[1:]]),
        lambda x: x.clamp(-1, 1) + x.mean(),
        lambda x: x.clone().mul_(2.0),
        lambda x: np.float64(0.3) * x + np.float32(2) - abs(x),
        lambda x: x.to(torch.float64).to(torch.float32) * 0.3,
        lambda x: x.to("cpu", torch.float32) / 3,
    ],
)
@pytest.mark.parametrize("where", ["eps_at", "update"])
def test_a_rule_that_looks_at_what_was_put_off_is_right(recorded, monkeypatch, where, look):
    own = getattr(DDIMSampler, where)

    def changed(self, denoiser, x, *others):
        result = own(self, denoiser, look(x), *others)
        return look(result) if where == "eps_at" else result._replace(x=look(result.x))

    monkeypatch.setattr(DDIMSampler, where, changed)
    assert torch.equal(walk(recorded, steps=8), plainly(recorded, steps=8))


def test_a_step_that_breaks_off_leaves_nothing_behind(recorded):
    plain = plainly(recorded, steps=8)
    sampler, x, options = begun(recorded, steps=8)
    update = sampler.update

    def breaking(denoiser, x, eps, index):
        if index == 2:
            raise ValueError("enough")
        return update(denoiser, x, eps, index)

    sampler.update = breaking
    with pytest.raises(ValueError, match="enough"):
        list(sampler.walk(x, **options))
    assert torch.equal(walk(recorded, steps=8), plain)


def test_prompts_that_are_written_over_in_place_are_seen(recorded):
    cond = prompts(recorded, 1)
    walk(recorded, scale=1.0, conditioning=cond)
    cond.mul_(2.0)
    again = walk(recorded, scale=1.0, conditioning=cond)
    assert torch.equal(again, plainly(recorded, scale=1.0, conditioning=cond))
    assert torch.equal(cond, 2.0 * prompts(recorded, 1))  # what was given is left as it was


@pytest.mark.parametrize("change", [{"rows": 1}, {"side": 16}, {"scale": 5.0}, {"scale": 1.0}])
def test_another_shape_or_scale_has_a_recording_of_its_own(recorded, change):
    walk(recorded)
    assert torch.equal(walk(recorded, **change), plainly(recorded, **change))
    walk(recorded)
    assert Repeated.made == 4  # the model's call and a whole step of each


def test_weights_that_were_replaced_are_recorded_anew(recorded):
    before = walk(recorded)
    layer = recorded.model.diffusion_model.out[2]
    kept = layer.weight.data
    layer.weight.data = 2.0 * kept
    try:
        after = walk(recorded)
        assert torch.equal(after, plainly(recorded)) and not torch.equal(after, before)
        assert Repeated.made == 3  # steps that are known to come often need no other
    finally:
        layer.weight.data = kept


def test_recordings_share_the_memory_of_one_that_is_still_there(recorded):
    captures = lambda: [each.capture for each in recorded.step_graphs._recorded.values()]  # noqa: E731
    walk(recorded)
    first, second = captures()
    assert first.beside is None and second.beside is first
    layer = recorded.model.diffusion_model.out[2]
    kept, layer.weight.data = layer.weight.data, layer.weight.data.clone()
    walk(recorded)
    layer.weight.data = kept
    assert captures()[0].beside is None


def hooked(hub):
    return hub.model.diffusion_model.out[0].register_forward_hook(lambda *_: None).remove


def replaced(hub):
    layer = hub.model.diffusion_model.out[0]
    layer.forward = layer.forward
    return lambda: vars(layer).pop("forward")


def beside(hub):
    layer = hub.model.diffusion_model.middle_block[1].transformer_blocks[0].attn2
    layer.beside = [lambda q: None]  # noqa: ARG005
    return lambda: vars(layer).pop("beside")


def side_network(hub):
    hub.model.diffusion_model.side_networks.append(lambda x, t, c, h, skips: (h, skips))  # noqa: ARG005
    return hub.model.diffusion_model.side_networks.clear


def training(hub):
    hub.model.train()
    return hub.model.eval


def own_call(hub):
    hub.apply_model = hub.apply_model
    return lambda: vars(hub).pop("apply_model")


def joint(hub):
    hub.model.diffusion_model.joints = (lambda number, h, skip: (h, skip),)  # noqa: ARG005
    return lambda: vars(hub.model.diffusion_model).pop("joints")


def reused(hub):
    features = SimpleNamespace(recall=lambda rows: None, keep=lambda h: None, shallow=1)  # noqa: ARG005
    hub.model.diffusion_model.reuse = features
    return lambda: vars(hub.model.diffusion_model).pop("reuse")


@pytest.mark.parametrize(
    "act", [hooked, replaced, beside, side_network, joint, reused, training, own_call]
)
def test_what_acts_on_the_model_keeps_it_from_being_recorded(recorded, act):
    undo = act(recorded)
    try:
        walk(recorded)
        assert Repeated.made == 0
    finally:
        undo()
    walk(recorded)
    assert Repeated.made == 2


def test_nothing_is_recorded_while_gradients_flow(recorded):
    guider = NoGuidance()
    x, t = torch.zeros(1, 4, 8, 8), torch.full((1,), 5)
    assert recorded.step_graphs.call(guider, x, t, prompts(recorded, 0, 1), None) is None


def test_recorded_steps_add_no_key_to_a_model(recorded):
    assert not [key for key in recorded.state_dict() if "graph" in key]
