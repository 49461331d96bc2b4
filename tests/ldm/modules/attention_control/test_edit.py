"""Edits of prompts: the same prompt is no edit, and the source is what it is without one."""

from __future__ import annotations

from contextlib import contextmanager
from inspect import signature

import pytest
import torch
from edited_walks import drawn, encoded, hub, largest, read, start

from ldm.errors import UserError
from ldm.modules.attention import BasicTransformerBlock, CrossAttention, SpatialTransformer
from ldm.modules.attention_control.auto import Auto
from ldm.modules.attention_control.moments import Moment, Row
from ldm.modules.attention_control.refine import Refine
from ldm.modules.attention_control.replace import Replace
from ldm.modules.attention_control.reweight import Reweight
from ldm.modules.attention_control.seam import control_attention
from ldm.modules.attention_control.sites import Site
from ldm.offload.plan import POLICIES, PlanSettings, StagePlan
from ldm.settings.samplers import SAMPLERS

CAT, DOG, FLUFFY = "a cat on a mat", "a dog on a mat", "a fluffy cat on a red mat"
JAPANESE = ["赤い猫の写真", "青い自動車の写真"]
SMALL = {"side": (8, 8), "steps": 2}
ALWAYS = {"cross_steps": 1.0, "self_steps": 1.0}
CROSS = Site("attn2", "down", "cross", 0, 2)
SELF = Site("attn1", "down", "self", 1, 2)


def edits(source, targets, **windows):
    """Return one of each kind of edit; none of the weights is one that changes anything."""
    source, targets = read(source), [read(text) for text in targets]
    word = targets[0].words()[0].text
    plain = {kind.__name__: kind(source, targets, **windows) for kind in (Replace, Refine, Auto)}
    prior = {"prior": plain["Refine"], **windows}
    return {
        **plain,
        "Reweight": Reweight(source, targets, {word: 1.0}, **windows),
        "Reweight after Refine": Reweight(source, targets, {word: 1.0}, **prior),
    }


EDITS = tuple(edits(CAT, [CAT]))

# An edit to the same prompt


@pytest.mark.parametrize("columns", [False, True], ids=["one call", "columns"])
@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_edit_to_the_same_prompt_is_the_source_to_the_bit(sampler, scale, columns):
    edit = edits(CAT, [CAT], self_steps=1.0)["Reweight after Refine"]
    options = {"sampler": sampler, "scale": scale, "columns": columns, **SMALL}
    source, target = drawn(hub("v1"), [CAT, CAT], edit, **options)
    assert torch.equal(source, target)


@pytest.mark.parametrize("columns", [False, True], ids=["one call", "columns"])
@pytest.mark.parametrize("kind", EDITS)
def test_so_it_is_for_every_edit(kind, columns):
    edit = edits(CAT, [CAT], **ALWAYS)[kind]
    source, target = drawn(hub("v1"), [CAT, CAT], edit, columns=columns, **SMALL)
    assert torch.equal(source, target)


@pytest.mark.parametrize("kind", ["three rates", "v2", "one head", "other"])
def test_so_it_is_on_other_unets_and_sizes_in_japanese_and_for_several_pictures(kind):
    text, options = JAPANESE[0], {"pictures": 2, "side": (8, 12), "steps": 2}
    edit = edits(text, [text, text], pictures=2, **ALWAYS)["Auto"]
    source, *targets = drawn(hub(kind), [text] * 3, edit, **options)
    assert not torch.equal(source[0], source[1])
    assert all(torch.equal(target, source) for target in targets)


# The source, and edits that never hold


@pytest.mark.parametrize("sampler", ["ddim", "dpm2_a"])
def test_a_window_of_no_step_is_an_independent_run_to_the_bit(sampler):
    options = {"columns": True, "sampler": sampler, **SMALL}
    plain = torch.cat([drawn(hub("v1"), [text], **options) for text in (CAT, DOG)])
    for name, edit in edits(CAT, [DOG], cross_steps=0.0, self_steps=0.0).items():
        assert torch.equal(drawn(hub("v1"), [CAT, DOG], edit, **options), plain), name


def test_in_columns_the_source_is_its_own_run_to_the_bit_whatever_is_edited():
    options = {"columns": True, **SMALL}
    plain = drawn(hub("v1"), [CAT], **options)
    independent = drawn(hub("v1"), [DOG], **options)
    for name, edit in edits(CAT, [DOG], **ALWAYS).items():
        source, target = drawn(hub("v1"), [CAT, DOG], edit, **options)
        assert torch.equal(source, plain[0]), name
        assert largest(target - independent[0]) > 1e-2, name


def test_self_attention_alone_is_injected_too():
    plain = drawn(hub("v1"), [CAT, DOG], **SMALL)
    edit = Replace(read(CAT), [read(DOG)], cross_steps=0.0, self_steps=1.0)
    source, target = drawn(hub("v1"), [CAT, DOG], edit, **SMALL)
    assert largest(source - plain[0]) < 1e-3 and largest(target - plain[1]) > 1e-2


