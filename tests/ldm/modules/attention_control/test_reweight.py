"""Words count as much as their weights say, and only when asked."""

from __future__ import annotations

import pytest
import torch
from edited_walks import LENGTH, WIDTH, drawn, encoded, hub, largest, read
from torch import nn

from ldm.errors import UserError
from ldm.modules.attention import CrossAttention
from ldm.modules.attention_control.auto import Auto
from ldm.modules.attention_control.refine import Refine
from ldm.modules.attention_control.replace import Replace
from ldm.modules.attention_control.reweight import Reweight, equalizer
from ldm.modules.attention_control.seam import control_attention

CAT, FLUFFY = "a cat on a mat", "a fluffy cat on a mat"
SMALL = {"side": (8, 8), "steps": 2}


class OneLayer(nn.Module):
    """A UNet of one cross-attention, so that what a word adds can be computed by hand."""

    def __init__(self):
        super().__init__()
        block = nn.Module()
        block.attn1, block.attn2 = nn.Identity(), CrossAttention(WIDTH, WIDTH, 2, 16)
        self.input_blocks = nn.ModuleList([block])
        self.middle_block, self.output_blocks = nn.Module(), nn.ModuleList()

    def forward(self, x, context):
        return self.input_blocks[0].attn2(x, context)


def weighed(weight):
    """Return what one layer gives for two equal prompts, "cat" weighed in the second: (2, N, D).

    Returned beside it: what the source gives, and what of that the word's values add by hand.
    """
    torch.manual_seed(0)
    unet, x = OneLayer(), torch.randn(1, 5, WIDTH).expand(2, -1, -1)
    layer, context = unet.input_blocks[0].attn2, encoded(CAT).expand(2, -1, -1)
    edit = Reweight(read(CAT), [read(CAT)], {"cat": weight}, cross_steps=1.0)
    with torch.no_grad(), control_attention(unet, edit) as control, control.at(0, 1):
        control._latent = (1, 5)
        found = unet(x, context)
    with torch.no_grad():
        q, k, v = layer.to_q(x[0]), layer.to_k(context[0]), layer.to_v(context[0])
        added = torch.zeros(5, 2 * 16)
        for head in (slice(0, 16), slice(16, 32)):
            probs = (q[:, head] @ k[:, head].T / 4).softmax(-1)
            added[:, head] = probs[:, 2:3] * v[2:3, head]  # "cat" is token 2
        return found[1], layer(x, context)[0], layer.to_out[0].weight @ added.T


@pytest.mark.parametrize("weight", [0, 0.5, 2, -2])
def test_a_weight_scales_what_the_words_values_add_and_nothing_else(weight):
    found, plain, added = weighed(weight)
    assert largest(added) > 1e-2
    assert largest(found - (plain + (weight - 1) * added.T)) < 1e-5


def test_a_pictures_change_grows_with_the_weights_distance_from_one():
    changes = []
    for weight in (1, 2, 4):
        edit = Reweight(read(CAT), [read(CAT)], {"cat": weight}, self_steps=1.0)
        source, target = drawn(hub("v1"), [CAT, CAT], edit, **SMALL)
        changes.append(float((target - source).square().mean()))
    assert changes[0] == 0 < changes[1] < changes[2]


@pytest.mark.parametrize("prior", [None, Replace, Refine, Auto])
def test_weights_of_one_are_no_weights_to_the_bit(prior):
    source, targets = read(CAT), [read("a dog on a mat")]
    without = (prior or Replace)(source, targets)
    edit = Reweight(source, targets, {"dog": 1}, prior=prior and without)
    weighed, plain = (
        drawn(hub("v1"), [CAT, "a dog on a mat"], e, **SMALL) for e in (edit, without)
    )
    assert torch.equal(weighed, plain)


def test_weights_come_on_top_of_the_edit_before():
    source, target = read(CAT), read(FLUFFY)
    base, own = torch.rand(2, 3, 16, LENGTH)
    refine = Refine(source, [target])
    edit = Reweight(source, [target], {"fluffy": 3, "mat": 0}, prior=refine)
    expected = refine.edited(base, own, 0).clone()
    expected[..., 2] *= 3
    expected[..., 6] = 0
    assert torch.equal(edit.edited(base, own, 0), expected)


def test_each_target_has_the_weights_of_its_own_words():
    edit = Reweight(read(CAT), [read(CAT), read("a dog on a mat")], {"dog": 2, "mat": 3})
    assert [factors[[2, 5]].tolist() for factors in edit.factors] == [[1, 3], [2, 3]]


def test_a_word_is_weighed_in_each_of_its_tokens_and_places():
    factors = equalizer(read("a samoyed and a samoyed"), {"samoyed": -1.5})
    expected = torch.ones(LENGTH)
    expected[[2, 3, 6, 7]] = -1.5
    assert torch.equal(factors, expected)


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), "2", None, (1, 2)])
def test_a_weight_that_is_no_finite_number_is_refused_in_one_line(weight):
    with pytest.raises(UserError, match="expected a finite number") as error:
        Reweight(read(CAT), [read(CAT)], {"cat": weight})
    assert "\n" not in str(error.value) and repr(weight) in str(error.value)


def test_a_word_in_no_target_is_refused_with_the_nearest():
    with pytest.raises(UserError, match="'car' is not in the prompt .*did you mean 'cat'"):
        Reweight(read(CAT), [read(CAT), read(FLUFFY)], {"car": 2})


def test_an_edit_of_other_prompts_is_refused_in_one_line():
    prior = Refine(read(CAT), [read(FLUFFY)])
    with pytest.raises(UserError, match="with an edit of others") as error:
        Reweight(read(CAT), [read(FLUFFY), read(CAT)], {"mat": 2}, prior=prior)
    assert "\n" not in str(error.value)


# The fork weighed token 2, in every run, of three samples at most. That plain runs weigh nothing is
# tested in test_published_numbers.py.


def test_any_number_of_pictures_is_weighed_each_alike():
    options = {"columns": True, **SMALL}
    edit = Reweight(read(CAT), [read(CAT)], {"mat": 3}, pictures=4)
    source, target = drawn(hub("v1"), [CAT, CAT], edit, pictures=4, **options)
    assert all(largest(t - s) > 1e-2 for s, t in zip(source, target, strict=True))
    edit = Reweight(read(CAT), [read(CAT)], {"mat": 3})
    assert drawn(hub("v1"), [CAT, CAT], edit, **options).shape[1] == 1
