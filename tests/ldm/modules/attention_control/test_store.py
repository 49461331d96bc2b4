"""The store's mean is the plain mean of what the layers computed, of the sites and steps asked."""

from __future__ import annotations

import pytest
import torch
from edited_walks import drawn, hub, largest, read

from ldm.errors import UserError
from ldm.modules.attention_control.chain import Chain
from ldm.modules.attention_control.controller import Controller
from ldm.modules.attention_control.moments import Moment, Row
from ldm.modules.attention_control.seam import control_attention
from ldm.modules.attention_control.sites import Site, sites_of
from ldm.modules.attention_control.store import AttentionStore
from ldm.offload.plan import PlanSettings, StagePlan

PROMPTS = ["a cat on a mat", "赤い自動車"]
SMALL = {"side": (8, 8), "steps": 5}
PATH = "input_blocks.3.1.transformer_blocks.0.attn2"  # of the narrow v1 UNet, at half the sides
SITE = Site("a", "down", "cross", 0, 2, (2, 3))


class Everything(Controller):
    """Keeps every map of the conditional rows, by layer, step and picture."""

    def begin(self, sites):
        self.kept = {}

    def __call__(self, probs, site, moment, rows):
        for maps, row in zip(probs, rows, strict=True):
            if row.part == "cond":
                of_layer = self.kept.setdefault(site.path, {}).setdefault(row.picture, {})
                of_layer.setdefault(moment.number, []).append(maps.clone())

    def mean(self, path, every=1):
        """Return the plain mean, (P, heads, N, M)."""
        pictures = [self.kept[path][picture] for picture in sorted(self.kept[path])]
        chosen = [
            [maps for n, calls in steps.items() if n % every == 0 for maps in calls]
            for steps in pictures
        ]
        return torch.stack([torch.stack(maps).double().mean(0) for maps in chosen])


def stored(store, kind="v1", **options):
    """Draw with a store in charge; return beside it what it has seen."""
    everything = Everything()
    drawn(hub(kind), PROMPTS, Chain(everything, store), **{**SMALL, **options})
    return everything


# The mean


@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("sampler", ["ddim", "heun"])
def test_the_mean_is_the_plain_mean_of_every_kth_step(sampler, every):
    store = AttentionStore(every=every, dtype=torch.float32)
    everything = stored(store, sampler=sampler)
    counts = {len(everything.kept[PATH][0][n]) for n in range(4)}
    assert counts == {2 if sampler == "heun" else 1}
    for path in store.sites:
        assert largest(store.mean(path) - everything.mean(path, every)) < 1e-6


def test_in_half_precision_it_is_the_plain_mean_within_a_rounding_for_each_step():
    generator, steps = torch.Generator().manual_seed(0), 50
    maps = torch.randn(steps, 4, 6, 77, generator=generator).softmax(-1)
    store = AttentionStore()
    for number, each in enumerate(maps):
        store(each[None], SITE, Moment(number, steps), [Row("cond", 0)])
    found, expected = store.mean("a"), maps.double().mean(0)
    assert found.dtype == torch.float16 and found.device.type == "cpu"
    error = (found[0].double() - expected).abs()
    assert bool((error < 0.01 * expected + 1e-6).all())


def test_heads_are_kept_or_their_mean_is():
    store, heads = AttentionStore(keep_heads=False, dtype=torch.float32), AttentionStore()
    everything = stored(Chain(store, heads))
    assert heads.mean(PATH).shape == (2, 2, 16, 77) and store.mean(PATH).shape == (2, 1, 16, 77)
    assert largest(store.mean(PATH) - everything.mean(PATH).mean(1, keepdim=True)) < 1e-6


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_rows_in_parts_have_the_same_means(rows):
    whole, parts = AttentionStore(dtype=torch.float32), AttentionStore(dtype=torch.float32)
    stored(whole)
    plan = StagePlan(hub("v1"), PlanSettings("turbo", unet_rows=rows), torch.device("cpu")).attach()
    try:
        stored(parts)
    finally:
        plan.detach()
    assert list(parts.sites) == list(whole.sites)
    for path in whole.sites:
        assert largest(parts.mean(path) - whole.mean(path)) < 1e-5


def test_columns_have_the_same_means():
    whole, columns = AttentionStore(dtype=torch.float32), AttentionStore(dtype=torch.float32)
    stored(whole, pictures=2)
    stored(columns, pictures=2, columns=True)
    assert whole.mean(PATH).shape == (4, 2, 16, 77)
    assert largest(columns.mean(PATH) - whole.mean(PATH)) < 1e-5


def test_the_pictures_stay_as_they_are():
    plain = drawn(hub("v1"), PROMPTS, **SMALL)
    assert torch.equal(drawn(hub("v1"), PROMPTS, AttentionStore(least_rate=1), **SMALL), plain)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_each_prompt_has_its_own_maps_with_guidance_and_without(scale):
    store = AttentionStore(dtype=torch.float32)
    stored(store, scale=scale)
    for number, text in enumerate(PROMPTS):
        alone = AttentionStore(dtype=torch.float32)
        drawn(hub("v1"), [text], alone, **{**SMALL, "scale": scale})
        assert largest(store.mean(PATH)[number] - alone.mean(PATH)[0]) < 1e-5


# Beginning anew