@pytest.mark.parametrize("columns", [False, True])
def test_the_uncond_rows_are_never_edited(columns):
    # Guidance of scale 0 is the unconditional model, which an edit must leave alone.
    options = {"scale": 0.0, "columns": columns, **SMALL}
    plain = drawn(hub("v1"), [CAT, DOG], **options)
    edit = Replace(read(CAT), [read(DOG)], **ALWAYS)
    assert largest(drawn(hub("v1"), [CAT, DOG], edit, **options) - plain) < 1e-3


def test_a_walk_after_another_begins_anew():
    edit = Replace(read(CAT), [read(DOG)])
    with control_attention(hub("v1"), edit):
        pass
    first = drawn(hub("v1"), [CAT, DOG], edit, **SMALL)
    other = drawn(hub("v1"), [CAT, DOG], edit, side=(12, 8), steps=4)
    assert other.shape[-2:] == (12, 8)
    assert torch.equal(drawn(hub("v1"), [CAT, DOG], edit, **SMALL), first)


@pytest.mark.parametrize("steps", [1, 4])
def test_no_map_of_a_source_is_kept_between_steps_and_after_the_walk(steps, monkeypatch):
    edit, held = Replace(read(CAT), [read(DOG)], **ALWAYS), []
    before = Replace.before_step
    monkeypatch.setattr(
        Replace, "before_step", lambda self, *a: held.append(len(self._sources)) or before(self, *a)
    )
    drawn(hub("v1"), [CAT, DOG], edit, side=(8, 8), steps=steps)
    assert held == [0] * steps and not edit._sources


# Rows in parts


@pytest.mark.parametrize("columns", [False, True], ids=["one call", "columns"])
@pytest.mark.parametrize(
    ("kind", "prompts", "side", "pictures"),
    [
        ("v1", [CAT, DOG], (8, 8), 1),
        ("v2", [CAT, FLUFFY], (10, 6), 2),
        ("other", JAPANESE, (8, 12), 1),
    ],
)
def test_rows_in_parts_draw_what_whole_batches_draw(kind, prompts, side, pictures, columns):
    """Heads are 2, 4 and 8; sides are odd multiples of the deepest maps', or not square."""
    options = {"side": side, "pictures": pictures, "columns": columns, "steps": 2}
    source, target = (read(text) for text in prompts)
    edit = Auto(source, [target], pictures=pictures, self_steps=1.0)
    whole = drawn(hub(kind), prompts, edit, **options)
    assert largest(whole[1] - drawn(hub(kind), prompts, **options)[1]) > 1e-2
    for rows in (1, 2, 3):
        with planned(kind, "turbo", rows):
            assert largest(drawn(hub(kind), prompts, edit, **options) - whole) < 1e-3


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_draws_the_same_edit(policy):
    edit = edits(CAT, [DOG], self_steps=1.0)["Auto"]
    whole = drawn(hub("v1"), [CAT, DOG], edit, **SMALL)
    with planned("v1", policy, 2):
        assert largest(drawn(hub("v1"), [CAT, DOG], edit, **SMALL) - whole) < 1e-3


@contextmanager
def planned(kind, policy, rows):
    settings = PlanSettings(policy, unet_rows=rows)
    plan = StagePlan(hub(kind), settings, torch.device("cpu")).attach()
    try:
        yield
    finally:
        plan.detach()


# When and where


def test_a_layer_keeps_its_kernel_outside_of_the_windows_and_in_large_maps():
    edit = Replace(read(CAT), [read(DOG)], cross_steps=(0.3, 0.5), self_steps=(0.2, 0.6))
    edit.begin([SELF, CROSS])
    wanted = [
        [edit.wants(site, Moment(number, 10)) for number in range(10)] for site in (CROSS, SELF)
    ]
    assert wanted == [[n in (3, 4) for n in range(10)], [2 <= n < 6 for n in range(10)]]
    assert [edit.wants(CROSS, Moment(n, 4)) for n in range(4)] == [False, True, False, False]
    large = Site("attn1", "down", "self", 0, 1)
    assert not edit.wants(large, Moment(3, 10))
    edit = Replace(read(CAT), [read(DOG)], self_rate=1)
    edit.begin([SELF, CROSS])
    assert edit.wants(large, Moment(0, 10))


