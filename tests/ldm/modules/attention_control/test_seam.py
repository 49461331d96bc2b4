"""The seam: what controllers may change, and that nothing is left behind."""

from __future__ import annotations

import pytest
import torch
from controlled import Changes, Notes, contexts, draw, drawn_under, narrow_hub, state_of
from torch import nn

from ldm.errors import UserError
from ldm.modules.attention_control.controller import Controller
from ldm.modules.attention_control.moments import LISTENERS, Row
from ldm.modules.attention_control.seam import control_attention, probabilities
from ldm.modules.attention_processors import AttentionLayer, eager, sdpa
from ldm.settings.samplers import SAMPLERS

UNCHANGED = {
    "nothing": lambda probs, *_: None,
    "the same": lambda probs, *_: probs,
    "a copy": lambda probs, *_: probs.clone(),
    "times one": lambda probs, *_: probs * 1.0,
}


# What is unchanged


@pytest.mark.parametrize("change", UNCHANGED)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_controller_that_changes_nothing_leaves_every_bit(hub, plain, sampler, change):
    assert torch.equal(drawn_under(Changes(UNCHANGED[change]), hub, sampler), plain(sampler))


@pytest.mark.parametrize("change", UNCHANGED)
def test_so_it_does_in_inference_mode(hub, plain, change):
    with torch.inference_mode():
        assert torch.equal(drawn_under(Changes(UNCHANGED[change]), hub), plain())


def test_the_explicit_product_is_within_1e_6_of_the_fused_kernel():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 64, 16)
    for mask in (None, torch.rand(2, 1, 1, 64) > 0.3):
        probs = probabilities(q, k, mask=mask, scale=0.25)
        assert torch.allclose(probs.sum(-1), torch.ones(2, 4, 64), atol=1e-6)
        explicit = torch.einsum("bhnm,bhmd->bhnd", probs, v)
        assert (explicit - sdpa(q, k, v, mask=mask, scale=0.25)).abs().max() < 1e-6
        assert torch.equal(explicit, eager(q, k, v, mask=mask, scale=0.25))


def test_one_call_with_all_products_explicit_is_within_1e_6_of_none(hub):
    cond, _ = contexts(2)
    x, t = torch.randn(2, 4, 8, 8), torch.full((2,), 500)
    with torch.no_grad():
        expected = hub.apply_model(x, t, cond)
        with control_attention(hub, Changes(lambda probs, *_: probs.mul_(1.0))):  # in place
            given = hub.apply_model(x, t, cond)
    assert (given - expected).abs().max() < 1e-6 * expected.abs().max().clamp(min=1)


# What is changed


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_changes_are_obeyed_in_place_or_not(hub, plain, scale, inference):
    def in_place(probs, *_):
        probs[..., 0] = 0.0

    def in_place_and_copied(probs, *_):
        probs[..., 0] = 0.0
        return probs.clone()

    def returned(probs, *_):
        return torch.cat([torch.zeros_like(probs[..., :1]), probs[..., 1:]], dim=-1)

    with torch.inference_mode(inference):
        made = [
            drawn_under(Changes(change), hub, scale=scale)
            for change in (in_place, in_place_and_copied, returned)
        ]
    assert torch.equal(made[0], made[1]) and torch.equal(made[0], made[2])
    assert (made[0] - plain(scale=scale)).abs().max() > 1e-3


@pytest.mark.parametrize("in_place", [False, True])
def test_only_the_row_that_is_changed_changes_and_the_others_keep_every_bit(hub, plain, in_place):
    def change(probs, site, moment, rows):  # noqa: ARG001
        used = probs if in_place else probs.clone()
        for number, row in enumerate(rows):
            if row == Row("cond", 1):
                used[number] = probs[number].flip(-1)
        return used

    given, expected = drawn_under(Changes(change), hub), plain()
    assert torch.equal(given[0], expected[0])
    assert (given[1] - expected[1]).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda probs, *_: probs[:1], r"shape \(1, 2, 64, "),
        (lambda probs, *_: probs.mean(1, keepdim=True), r"shape \(4, 1, 64, "),
        (lambda *_: 1.0, "float"),
    ],
)
def test_what_is_not_of_the_probabilities_shape_is_refused_in_one_line(hub, change, found):
    with pytest.raises(UserError, match=rf"Changes returned {found}.*attn1; expected") as error:
        drawn_under(Changes(change), hub)
    assert "\n" not in str(error.value)


