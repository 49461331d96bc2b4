"""Plans are chosen by what they take, the fastest that fits; and give way step by step."""

from __future__ import annotations

import itertools
import re

import pytest
import torch

from ldm.errors import UserError
from ldm.offload.budget import choose, describe, estimate, free_memory, measure, tighter
from ldm.offload.plan import POLICIES, PlanSettings

GIB = 2**30
ONE = {"height": 512, "width": 512, "rows": 2, "itemsize": 2}


@pytest.fixture(scope="module")
def sizes(v1):
    return measure(v1)


@pytest.mark.parametrize(
    "settings, reach",
    [
        (PlanSettings("resident", tiled_decode=True), 2.3),
        (PlanSettings("turbo"), 1.8),
        (PlanSettings("four-part"), 1.2),
        (PlanSettings("stream", tiled_decode=True), 0.5),
    ],
    ids=POLICIES,
)
def test_each_policy_stays_within_its_reach_for_one_picture(sizes, settings, reach):
    assert estimate(sizes, settings, **ONE) < reach * GIB


@pytest.mark.parametrize("side, pictures", list(itertools.product((256, 512, 1024, 2048), (1, 5))))
@pytest.mark.parametrize("rows, tiled", [(None, False), (1, True)])
def test_a_tighter_policy_never_takes_more(sizes, side, pictures, rows, tiled):
    demand = {"height": side, "width": side, "rows": 2 * pictures, "itemsize": 2}
    taken = [estimate(sizes, PlanSettings(policy, rows, tiled), **demand) for policy in POLICIES]
    assert taken == sorted(taken, reverse=True)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("tiled", [False, True])
def test_more_of_anything_takes_more(sizes, policy, tiled):
    settings = PlanSettings(policy, tiled_decode=tiled)
    base = estimate(sizes, settings, **ONE)
    for name, larger in {"height": 2048, "width": 2048, "rows": 20, "itemsize": 4}.items():
        assert estimate(sizes, settings, **{**ONE, name: larger}) > base, name
    assert estimate(sizes, settings, **ONE, autocast=False) <= base


def test_fewer_rows_and_strips_take_less(sizes):
    demand = {"height": 1024, "width": 1024, "rows": 10, "itemsize": 2}
    for policy in POLICIES:
        taken = [
            estimate(sizes, PlanSettings(policy, rows, tiled_decode=True), **demand)
            for rows in (None, 5, 2, 1)
        ]
        assert taken == sorted(taken, reverse=True) and taken[0] > taken[-1]
        whole = estimate(sizes, PlanSettings(policy, 1), **demand)
        assert whole >= taken[-1]
    assert whole > taken[-1]  # with streamed weights nothing else is as large as a decoded map


def test_layers_that_stay_take_their_bytes_and_no_more(sizes):
    base = estimate(sizes, PlanSettings("stream", tiled_decode=True), **ONE)
    small = next(layer for layer in sizes.layers if layer.name == "input_blocks.1.1")
    kept = PlanSettings("stream", tiled_decode=True, resident_blocks=frozenset({small.name}))
    assert estimate(sizes, kept, **ONE) - base <= small.nbytes


@pytest.mark.parametrize("turbo, unet_bs", [(False, None), (True, None), (False, 1), (False, 3)])
def test_the_fastest_plan_that_fits_is_chosen(sizes, turbo, unet_bs):
    demand = {"height": 512, "width": 512, "rows": 6, "itemsize": 2}
    before = len(POLICIES)
    for tenths in range(18 if turbo else 5, 40):
        budget = tenths * GIB // 10
        found = choose(sizes, **demand, budget=budget, turbo=turbo, unet_bs=unet_bs)
        assert estimate(sizes, found, **demand) <= budget
        assert unet_bs is None or (found.unet_rows or 6) <= unet_bs
        for policy in POLICIES[: POLICIES.index(found.policy)]:
            smallest = PlanSettings(policy, 1, tiled_decode=True)
            assert estimate(sizes, smallest, **demand) > budget
        # More memory never leads to a slower policy.
        assert POLICIES.index(found.policy) <= before
        before = POLICIES.index(found.policy)
    assert found.policy == "resident"


def test_rows_and_strips_give_way_only_where_they_must(sizes):
    demand = {"height": 512, "width": 512, "rows": 10, "itemsize": 2}
    plenty = choose(sizes, **demand, budget=10 * GIB)
    assert plenty == PlanSettings("resident")
    tight = choose(sizes, **demand, budget=int(2.5 * GIB))
    assert tight.policy == "resident" and tight.unet_rows is not None
    more = PlanSettings("resident", 2 * tight.unet_rows, tiled_decode=True)
    assert estimate(sizes, more, **demand) > 2.5 * GIB