def test_words_have_windows_of_their_own():
    source, target = read(CAT), read(DOG)
    edit = Replace(source, [target], cross_steps={"default_": 1.0, "dog": 0.5, "mat": 0.0})
    edit.begin([CROSS])
    base, own = torch.rand(2, 2, 9, 77)
    rows = [Row("cond", 0), Row("cond", 1)]
    for number, late in ((0, False), (3, True)):
        _, found = edit(torch.stack([base, own]), CROSS, Moment(number, 4), rows)
        kept = torch.zeros(77, dtype=torch.bool)
        kept[list(target.positions("mat") + (target.positions("dog") if late else ()))] = True
        assert torch.equal(found[..., kept], own[..., kept])
        assert torch.equal(found[..., ~kept], base[..., ~kept])


def test_several_targets_share_windows_of_the_words_that_they_have():
    edit = Replace(read(CAT), [read(DOG), read("a cat on a rug")], cross_steps={"rug": 0.0})
    edit.begin([CROSS])
    now = edit._now(Moment(0, 4))
    assert now[0].all() and now[1].sum() == 76


# The fork threaded its state through every forward method, which broke recomputing blocks.


def test_the_signatures_are_the_references_under_control_too():
    layers = [m for m in hub("v1").modules() if isinstance(m, CrossAttention)]
    edit = Replace(read(CAT), [read(DOG)])
    with control_attention(hub("v1"), edit):
        for forward in (CrossAttention.forward, *(layer.forward for layer in layers)):
            names = [name for name in signature(forward).parameters if name != "self"]
            assert names == ["x", "context", "mask"]
    assert [*signature(BasicTransformerBlock.forward).parameters] == ["self", "x", "context"]
    assert [*signature(SpatialTransformer.forward).parameters] == ["self", "x", "context"]


def test_gradients_of_an_edit_are_the_same_where_blocks_recompute():
    model, edit = hub("v1"), Replace(read(CAT), [read(DOG)])
    blocks = [m for m in model.modules() if isinstance(m, BasicTransformerBlock)]
    before, gradients = [block.checkpoint for block in blocks], []
    for recompute in (True, False):
        for block in blocks:
            block.checkpoint = recompute
        try:
            gradients.append(gradient_of_an_edit(model, edit))
        finally:
            for block, flag in zip(blocks, before, strict=True):
                block.checkpoint = flag
    source, target = gradients[0]
    assert (
        largest(source) > 1e-2 and largest(target) > 1e-2
    )  # the target looks where the source did
    assert largest(gradients[0] - gradients[1]) < 1e-5 * largest(gradients[0])


def gradient_of_an_edit(model, edit):
    x = start(side=(8, 8)).repeat(2, 1, 1, 1).requires_grad_()
    context = torch.cat([encoded(CAT), encoded(DOG)])
    with control_attention(model, edit) as control, control.at(0, 4, pictures=2):
        out = model.apply_model(x, torch.full((2,), 500), context)
    return torch.autograd.grad(out[1].square().sum(), x)[0]


# What cannot be


def test_what_cannot_be_edited_is_refused_in_one_line():
    source, target = read(CAT), read(DOG)
    with pytest.raises(UserError, match="no edited prompt was given"):
        Replace(source, [])
    with pytest.raises(UserError, match="'dig' is not in the prompt .*did you mean 'dog'"):
        Replace(source, [target], cross_steps={"dig": 0.5})
    with pytest.raises(UserError, match="self_steps 2 was given"):
        Replace(source, [target], self_steps=2)
    with pytest.raises(UserError, match="cross_steps of 'dog'"):
        Replace(source, [target], cross_steps={"dog": -1})


def test_an_edit_outside_of_a_walk_is_refused_in_one_line():
    edit = Replace(read(CAT), [read(DOG)])
    with pytest.raises(UserError, match="outside of a sampler's walk") as refused:
        edit.wants(CROSS, Moment())
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("prompts", "pictures", "rows"), [([CAT, DOG, DOG], 1, 3), ([CAT], 1, 1), ([CAT, DOG], 2, 4)]
)
def test_a_batch_that_is_laid_out_otherwise_is_refused_in_one_line(prompts, pictures, rows):
    edit = Replace(read(CAT), [read(DOG)])
    with pytest.raises(UserError, match=f"batch of {rows} rows .* expected 2 rows") as refused:
        drawn(hub("v1"), prompts, edit, pictures=pictures, **SMALL)
    assert "\n" not in str(refused.value)


def test_more_prompts_than_targets_are_refused_in_loops_of_ones_own_too():
    edit = Replace(read(CAT), [read(DOG)])
    edit.begin([CROSS])
    rows = [Row("cond", picture) for picture in range(3)]
    with pytest.raises(UserError, match="holds more prompts than the 2 of the edit"):
        edit(torch.rand(3, 2, 9, 77), CROSS, Moment(0, 4), rows)


def test_a_target_before_its_source_is_refused_in_one_line():
    edit = Replace(read(CAT), [read(DOG)])
    edit.begin([CROSS])
    with pytest.raises(UserError, match="computed before its source's"):
        edit(torch.rand(1, 2, 9, 77), CROSS, Moment(0, 4), [Row("cond", 1)])
