"""Outside of where words look the latents stay the source's."""

from __future__ import annotations

import pytest
import torch
from edited_walks import LENGTH, drawn, hub, largest, read

from ldm.errors import UserError
from ldm.modules.attention_control.chain import Chain
from ldm.modules.attention_control.local_blend import LocalBlend, heat, marked, selection, spread
from ldm.modules.attention_control.moments import Moment, Row
from ldm.modules.attention_control.refine import Refine
from ldm.modules.attention_control.replace import Replace
from ldm.modules.attention_control.sites import Site, sites_of
from ldm.modules.attention_control.store import AttentionStore

CAT, DOG, FLUFFY = "a cat on a mat", "a dog on a mat", "a fluffy cat on a mat"
PROMPTS = [read(CAT), read(DOG)]
SITE = Site("attn2", "down", "cross", 0, 4, (4, 6))


def blend(words=(["cat"], ["dog"]), prompts=PROMPTS, **options):
    made = LocalBlend(prompts, words, **options)
    made.begin([SITE])
    return made


def looked_at(places, prompts=2, tokens=((2,), (2,))):
    """Return maps (P, heads, 24, L) in which each prompt's tokens look at its (y, x) places."""
    probs = torch.zeros(prompts, 2, 4, 6, LENGTH)
    for row, spots, columns in zip(probs, places, tokens, strict=True):
        for (y, x), strength in spots.items():
            row[:, y, x, list(columns)] = strength
    return probs.flatten(2, 3)


def rows(count):
    return [Row("cond", number) for number in range(count)]


# In a walk


@pytest.mark.parametrize("columns", [False, True], ids=["one call", "columns"])
def test_the_source_stays_to_the_bit_and_so_does_everything_outside_of_the_mask(columns):
    options = {"pictures": 2, "side": (16, 24), "columns": columns}
    prompts = [read(CAT), read(DOG), read(FLUFFY)]
    edit = Refine(prompts[0], prompts[1:], pictures=2)
    local = LocalBlend(prompts, [["cat"], ["dog"], ["fluffy"]], threshold=0.6, pictures=2)
    texts = [prompt.text for prompt in prompts]
    free = drawn(hub(), texts, edit, **options)
    found = drawn(hub(), texts, Chain(edit, local), **options)
    assert torch.equal(found[0], free[0])
    mask = local.mask((16, 24)).expand_as(found)
    assert 0.05 < float(mask[1:].float().mean()) < 0.95
    outside = ~mask
    assert torch.equal(found[outside], found[:1].expand_as(found)[outside])
    assert largest((found - found[:1])[mask]) > 1e-2
    assert largest((free - free[:1])[outside]) > 1e-2


@pytest.mark.parametrize(("kind", "side"), [("v1", (10, 6)), ("v2", (10, 6)), ("other", (24, 16))])
def test_so_it_is_on_unets_that_have_other_rates(kind, side):
    edit, local = Replace(PROMPTS[0], PROMPTS[1:]), LocalBlend(PROMPTS, [["cat"], ["dog"]])
    local.threshold = 0.8
    found = drawn(hub(kind), [CAT, DOG], Chain(edit, local), side=side, steps=2)
    sites = sites_of(hub(kind).model.diffusion_model)
    assert local._rate == (4 if kind == "other" else 2)
    assert {site.rate for site in local._store.sites.values()} == {local._rate}
    assert {site.place for site in local._store.sites.values()} <= {"down", "up"}
    assert len(local._store.sites) == sum(
        s.kind == "cross" and s.rate == local._rate and s.place != "mid" for s in sites
    )
    outside = ~local.mask(side).expand_as(found)
    assert outside.any() and torch.equal(found[1][outside[1]], found[0][outside[1]])


def test_an_edit_to_the_same_prompt_stays_none():
    prompts = [read(CAT), read(CAT)]
    edit = Chain(Replace(prompts[0], prompts[1:]), LocalBlend(prompts, [["cat"], ["cat"]]))
    source, target = drawn(hub("v1"), [CAT, CAT], edit, side=(8, 8), steps=2)
    assert torch.equal(source, target)


def test_a_second_walk_forgets_the_maps_of_the_first():
    options = {"side": (8, 8), "steps": 2}
    local = LocalBlend(PROMPTS, [["cat"], ["dog"]], threshold=0.7, start=0.0)
    first = drawn(hub("v1"), [CAT, DOG], local, **options)
    drawn(hub("v1"), [DOG, CAT], local, **options)
    assert torch.equal(drawn(hub("v1"), [CAT, DOG], local, **options), first)


