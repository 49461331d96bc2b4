"""ControlNets on a model: what they add, to which rows, at which steps, and leaving no trace."""

from __future__ import annotations

import pytest
import torch
from control_parts import drawing, inputs, make_model, make_net, peer_net, peer_unet, write_net

from ldm.adapters.control import read_control
from ldm.adapters.control.modes import soft_weights
from ldm.adapters.handle import require_unet
from ldm.errors import UserError
from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.settings.samplers import SAMPLERS


@pytest.fixture(scope="module")
def model():
    return make_model().requires_grad_(False)


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    return write_net(tmp_path_factory.mktemp("nets"), model)


@pytest.fixture(scope="module")
def control(model, path):
    return read_control(path, model)


def predict(model, rows=2, **options):
    x, t, context = inputs(rows, **options)
    return require_unet(model)(x, t, context)


def draw(model, steps=4, pictures=1, sampler="ddim", x=None):
    """Draw from a fixed x_T under a prompt and an empty one, which are other contexts."""
    x = inputs(pictures)[0] if x is None else x
    cond, uncond = (each.expand(len(x), -1, -1) for each in inputs(2)[2].split(1))
    guided = {"unconditional_conditioning": uncond, "unconditional_guidance_scale": 3.0}
    torch.manual_seed(0)
    made = make_sampler(sampler, model)
    return made.sample(steps, len(x), (4, 8, 8), cond, x_T=x, verbose=False, **guided)[0]


@torch.no_grad()
def test_the_outputs_are_diffusers_to_float_precision(model, tmp_path):
    """One network twice as strong and another: ours beside diffusers' sum of residuals."""
    unet, hints = peer_unet(model), [drawing(2), drawing(2, seed=5)]
    nets = [peer_net(0), peer_net(1)]
    x, t, context = inputs()
    sums = None
    for net, hint, scale in zip(nets, hints, (2.0, 0.5), strict=True):
        down, mid = net(x, t, context, hint, conditioning_scale=scale, return_dict=False)
        outputs = [*down, mid]
        sums = outputs if sums is None else [a + b for a, b in zip(sums, outputs, strict=True)]
    want = unet(
        x,
        t,
        context,
        down_block_additional_residuals=sums[:-1],
        mid_block_additional_residual=sums[-1],
    ).sample
    for number, net in enumerate(nets):
        net.save_pretrained(tmp_path / str(number))
    read = [read_control(tmp_path / str(number), model) for number in range(2)]
    assert read[0].report.form == "diffusers" and not read[0].report.warnings()
    plain = predict(model)
    with read[0].attach(model, hints[0], 2.0), read[1].attach(model, hints[1], 0.5):
        torch.testing.assert_close(predict(model), want, rtol=0, atol=1e-5)
    assert (want - plain).abs().max() > 1e-2


@torch.no_grad()
def test_detaching_restores_the_model_to_the_bit(model, control):
    before, keys = predict(model), list(model.state_dict())
    handle = control.attach(model, drawing())
    changed = predict(model)
    assert list(model.state_dict()) == keys
    handle.detach()
    assert not torch.equal(changed, before) and torch.equal(predict(model), before)
    assert not require_unet(model).side_networks


@torch.no_grad()
def test_a_scale_of_zero_changes_nothing_to_the_bit(model, control):
    before = predict(model)
    with control.attach(model, drawing(), 0.0) as handle:
        assert torch.equal(predict(model), before)
        handle.scale = 1.0
        assert not torch.equal(predict(model), before)


@torch.no_grad()
def test_the_file_stays_mapped_and_the_network_is_never_initialised(control, path):
    from ldm.checkpoint.io import read_checkpoint

    tensors = read_checkpoint(path).tensors
    own = control.network.network.state_dict()
    assert all(torch.equal(tensors[f"control_model.{n}"], v) for n, v in own.items())
    assert not any(parameter.requires_grad for parameter in control.network.network.parameters())


