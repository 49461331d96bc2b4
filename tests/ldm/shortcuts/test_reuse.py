"""Deep features that are reused: which calls compute, and that nothing else changes."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from narrow_models import narrow_config, narrow_model
from shortened_walks import STEPS, conditionings, walk

from ldm.adapters.control.drawn import ASIDE
from ldm.errors import UserError
from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.modules.attention_control.moments import LISTENERS, Moment
from ldm.shortcuts.reuse import reusing


@pytest.fixture(scope="module")
def model():
    return narrow_model(narrow_config("v1"), seed=1)


def middle_calls(model, function):
    """Count how often the middle block is computed while a function runs."""
    counted = []
    hook = model.model.diffusion_model.middle_block.register_forward_hook(
        lambda *_: counted.append(1)
    )
    try:
        return function(), len(counted)
    finally:
        hook.remove()


def test_computing_always_is_plain_to_the_bit(model):
    plain = walk(model)
    with reusing(model, 1):
        assert torch.equal(walk(model), plain)
    assert torch.equal(walk(model), plain)


def test_a_walk_leaves_nothing_on_the_model(model):
    keys, unet = list(model.state_dict()), model.model.diffusion_model
    before, listening = dict(vars(unet)), len(LISTENERS)
    with reusing(model, 2) as reuse:
        assert list(model.state_dict()) == keys
        walk(model)
        assert not reuse._kept
    assert vars(unet) == before and len(LISTENERS) == listening


@pytest.mark.parametrize(
    ("sampler", "calls"), [("ddim", STEPS), ("heun", 2 * STEPS - 1), ("plms", STEPS + 1)]
)
@pytest.mark.parametrize("every", [2, 3])
def test_every_nth_call_of_a_walk_computes_all_blocks(model, sampler, calls, every):
    with reusing(model, every) as reuse:
        for _ in range(2):  # each walk begins by computing
            reuse.calls = reuse.computed = 0
            _, computed = middle_calls(model, lambda: walk(model, sampler))
            assert computed == -(-calls // every)
            assert (reuse.computed, reuse.calls) == (computed, calls)


def unet_with(unet, x, t, context, kept, branch):
    """The paper's Eq. 7 and 8: first blocks anew, and what entered their counterpart from before.

    Returns the prediction and what entered.
    """
    emb = unet.embed_time(t)
    h, skips = x, []
    for block in unet.input_blocks:
        h = block(h, emb, context)
        skips.append(h)
    h = unet.middle_block(h, emb, context)
    joined_at = len(skips) - 1 - branch
    for number, block in enumerate(unet.output_blocks):
        if number == joined_at:
            entered = h
            h = h if kept is None else kept
        h = block(torch.cat([h, skips[len(skips) - 1 - number]], dim=1), emb, context)
    return unet.out(h), entered


@pytest.mark.parametrize("branch", [0, 1, 3])
def test_a_reused_call_is_what_the_formula_says(model, branch):
    unet, x = model.model.diffusion_model, torch.randn(2, 4, 8, 8)
    context, _ = conditionings()
    first, then = torch.tensor([900, 900]), torch.tensor([700, 700])
    with torch.no_grad(), reusing(model, 2, branch) as reuse:
        reuse.tell(Moment(0, 2, 900.0), 2, ("cond",))
        unet(x, first, context)
        reuse.tell(Moment(1, 2, 700.0), 2, ("cond",))
        found = unet(x, then, context)
        _, entered = unet_with(unet, x, first, context, None, branch)
        expected, _ = unet_with(unet, x, then, context, entered, branch)
    assert torch.allclose(found, expected, atol=1e-6)


def test_reuse_changes_the_picture_and_less_the_more_is_computed(model):
    plain = walk(model)
    errors = []
    for every, branch in [(5, 0), (2, 0), (2, 3)]:
        with reusing(model, every, branch):
            errors.append(float((walk(model) - plain).square().mean()))
    assert errors[0] > errors[1] > errors[2] > 0


def test_a_picture_is_the_same_in_every_batch(model):
    with reusing(model, 2):
        both, alone = walk(model, rows=2), None
        cond, uncond = (each[:1] for each in conditionings(2))
        made = make_sampler("ddim", model, spacing="linspace")
        made.make_schedule(STEPS, verbose=False)
        x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(4))[:1]
        for state in made.walk(
            x, cond, unconditional_guidance_scale=3.0, unconditional_conditioning=uncond
        ):
            alone = state.x
    assert torch.allclose(both[:1], alone, atol=1e-5)


def test_calls_outside_of_a_walk_and_with_gradients_compute_everything(model):
    unet, x, t = model.model.diffusion_model, torch.randn(1, 4, 8, 8), torch.tensor([500])
    context = torch.randn(1, 77, 32)
    with torch.no_grad():
        plain = unet(x, t, context)
    with reusing(model, 2):
        for _ in range(3):
            with torch.no_grad():
                assert torch.equal(unet(x, t, context), plain)
        found, computed = middle_calls(model, lambda: unet(x, t, context))
        assert computed == 1 and found.requires_grad


@contextmanager
def aside():
    token = ASIDE.set(True)
    try:
        with torch.no_grad():
            yield
    finally:
        ASIDE.reset(token)


@pytest.mark.parametrize("other", [aside, torch.enable_grad])
def test_calls_in_a_walk_for_something_else_compute_everything_and_are_not_kept(model, other):
    unet, t, context = model.model.diffusion_model, torch.tensor([500]), torch.randn(1, 77, 32)
    x, another = torch.randn(2, 1, 4, 8, 8)

    def computed(x):
        return middle_calls(model, lambda: unet(x, t, context))[1]

    with torch.no_grad(), reusing(model, 2) as reuse:
        reuse.tell(Moment(0, 2, 900.0), 1, ("cond",))
        assert computed(x) == 1
        kept = {key: features for key, (_, features) in reuse._kept.items()}
        with other():
            assert computed(another) == 1
        assert all(torch.equal(reuse._kept[key][1], each) for key, each in kept.items())
        reuse.tell(Moment(1, 2, 700.0), 1, ("cond",))
        assert computed(x) == 0
        with other():
            assert computed(another) == 1


def test_a_branch_that_the_unet_lacks_is_refused(model):
    with pytest.raises(UserError, match=r"--reuse 2:99 .* from 0 to 3"), reusing(model, 2, 99):
        pass


def test_features_of_an_earlier_period_are_not_used(model):
    """Where guidance ends and begins again, its rows' features may be older than the others'."""
    both, alone = ("uncond", "cond"), ("cond",)
    with torch.no_grad(), reusing(model, 3) as reuse:
        reuse.tell(Moment(0, 9, 900.0), 1, both)
        reuse.keep(torch.zeros(2, 1, 1, 1))
        for number in (1, 2):
            reuse.tell(Moment(number, 9, 800.0), 1, both)
            assert torch.equal(reuse.recall(2), torch.zeros(2, 1, 1, 1))
        reuse.tell(Moment(3, 9, 600.0), 1, alone)
        assert reuse.recall(1) is None
        reuse.keep(torch.ones(1, 1, 1, 1))
        reuse.tell(Moment(4, 9, 500.0), 1, alone)
        assert torch.equal(reuse.recall(1), torch.ones(1, 1, 1, 1))
        reuse.tell(Moment(5, 9, 400.0), 1, both)
        assert reuse.recall(2) is None
