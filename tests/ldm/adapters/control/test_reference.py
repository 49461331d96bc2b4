"""A reference picture: what self-attention sees of it, and an answer that is known exactly."""

from __future__ import annotations

import pytest
import torch
from control_parts import inputs, make_model

from ldm.adapters.control import reference_only
from ldm.adapters.handle import require_unet
from ldm.errors import UserError
from ldm.models.diffusion.ddim import DDIMSampler


@pytest.fixture(scope="module")
def model():
    return make_model().requires_grad_(False).eval()


@pytest.fixture(scope="module")
def picture():
    return torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(8))


def predict(model, x=None, t=500):
    given, _, context = inputs()
    x = given if x is None else x
    return require_unet(model)(x, torch.tensor([t] * len(x)), context)


def as_uncond_cond(handle):
    handle.follower.tell(handle.follower.moment, 1, ("uncond", "cond"))
    return handle


@torch.no_grad()
def test_a_picture_that_is_its_own_reference_stays_as_it_is(model, picture):
    """Attention to every token twice is attention to each once: softmax over doubled keys."""
    with reference_only(model).attach(model, picture, seed=3) as handle:
        x = handle._noised(inputs()[0], torch.tensor([500, 500]))
        inside = predict(model, x)
        other = predict(model)
    torch.testing.assert_close(inside, predict(model, x), rtol=0, atol=1e-5)
    assert (other - predict(model)).abs().max() > 1e-3


@torch.no_grad()
def test_one_layer_attends_as_the_formula_says(model, picture):
    """The first layer's output, recomputed from what goes into it."""
    unet, taken = require_unet(model), []
    block = unet.input_blocks[1][1].transformer_blocks[0]
    hook = block.attn1.register_forward_hook(lambda _m, i, o: taken.append((i[0], o)))
    with reference_only(model).attach(model, picture, style_fidelity=0.3) as handle:
        as_uncond_cond(handle)
        predict(model)
    hook.remove()
    (reference, _), (x, got) = taken
    both = block.attn1(x, context=torch.cat([x, reference], 1))
    want = torch.stack([0.3 * block.attn1(x)[0] + 0.7 * both[0], both[1]])
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5)


@torch.no_grad()
def test_full_fidelity_leaves_the_empty_prompt_alone(model, picture):
    plain = predict(model)
    with reference_only(model).attach(model, picture, mode="control") as handle:
        as_uncond_cond(handle)
        seen = predict(model)
    torch.testing.assert_close(seen[:1], plain[:1], rtol=0, atol=1e-5)
    assert (seen[1:] - plain[1:]).abs().max() > 1e-3
    with reference_only(model).attach(model, picture, mode="prompt") as handle:
        as_uncond_cond(handle)
        assert (predict(model)[:1] - plain[:1]).abs().max() > 1e-3


@torch.no_grad()
def test_a_smaller_scale_leaves_out_narrow_layers_and_zero_all_to_the_bit(model, picture):
    plain = predict(model)
    with reference_only(model).attach(model, picture, 0.0) as handle:
        assert torch.equal(predict(model), plain)
        handle.scale = 0.5
        half = predict(model)
        kept = []
        handle._forget = lambda *_: None
        handle._hooks[1].remove()
        predict(model)
        kept = [bool(each) for each in handle._kept]
        del handle._forget
        handle._forget()
    assert not torch.equal(half, plain)
    assert kept == sorted(kept, reverse=True) and 0 < sum(kept) < len(kept)


@torch.no_grad()
def test_detaching_leaves_no_wrapper(model, picture):
    plain = predict(model)
    handle = reference_only(model).attach(model, picture)
    predict(model)
    handle.detach()
    assert torch.equal(predict(model), plain)
    assert not any("forward" in vars(module) for module in require_unet(model).modules())


@torch.no_grad()
def test_two_references_are_both_seen(model, picture):
    with reference_only(model).attach(model, picture):
        one = predict(model)
        with reference_only(model).attach(model, 1 - picture):
            both = predict(model)
        assert torch.equal(predict(model), one)
    assert not torch.equal(both, one)


@torch.no_grad()
def test_a_walks_random_numbers_are_left_alone_and_it_repeats(model, picture):
    def draw():
        torch.manual_seed(5)
        cond, uncond = inputs(2)[2].split(1)
        guided = {"unconditional_conditioning": uncond, "unconditional_guidance_scale": 2.0}
        x = inputs(1)[0]
        drawn = DDIMSampler(model).sample(
            2, 1, (4, 8, 8), cond, x_T=x, eta=1.0, verbose=False, **guided
        )[0]
        return drawn, torch.rand(1)

    plain, after = draw()
    with reference_only(model).attach(model, picture):
        first, same = draw()
        second, _ = draw()
    assert torch.equal(first, second) and not torch.equal(first, plain)
    assert torch.equal(after, same)


def test_an_inpainting_model_is_shown_the_whole_reference(picture):
    model = make_model(in_channels=9).requires_grad_(False).eval()
    x, t, context = inputs(channels=9)
    with torch.no_grad(), reference_only(model).attach(model, picture) as handle:
        noised = handle._noised(x, t)
        assert noised.shape == x.shape and not noised[:, 4].any()
        assert require_unet(model)(x, t, context).isfinite().all()


def test_what_makes_no_sense_is_refused(model, picture):
    with pytest.raises(UserError, match="style_fidelity 2.0 given"):
        reference_only(model).attach(model, picture, style_fidelity=2.0)
    with pytest.raises(UserError, match="control mode 'loud'"):
        reference_only(model).attach(model, picture, mode="loud")