@torch.no_grad()
@pytest.mark.parametrize("mode", ["control", "guess"])
def test_the_conditional_rows_alone_are_controlled_in_modes_that_say_so(model, control, mode):
    """Without guidance's second prompt the picture is that of cldm's guess mode."""
    x, _, context = inputs(2)
    x, t = x[:1].expand(2, -1, -1, -1), torch.tensor([500, 500])
    seen = {}

    def record(name):
        def keep(x, timesteps, context, h, skips):
            seen[name] = h
            return h, skips

        return keep

    unet = require_unet(model)
    unet.side_networks.append(record("before"))
    handle = control.attach(model, drawing(), mode=mode)
    unet.side_networks.append(record("after"))
    try:
        handle.follower.tell(handle.follower.moment, 1, ("uncond", "cond"))
        unet(x, t, context)
        added = seen["after"] - seen["before"]
        net = make_net(model)
        alone = net(x[1:], drawing(), t[1:], context[1:])[-1]
    finally:
        handle.detach()
        unet.side_networks.clear()
    assert not added[0].any()
    torch.testing.assert_close(added[1:], alone, rtol=0, atol=1e-5)


def test_soft_weights_are_cldms():
    assert soft_weights(13) == tuple(0.825 ** float(12 - i) for i in range(13))


@torch.no_grad()
def test_the_prompts_mode_weighs_shallow_outputs_less_on_all_rows(model, control):
    count = len(control.network.network.zero_convs) + 1
    with control.attach(model, drawing(), 0.5, mode="prompt"):
        soft = predict(model)
    weights = [0.825 ** (count - 1 - i) for i in range(count)]
    with control.attach(model, drawing(), 0.5, scales=weights):
        assert torch.equal(predict(model), soft)
    with control.attach(model, drawing(), 0.5):
        assert not torch.equal(predict(model), soft)


@torch.no_grad()
def test_outputs_can_be_switched_off_one_by_one(model, control):
    """Only the middle's: cldm's ``only_mid_control``."""
    count = len(control.network.network.zero_convs) + 1
    x, t, context = inputs()
    unet = require_unet(model)
    middle = make_net(model)(x, drawing(), t, context)[-1]
    h, emb, skips = unet.encode(x, t, context)
    want = unet.decode(h + middle, emb, skips, context)
    with control.attach(model, drawing(), scales=[0.0] * (count - 1) + [1.0]):
        torch.testing.assert_close(predict(model), want, rtol=0, atol=1e-6)


@torch.no_grad()
def test_start_and_end_are_fractions_of_the_steps(model, control):
    plain, calls = draw(model, 4), []
    network = control.network.network
    hook = network.middle_block.register_forward_hook(lambda *_: calls.append(1))
    with control.attach(model, drawing(), start=0.25, end=0.75):
        partly = draw(model, 4)
    hook.remove()
    assert len(calls) == 2 and not torch.equal(partly, plain)


@torch.no_grad()
def test_the_scale_may_follow_the_steps(model, control):
    with control.attach(model, drawing(), lambda moment: float(moment.number < 1)):
        first = draw(model, 4)
    with control.attach(model, drawing(), end=0.25):
        assert torch.equal(draw(model, 4), first)


@torch.no_grad()
def test_the_hint_is_embedded_once_a_walk(model, control):
    calls, network = [], control.network.network
    hook = network.input_hint_block.register_forward_hook(lambda *_: calls.append(1))
    with control.attach(model, drawing()):
        draw(model, 4)
        draw(model, 4)
    hook.remove()
    assert len(calls) == 2


@torch.no_grad()
def test_every_picture_of_a_batch_has_its_own_hint(model, control):
    hints = drawing(2)
    with control.attach(model, hints):
        both = draw(model, pictures=2)
    for number in range(2):
        one = slice(number, number + 1)
        with control.attach(model, hints[one]):
            alone = draw(model, x=inputs(2)[0][one])
        torch.testing.assert_close(both[one], alone, rtol=1e-5, atol=1e-5)


def test_fewer_hints_than_pictures_are_one_line(model, control):
    with control.attach(model, drawing(2)), pytest.raises(UserError, match="2 hints given for 3"):
        draw(model, pictures=3)


@torch.no_grad()
@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_every_sampler_draws_with_it(model, control, sampler):
    plain = draw(model, 2, sampler=sampler)
    with control.attach(model, drawing()):
        assert not torch.equal(draw(model, 2, sampler=sampler), plain)