@pytest.mark.parametrize(("start", "first"), [(0.2, 2), (0.0, 0), (0.59, 5), (1.0, 10)])
def test_it_begins_after_a_share_of_the_steps(start, first):
    made, x = blend(start=start, threshold=1.0), torch.randn(2, 4, 16, 24)
    made(looked_at([{(0, 0): 1.0}] * 2), SITE, Moment(0, 10), rows(2))
    changed = [not torch.equal(made.after_step(x, Moment(n, 10)), x) for n in range(10)]
    assert changed == [n >= first for n in range(10)]  # a threshold of 1 lets nothing through


# The mask


def test_the_mask_is_where_the_word_looks_and_a_place_more_on_each_side():
    made = blend()
    made(looked_at([{(1, 1): 1.0}] * 2), SITE, Moment(0, 10), rows(2))
    expected = torch.zeros(2, 1, 1, 4, 6, dtype=torch.bool)
    expected[..., 0:3, 0:3] = True
    wide = expected.repeat_interleave(4, -1).repeat_interleave(4, -2)
    assert torch.equal(made.mask((16, 24)), wide)
    assert torch.equal(made.mask((4, 6)), expected)


def test_the_mask_of_a_target_is_its_words_or_the_sources():
    made = blend()
    made(looked_at([{(0, 0): 1.0}, {(3, 5): 1.0}]), SITE, Moment(0, 10), rows(2))
    source, target = made.mask((4, 6))[:, 0, 0]
    assert source.nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert target.sum() == 8 and target[2:, 4:].all()


def test_the_threshold_is_a_share_of_each_maps_largest_value_which_it_must_exceed():
    places = [{(0, 0): 0.5, (0, 3): 0.14, (3, 0): 0.16}, {(3, 5): 0.005, (0, 5): 0.001}]
    made = blend()
    made(looked_at(places), SITE, Moment(0, 10), rows(2))
    source, target = made.mask((4, 6))[:, 0, 0]
    assert source[0, 0] and source[3, 0] and not source[0, 3]
    assert target[3, 5] and not target[0, 5]
    exactly = torch.tensor([[[[1.0, 0.5, 0.25]]]])
    assert marked(exactly, 0.5, (1, 3)).tolist() == [[[[True, False, False]]]]


def test_words_of_several_tokens_are_taken_together():
    chosen = selection([read("a samoyed"), read("a cat, a dog")], [["samoyed"], ["cat", "dog"]])
    assert [row.nonzero().flatten().tolist() for row in chosen] == [[2, 3], [2, 5]]
    maps = torch.rand(2, 3, 4, 6, LENGTH)
    summed = torch.stack([maps[0, ..., [2, 3]].sum(-1), maps[1, ..., [2, 5]].sum(-1)])
    assert torch.allclose(heat(maps, chosen), summed)
    assert bool((spread(maps, chosen) >= heat(maps, chosen)).all())


def test_japanese_words_are_blended_as_well():
    prompts = [read("赤い猫の写真"), read("赤い犬の写真")]
    made = blend([["猫"], ["犬"]], prompts)
    tokens = [prompt.positions(word) for prompt, word in zip(prompts, "猫犬", strict=True)]
    assert all(len(each) == 3 for each in tokens)
    made(looked_at([{(0, 0): 0.1}, {}], tokens=tokens), SITE, Moment(0, 10), rows(2))
    assert made.mask((4, 6))[1].sum() == 4


def test_maps_count_from_all_steps_and_layers_of_the_rate():
    made, other = blend(), Site("attn2b", "up", "cross", 1, 4, (4, 6))
    made(looked_at([{(0, 0): 1.0}] * 2), SITE, Moment(0, 10), rows(2))
    made(looked_at([{(0, 5): 0.5}] * 2), other, Moment(0, 10), rows(2))
    made(looked_at([{(3, 0): 0.7}] * 2), SITE, Moment(1, 10), rows(2))
    # Means of the steps, then of the layers: 1/4, 1/4 and 0.7/4.
    assert made.mask((4, 6))[0, 0, 0][[0, 0, 3], [0, 5, 0]].all()
    elsewhere = Site("c", "mid", "cross", 2, 4)
    assert not made.wants(elsewhere, Moment(0, 10))
    assert not made.wants(Site("d", "down", "self", 3, 4), Moment(0, 10))
    assert not made.wants(Site("e", "down", "cross", 4, 8), Moment(0, 10))
    assert made.wants(SITE, Moment(9, 10))


