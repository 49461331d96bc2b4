"""Controllers in a chain work on what those before them made."""

from __future__ import annotations

import torch
from edited_walks import drawn, hub, largest, read

from ldm.modules.attention_control.chain import Chain
from ldm.modules.attention_control.controller import Controller
from ldm.modules.attention_control.moments import Moment, Row
from ldm.modules.attention_control.replace import Replace
from ldm.modules.attention_control.reweight import Reweight
from ldm.modules.attention_control.sites import Site
from ldm.modules.attention_control.store import AttentionStore

CROSS, SELF = Site("attn2", "down", "cross", 0, 2), Site("attn1", "down", "self", 1, 2)
CAT, DOG = "a cat on a mat", "a dog on a mat"
SMALL = {"side": (8, 8), "steps": 2}


class Adds(Controller):
    """Adds a number, to maps of one kind, and writes down what is asked of it."""

    def __init__(self, number, kind="cross"):
        self.number, self.kind, self.seen = number, kind, []

    def begin(self, sites):
        self.seen.append(("begin", len(sites)))

    def wants(self, site, moment):
        return site.kind == self.kind

    def __call__(self, probs, site, moment, rows):
        self.seen.append((site.path, float(probs.mean())))
        return probs + self.number

    def before_step(self, x, moment, predict):
        return 2 * x + self.number

    def after_step(self, x, moment):
        return 3 * x + self.number


class Looks(Controller):
    """Changes nothing, and writes down what it is given."""

    def __init__(self):
        self.seen = []

    def __call__(self, probs, site, moment, rows):
        self.seen.append((site.path, float(probs.mean())))


ROWS = [Row("cond", 0)]


def test_each_is_given_what_the_one_before_made():
    first, second, last = Adds(1.0), Looks(), Adds(10.0)
    found = Chain(first, second, last)(torch.zeros(1, 2, 3, 4), CROSS, Moment(0, 1), ROWS)
    assert bool((found == 11).all())
    assert [each.seen for each in (first, second, last)] == [
        [("attn2", 0.0)], [("attn2", 1.0)], [("attn2", 1.0)],
    ]  # fmt: skip


def test_it_wants_what_any_wants_and_asks_only_those_who_do():
    cross, self_ = Adds(1.0), Adds(2.0, "self")
    chain = Chain(cross, self_)
    assert chain.wants(CROSS, Moment()) and chain.wants(SELF, Moment())
    assert not Chain(cross).wants(SELF, Moment()) and not Chain().wants(SELF, Moment())
    assert bool((chain(torch.zeros(1, 2, 3, 4), SELF, Moment(0, 1), ROWS) == 2).all())
    assert cross.seen == []


def test_all_begin_and_steps_pass_through_in_order():
    first, second = Adds(1.0), Adds(5.0)
    chain = Chain(first, second)
    chain.begin([CROSS, SELF])
    assert first.seen == second.seen == [("begin", 2)]
    x = torch.ones(1, 4, 2, 2)
    assert bool((chain.before_step(x, Moment(0, 1), None) == 2 * (2 * 1 + 1) + 5).all())
    assert bool((chain.after_step(x, Moment(0, 1)) == 3 * (3 * 1 + 1) + 5).all())
    assert bool((x == 1).all())


def test_nobody_in_charge_and_those_who_change_nothing_leave_every_bit():
    plain = drawn(hub("v1"), [CAT, DOG], **SMALL)
    for chain in (Chain(), Chain(AttentionStore(), Chain(AttentionStore(), Looks()))):
        assert torch.equal(drawn(hub("v1"), [CAT, DOG], chain, **SMALL), plain)


def test_a_store_behind_an_edit_sees_the_edited_maps_and_one_before_it_the_models():
    before, behind = AttentionStore(["cross"]), AttentionStore(["cross"])
    edit = Replace(read(CAT), [read(DOG)], cross_steps=1.0)
    drawn(hub("v1"), [CAT, DOG], Chain(before, edit, behind), **SMALL)
    for path in behind.sites:
        source, target = behind.mean(path)
        assert torch.equal(source, target)
    assert any(largest(before.mean(path)[0] - before.mean(path)[1]) > 1e-2 for path in before.sites)


def test_weights_chained_behind_an_edit_are_weights_on_top_of_it():
    """Reweight takes the source's row as it is and multiplies; a prior says the same in one."""
    source, targets = read(CAT), [read(DOG)]
    edit = Replace(source, targets, self_steps=1.0, cross_steps=1.0)
    weights = {"weights": {"mat": 3}, "self_steps": 1.0, "cross_steps": 1.0}
    chained = Chain(edit, Reweight(source, targets, **weights))
    together = Reweight(source, targets, prior=edit, **weights)
    pictures = [drawn(hub("v1"), [CAT, DOG], each, **SMALL) for each in (chained, together)]
    assert largest(pictures[0] - pictures[1]) < 1e-3