def test_the_fused_kernel_is_kept_in_layers_that_are_not_wanted():
    hub = narrow_hub()
    calls = []

    class Counted:
        def __init__(self, path):
            self.path = path

        def __call__(self, q, k, v, *, mask, scale):
            calls.append(self.path)
            return sdpa(q, k, v, mask=mask, scale=scale)

    unet = hub.model.diffusion_model
    layers = {p: m for p, m in unet.named_modules() if isinstance(m, AttentionLayer)}
    for path, layer in layers.items():
        layer.processor = Counted(path)

    class Halves(Notes):
        def __call__(self, probs, site, moment, rows):
            super().__call__(probs, site, moment, rows)
            return probs * 0.5

    notes = Halves("cross")
    drawn_under(notes, hub, steps=1)
    assert sorted(calls) == sorted(path for path in layers if path.endswith("attn1"))
    assert sorted(site.path for _, site, _, _ in notes.calls) == sorted(
        path for path in layers if path.endswith("attn2")
    )


# What is left behind


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_as_it_was_afterwards_and_after_errors(hub, plain, fails):
    unet = hub.model.diffusion_model
    own = next(layer for layer in unet.modules() if isinstance(layer, AttentionLayer))
    own.processor = eager
    before, keys = state_of(hub), list(hub.state_dict())
    try:
        with control_attention(hub, Changes(lambda probs, *_: probs * 2.0)):
            assert own.processor is not eager
            assert list(hub.state_dict()) == keys
            draw(hub, steps=1)
            if fails:
                raise ZeroDivisionError
    except ZeroDivisionError:
        assert fails
    assert own.processor is eager
    assert state_of(hub) == before and list(hub.state_dict()) == keys
    assert not LISTENERS
    del own.processor
    assert torch.equal(draw(hub), plain())


def test_a_controller_that_fails_at_the_beginning_leaves_nothing_either(hub):
    class Fails(Controller):
        def begin(self, sites):
            raise ZeroDivisionError

    before = state_of(hub)
    with pytest.raises(ZeroDivisionError), control_attention(hub, Fails()):
        pass
    assert state_of(hub) == before and not LISTENERS


def test_nesting_is_refused_in_one_line_and_the_outer_control_goes_on(hub, plain):
    notes = Notes()
    with control_attention(hub, notes):
        for part in (hub, hub.model, hub.model.diffusion_model):
            refused = pytest.raises(UserError, match=r"under control already.*Chain\(")
            with refused as error, control_attention(part, Notes()):
                pass
            assert "\n" not in str(error.value)
        assert torch.equal(draw(hub), plain())
    assert notes.calls


def unet_without(part):
    unet = narrow_hub(attention_resolutions=[]).model.diffusion_model
    if part == "attention":
        unet.middle_block[1] = nn.Identity()
    else:
        delattr(unet, part)
    return unet


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (lambda: nn.Linear(2, 2), "a Linear was given"),
        (lambda: unet_without("input_blocks"), "a UNetModel was given"),
        (lambda: unet_without("output_blocks"), "a UNetModel has no output_blocks"),
        (lambda: unet_without("attention"), "the UNetModel has no layer"),
    ],
)
def test_a_model_without_a_unet_is_refused_in_one_line(model, found):
    refused = pytest.raises(UserError, match=found)
    with refused as error, control_attention(model(), Notes()):
        pass
    assert "\n" not in str(error.value) and not LISTENERS


def test_two_models_may_be_under_control_together(hub):
    other, first, second = narrow_hub("v2"), Notes(), Notes()
    with control_attention(hub, first), control_attention(other, second):
        draw(hub, steps=1)
        assert first.calls and not second.calls
        count = len(first.calls)
        draw(other, steps=1)
        assert second.calls and len(first.calls) == count