def test_what_streaming_leaves_goes_to_layers_with_most_work_per_byte(sizes):
    found = choose(sizes, **ONE, budget=int(0.7 * GIB))
    assert found.policy == "stream"
    ratio = {layer.name: layer.flops(64 * 64) / layer.nbytes for layer in sizes.layers}
    level = {layer.name: layer.share for layer in sizes.layers}
    assert all(name in found.resident_blocks for name in level if level[name] == 1)
    left = set(ratio) - found.resident_blocks
    assert min(ratio[name] for name in found.resident_blocks if level[name]) > min(
        ratio[name] for name in left
    )
    for name in left:
        more = found.resident_blocks | {name}
        one_more = PlanSettings("stream", found.unet_rows, found.tiled_decode, more)
        assert estimate(sizes, one_more, **ONE) > 0.7 * GIB


def test_where_memory_is_no_concern_the_halves_take_turns(sizes):
    assert choose(sizes, **ONE, budget=None) == PlanSettings("four-part")
    assert choose(sizes, **ONE, budget=None, turbo=True) == PlanSettings("turbo")
    assert choose(sizes, **ONE, budget=None, unet_bs=1) == PlanSettings("four-part", 1)
    assert choose(sizes, **ONE, budget=None, unet_bs=2) == PlanSettings("four-part")


@pytest.mark.parametrize("turbo", [False, True])
def test_where_nothing_fits_the_smallest_plan_is_named(sizes, turbo):
    with pytest.raises(UserError) as refused:
        choose(sizes, **ONE, budget=GIB // 4, turbo=turbo)
    message = str(refused.value)
    assert "\n" not in message
    assert "512x512" in message and "2 rows" in message and "256 MiB" in message
    assert ("both halves resident" if turbo else "layers streamed") in message
    assert "1 row at a time" in message
    assert ("leave turbo out" in message) == turbo
    number, unit = re.search(r"takes ([\d.]+) (MiB|GiB)", message).groups()
    need = float(number) * (GIB if unit == "GiB" else 2**20)
    assert choose(sizes, **ONE, budget=int(1.03 * need), turbo=turbo).unet_rows == 1


def test_no_rows_at_a_time_are_refused(sizes):
    with pytest.raises(UserError, match="unet_bs 0 given; expected 1 row or more"):
        choose(sizes, **ONE, budget=None, unet_bs=0)


def walk_down(settings, **known) -> list[tuple[PlanSettings, str]]:
    steps = []
    while (step := tighter(settings, **known)) is not None:
        steps.append(step)
        settings = step[0]
        assert len(steps) < 50
    return steps


@pytest.mark.parametrize("rows", [None, 1, 2, 10])
def test_giving_way_ends_with_the_smallest_plan(sizes, rows):
    steps = walk_down(PlanSettings("resident"), rows=rows)
    last = steps[-1][0]
    assert (last.policy, last.tiled_decode) == ("stream", True)
    assert last.unet_rows == (None if rows == 1 else 1)
    assert len({words for _, words in steps}) == len(steps)
    demand = {**ONE, "rows": rows or 2}
    taken = [estimate(sizes, settings, **demand) for settings, _ in steps]
    assert taken == sorted(taken, reverse=True)


def test_rows_give_way_first_then_strips_then_policies():
    changes = [settings for settings, _ in walk_down(PlanSettings("turbo"), rows=4)]
    assert changes == [
        PlanSettings("turbo", 2),
        PlanSettings("turbo", 1),
        PlanSettings("turbo", 1, tiled_decode=True),
        PlanSettings("four-part", 1, tiled_decode=True),
        PlanSettings("stream", 1, tiled_decode=True),
    ]


def test_layers_that_stay_give_way_last():
    kept = PlanSettings("stream", 1, True, frozenset({"out"}))
    settings, words = tighter(kept)
    assert settings == PlanSettings("stream", 1, True)
    assert "no layer" in words
    assert tighter(settings) is None


def test_a_plan_is_described_in_one_line(sizes):
    words = describe(
        PlanSettings("four-part", tiled_decode=True),
        sizes,
        estimate=int(1.12 * GIB),
        available=int(5.6 * GIB),
        dtype=torch.float16,
    )
    assert words == "UNet fp16, halves swapped, VAE tiled, estimated 1.1 of 5.6 GiB"
    kept = frozenset({"input_blocks.1.0", "input_blocks.1.1"})
    words = describe(
        PlanSettings("stream", 1, resident_blocks=kept),
        sizes,
        estimate=GIB // 2,
        available=None,
        dtype=torch.float32,
    )
    assert words == (
        "UNet fp32, layers streamed, 2 of 47 kept (10 MiB), 1 row at a time, estimated 0.5 GiB"
    )


def test_the_memory_of_a_cpu_is_not_counted():
    assert free_memory(torch.device("cpu")) is None