def test_a_second_walk_begins_anew_also_with_fewer_pictures():
    store = AttentionStore()
    with control_attention(hub("v1"), store):
        pass
    stored(store, pictures=2)
    assert len(store.mean(PATH)) == 4
    stored(store, side=(8, 12))
    twice = store.mean(PATH)
    once = AttentionStore()
    stored(once, side=(8, 12))
    assert torch.equal(twice, once.mean(PATH)) and len(twice) == 2


def test_two_walks_inside_one_block_do_not_mix():
    store, once = AttentionStore(), AttentionStore()
    model = hub("v1")
    stored(once)
    options = {"sampler": "ddim", **SMALL}
    with control_attention(model, store):
        drawn(model, [PROMPTS[1], PROMPTS[0]], **options)
        drawn(model, PROMPTS, **options)
    assert torch.equal(store.mean(PATH), once.mean(PATH))


# Sites


def test_the_sites_are_the_published_ones_by_default():
    store, sites = AttentionStore(), list(sites_of(hub().model.diffusion_model))
    assert [s for s in sites if store.wants(s, Moment(0, 5))] == [s for s in sites if s.rate >= 2]
    assert {s.rate for s in sites} == {1, 2, 4}


def test_sites_are_chosen_by_kind_place_and_rate():
    store = AttentionStore(["cross"], ["mid", "up"], least_rate=1)
    drawn(hub(), PROMPTS, store, side=(8, 8), steps=1)
    expected = [
        site.path
        for site in sites_of(hub().model.diffusion_model)
        if site.kind == "cross" and site.place in ("mid", "up")
    ]
    assert list(store.sites) == expected and len(expected) == 7


def test_steps_between_are_not_looked_at():
    store = AttentionStore(every=4)
    assert [n for n in range(10) if store.wants(SITE, Moment(n, 10))] == [0, 4, 8]
    assert store.wants(SITE, Moment())  # a call outside of a walk counts as a first step


# Maps of one resolution


@pytest.mark.parametrize(("side", "shape"), [((8, 8), (4, 4)), ((6, 10), (3, 5)), ((7, 9), (4, 5))])
def test_maps_of_any_sides_are_averaged_over_layers_and_heads(side, shape):
    store = AttentionStore(dtype=torch.float32)
    with torch.no_grad(), control_attention(hub("v1"), store) as control:
        x, context = torch.randn(2, 4, *side), torch.randn(2, 77, 32)
        down = hub("v1").model.diffusion_model.input_blocks
        emb = torch.zeros(2, 128)
        for block in down:
            x = block(x, emb, context)
        assert {each.side for each in store.sites.values()} == {shape}
        assert control.moment == Moment()
    (path,) = [site.path for site in store.sites.values() if site.kind == "cross"]
    found = store.aggregate(2)
    assert found.shape == (2, *shape, 77) and found.dtype == torch.float32
    assert torch.equal(found.flatten(1, 2), store.mean(path).mean(1))


def test_an_aggregate_takes_the_places_and_kind_asked_for():
    store = AttentionStore(dtype=torch.float32)
    stored(store, side=(8, 12))
    paths = {
        place: [s.path for s in store.sites.values() if s.place == place and s.kind == "cross"]
        for place in ("down", "mid", "up")
    }
    assert [len(each) for each in paths.values()] == [1, 1, 2]
    layers = torch.stack([store.mean(p).mean(1) for p in paths["down"] + paths["up"]])
    assert torch.allclose(store.aggregate(2).flatten(1, 2), layers.mean(0))
    middle = store.aggregate(2, places=("mid",))
    assert torch.allclose(middle.flatten(1, 2), store.mean(paths["mid"][0]).mean(1))
    assert store.aggregate(2, kind="self").shape == (2, 4, 6, 24)
    assert torch.allclose(middle.sum(-1), torch.ones(2, 4, 6), atol=1e-5)


# What cannot be


def test_what_was_not_kept_is_refused_in_one_line_that_names_what_was():
    store = AttentionStore(["cross"])
    with pytest.raises(UserError, match="no maps of 'x' are kept; expected one of none"):
        store.mean("x")
    store(torch.rand(1, 2, 6, 77), SITE, Moment(0, 1), [Row("cond", 0)])
    with pytest.raises(UserError, match="expected one of a;"):
        store.mean("x")
    for ask in ({"rate": 4}, {"rate": 2, "kind": "self"}, {"rate": 2, "places": ("mid",)}):
        with pytest.raises(UserError, match=r"expected one of \[\(2, 'cross', 'down'\)\]") as error:
            store.aggregate(**ask)
        assert "\n" not in str(error.value)


def test_a_distance_of_no_step_is_refused():
    with pytest.raises(UserError, match="every 0 was given; expected 1 or more"):
        AttentionStore(every=0)


def test_words_are_found_where_they_are_looked_at():
    """A map's columns are the tokens: a prompt's words and their maps belong together."""
    store = AttentionStore(dtype=torch.float32)
    stored(store)
    (cat,) = read(PROMPTS[0]).positions("cat")
    other = AttentionStore(dtype=torch.float32)
    drawn(hub("v1"), ["a dog on a mat"], other, side=(8, 8), steps=1)
    first = AttentionStore(dtype=torch.float32)
    drawn(hub("v1"), PROMPTS[:1], first, side=(8, 8), steps=1)
    difference = (other.mean(PATH) - first.mean(PATH)).abs().mean((0, 1, 2))
    assert int(difference.argmax()) == cat