@torch.no_grad()
def test_pictures_are_changed_and_painted_under_control(model, control):
    """Image-to-image walks a part of the steps, inpainting keeps what the mask says."""
    cond = inputs(2)[2][:1]
    x0 = inputs(1)[0]
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1

    def changed():
        sampler = make_sampler("ddim", model)
        sampler.make_schedule(4, verbose=False)
        return sampler.decode(x0, cond, 2)

    def painted():
        torch.manual_seed(0)
        sampler = make_sampler("ddim", model)
        options = {"mask": mask, "x0": x0, "x_T": inputs(1)[0], "verbose": False}
        return sampler.sample(2, 1, (4, 8, 8), cond, **options)[0]

    plain = changed(), painted()
    with control.attach(model, drawing()):
        controlled = changed(), painted()
    assert not any(torch.equal(a, b) for a, b in zip(plain, controlled, strict=True))
    with control.attach(model, drawing(), end=0.5):
        half = changed()
    assert not torch.equal(half, controlled[0]) and not torch.equal(half, plain[0])


@torch.no_grad()
def test_half_precision_weights_follow_the_model(model, tmp_path):
    from safetensors.torch import save_file

    state = {n: v.half() for n, v in make_net(model).state_dict().items()}
    save_file(state, tmp_path / "half.safetensors")
    control = read_control(tmp_path / "half.safetensors", model)
    assert control.report.form == "cldm"
    with control.attach(model, drawing()):
        predict(model)
    assert {v.dtype for v in control.network.network.state_dict().values()} == {torch.float32}


@torch.no_grad()
def test_an_inpainting_model_shows_it_the_noisy_latents_alone(path):
    model = make_model(in_channels=9)
    x, t, context = inputs(channels=9)
    unet = require_unet(model)
    outputs = make_net(model)(x[:, :4], drawing(), t, context)
    h, emb, skips = unet.encode(x, t, context)
    skips = [a + b for a, b in zip(skips, outputs[:-1], strict=True)]
    want = unet.decode(h + outputs[-1], emb, skips, context)
    control = read_control(path, model)
    with control.attach(model, drawing()):
        torch.testing.assert_close(unet(x, t, context), want, rtol=0, atol=1e-6)


@torch.no_grad()
def test_a_shuffle_network_has_one_value_for_all_positions(model, path, tmp_path):
    renamed = tmp_path / "control_v11e_sd15_shuffle.safetensors"
    renamed.write_bytes(path.read_bytes())
    control = read_control(renamed, model)
    assert control.pooled and not read_control(renamed, model, pooled=False).pooled
    x, t, context = inputs()
    unet = require_unet(model)
    outputs = [o.mean((2, 3), keepdim=True) for o in make_net(model)(x, drawing(), t, context)]
    h, emb, skips = unet.encode(x, t, context)
    skips = [a + b for a, b in zip(skips, outputs[:-1], strict=True)]
    want = unet.decode(h + outputs[-1], emb, skips, context)
    with control.attach(model, drawing()):
        torch.testing.assert_close(predict(model), want, rtol=0, atol=1e-6)


@torch.no_grad()
def test_an_inpainting_hint_is_seen_where_it_is_to_be_painted(model, control):
    hint = drawing()
    with control.attach(model, hint):
        whole = predict(model)
    hint[..., :32] = -1
    with control.attach(model, hint):
        assert not torch.equal(predict(model), whole)


def test_another_model_than_it_was_read_for_is_refused(control):
    other = make_model(channel_mult=[1, 1, 2])
    with pytest.raises(UserError, match="was read for another model"):
        control.attach(other, drawing())


def test_options_that_make_no_sense_are_refused(model, control):
    for options, words in (
        ({"mode": "loud"}, "control mode 'loud' given; expected one of balanced, prompt"),
        ({"scales": [1.0]}, "1 scales given for a control with 10 outputs"),
        ({"start": 0.8, "end": 0.2}, "from 0.8 to 0.2 of the steps"),
        ({"resize": "squeeze"}, "resize 'squeeze' given"),
    ):
        with pytest.raises(UserError, match=words):
            control.attach(model, drawing(), **options)
