"""The machine agrees with Python's own unpickler on plain values, and knows no other."""

from __future__ import annotations

import gc
import io
import pickle
import random
from collections import OrderedDict

import pytest

from ldm import budgets
from ldm.checkpoint import pickle_machine
from ldm.checkpoint.pickle_machine import Ordered, PickleFault, Window, run
from ldm.checkpoint.unpickle import Unpickled


def scalar(chance):
    return chance.choice(
        [
            None,
            True,
            False,
            chance.randrange(-(2**70), 2**70),
            chance.randrange(300),
            -chance.random(),
            1e300,
            "a\nword\tin 日本語 \\ ",
            "",
            b"\x00\xffbytes",
            chance.randrange(2**33),
        ]
    )


def plain(chance, depth=4):
    if depth == 0 or chance.random() < 0.3:
        return scalar(chance)
    parts = [plain(chance, depth - 1) for _ in range(chance.randrange(5))]
    kind = chance.randrange(4)
    if kind == 0:
        return parts
    if kind == 1:
        return tuple(parts)
    if kind == 2:
        return {chance.choice([n, f"key {n}", (n, "x")]): part for n, part in enumerate(parts)}
    return [parts, parts, {"again": parts}]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("seed", range(15))
def test_plain_values_are_as_pickle_reads_them(seed, protocol):
    data = pickle.dumps(plain(random.Random(seed)), protocol=protocol)
    if b"_codecs" in data:  # bytes as a call, in protocols 0 to 2
        pytest.skip("bytes are no plain value in this protocol")
    assert run(io.BytesIO(data), Unpickled()) == pickle.loads(data)


@pytest.mark.parametrize("protocol", [4, 5])
def test_sets_and_shared_and_endless_containers_are_as_pickle_reads_them(protocol):
    shared, endless = [1, 2], []
    endless.append(endless)
    content = {"set": {1, "a"}, "frozen": frozenset({(1, 2)}), "x": shared, "y": shared}
    made = run(io.BytesIO(pickle.dumps(content, protocol)), Unpickled())
    assert made == content and made["x"] is made["y"]
    again = run(io.BytesIO(pickle.dumps(endless, protocol)), Unpickled())
    assert again[0] is again


@pytest.mark.parametrize("protocol", range(6))
def test_a_state_dict_keeps_its_order_and_its_modules_versions(protocol):
    state = OrderedDict(b=1, a=2)
    state._metadata = {"": {"version": 2}}
    made = run(io.BytesIO(pickle.dumps(state, protocol)), Unpickled())
    assert type(made) is Ordered
    assert list(made.items()) == [("b", 1), ("a", 2)]
    assert made._metadata == {"": {"version": 2}}


def test_a_pickle_ends_where_it_ends():
    first, second = pickle.dumps([1]), pickle.dumps({"a": 2})
    window = Window(first + second + b"rest", 0, 10**6)
    assert run(window, Unpickled()) == [1]
    assert run(window, Unpickled()) == {"a": 2}
    assert window.read(100) == b"rest"


@pytest.mark.parametrize("length", range(0, 60, 3))
def test_a_pickle_that_is_cut_is_damaged(length):
    data = pickle.dumps({"some": ["content", 1.5, (2, 3)], "more": "x" * 40})
    with pytest.raises(PickleFault, match="damaged"):
        run(Window(data, 0, length), Unpickled())


def test_budgets_are_kept(monkeypatch):
    monkeypatch.setattr(budgets, "PICKLE_OPCODES", 50)
    monkeypatch.setattr(budgets, "PICKLE_GLOBALS", 3)
    assert len(run(io.BytesIO(pickle.dumps([1] * 20)), Unpickled())) == 20
    with pytest.raises(PickleFault, match="more than 50 opcodes"):
        run(io.BytesIO(pickle.dumps([1] * 60)), Unpickled())
    with pytest.raises(PickleFault, match="more than 3 globals"):
        run(io.BytesIO(b"ccollections\nOrderedDict\n" * 4 + b"."), Unpickled())


def test_the_collector_is_as_it_was():
    for data in (b"N.", b"0."):
        for enabled in (True, False):
            (gc.enable if enabled else gc.disable)()
            try:
                run(io.BytesIO(data), Unpickled())
            except PickleFault:
                pass
            finally:
                was = gc.isenabled()
                gc.enable()
            assert was is enabled


def test_every_opcode_is_obeyed_or_refused_by_name():
    import pickletools

    names = {each.name for each in pickletools.opcodes}
    refused = {"PERSID", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"}
    assert names - set(pickle_machine._OBEY) == refused