def test_subtracted_words_are_cut_out_and_no_place_around_them():
    made = blend(subtract=(["mat"], ["mat"]))
    probs = looked_at([{(1, 1): 1.0}] * 2) + looked_at(
        [{(1, 2): 1.0}, {(0, 0): 1.0}], tokens=[[5], [5]]
    )
    made(probs, SITE, Moment(0, 10), rows(2))
    source, target = made.mask((4, 6))[:, 0, 0]
    expected = torch.zeros(4, 6, dtype=torch.bool)
    expected[0:3, 0:3] = True
    expected[1, 2] = False
    assert torch.equal(source, expected)
    expected[0, 0] = False
    assert torch.equal(target, expected)


def test_subtracted_words_have_a_threshold_of_their_own():
    probs = looked_at([{(1, 1): 1.0}] * 2)
    probs = probs + looked_at([{(1, 2): 1.0, (0, 0): 0.5}] * 2, tokens=[[5], [5]])
    for threshold, cut in ((0.4, 2), (0.6, 1)):
        made = blend(subtract=(["mat"], ["mat"]), subtract_threshold=threshold)
        made(probs, SITE, Moment(0, 10), rows(2))
        assert made.mask((4, 6))[0].sum() == 9 - cut


def test_each_picture_has_a_mask_of_its_own():
    made = blend(pictures=2, start=0.0)
    places = [{(0, 0): 1.0}, {(3, 5): 1.0}] * 2
    probs = looked_at(places, prompts=4, tokens=[[2]] * 4)
    made(probs, SITE, Moment(0, 10), rows(4))
    mask = made.mask((4, 6))
    assert mask[1, 0, 0, 0, 0] and mask[1, 1, 0, 3, 5] and not mask[1, 0, 0, 3, 5]
    x = torch.randn(4, 3, 4, 6)
    found = made.after_step(x, Moment(0, 10))
    assert torch.equal(found[:2], x[:2])
    assert torch.equal(found[2], torch.where(mask[1, 0], x[2], x[0]))
    assert torch.equal(found[3], torch.where(mask[1, 1], x[3], x[1]))


# What cannot be


@pytest.mark.parametrize(
    ("words", "options", "found"),
    [
        ((["cow"], ["dog"]), {}, "'cow' is not in the prompt 'a cat on a mat'"),
        ((["cat"], ["dig"]), {}, "did you mean 'dog'"),
        ((["cat"], ["dog"]), {"subtract": (["mat"], ["mut"])}, "did you mean 'mat'"),
        ((["cat"],), {}, "words for 1 prompts were given; expected one list for each of the 2"),
        ((["cat"], ["dog"]), {"subtract": (["mat"],)}, "subtract for 1 prompts were given"),
    ],
)
def test_words_that_do_not_fit_the_prompts_are_refused_in_one_line(words, options, found):
    with pytest.raises(UserError, match=found) as error:
        LocalBlend(PROMPTS, words, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("prompts", "pictures"), [([CAT], 1), ([CAT, DOG, DOG], 1), ([CAT, DOG], 2)]
)
def test_a_batch_that_is_laid_out_otherwise_is_refused_in_one_line(prompts, pictures):
    local = LocalBlend(PROMPTS, [["cat"], ["dog"]])
    count = len(prompts) * pictures
    with pytest.raises(UserError, match=f"batch of {count} rows .* expected 2 rows") as error:
        drawn(hub("v1"), prompts, local, pictures=pictures, side=(8, 8), steps=5)
    assert "\n" not in str(error.value)


def test_a_rate_that_the_unet_has_not_is_refused_in_one_line_that_names_those_it_has():
    local = LocalBlend(PROMPTS, [["cat"], ["dog"]], rate=8, start=0.0)
    with pytest.raises(UserError, match="no cross maps 8 times smaller") as error:
        drawn(hub("v1"), [CAT, DOG], local, side=(8, 8), steps=2)
    assert "\n" not in str(error.value)


def test_a_step_outside_of_a_walk_is_refused():
    with pytest.raises(UserError, match="outside of a sampler's walk"):
        blend().after_step(torch.randn(2, 4, 8, 8), Moment())


def test_its_store_is_exact():
    made = blend()
    assert isinstance(made._store, AttentionStore) and made._store.dtype == torch.float32
