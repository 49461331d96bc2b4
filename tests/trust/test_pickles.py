"""Whatever a pickle says, it is read as its file's own numbers, or refused in one line."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from trust.guard import faults, guarded
from trust.opcodes import COUNT, MARK, STORED, checked, files, mapping, named, number, several
from trust.opcodes import called as call

from trust.opcodes import storage, tensor, text, value  # isort: skip

from ldm import budgets

HARMFUL = [
    *("os.system", "posix.system", "subprocess.Popen", "builtins.eval", "builtins.exec"),
    *("builtins.open", "builtins.__import__", "builtins.setattr", "importlib.import_module"),
    *("runpy.run_path", "shutil.rmtree", "torch.load", "torch.hub.load", "torch.jit.load"),
    *("torch.storage._load_from_bytes", "numpy.load", "ctypes.CDLL", "types.CodeType"),
    *("ldm.util.instantiate_from_config", "marshal.loads", "torch._C._TensorBase"),
    *("torch.from_file", "webbrowser.open", "pty.spawn", "functools.partial"),
]
# Ways to call what is named.
CALLS = {
    "REDUCE": lambda module, name: named(module, name) + several("x") + b"R",
    "INST": lambda module, name: MARK + text("x") + b"i" + f"{module}\n{name}\n".encode(),
    "OBJ": lambda module, name: MARK + named(module, name) + text("x") + b"o",
    "STACK_GLOBAL": lambda module, name: text(module) + text(name) + b"\x93" + several("x") + b"R",
    "by an attribute": lambda module, name: call(
        "builtins", "getattr", call("importlib", "import_module", module), name
    ),
}
# What a pickle may have made, to be written into.
TARGETS = {
    "tensor": tensor(),
    "parameter": call("torch._utils", "_rebuild_parameter", tensor(), True, {}),
    "subclass": call(
        "torch._tensor",
        "_rebuild_from_type_v2",
        named("torch._utils", "_rebuild_tensor_v2"),
        named("torch", "Tensor"),
        several(STORED, 0, (4,), (1,), False, {}),
        value({"x": 1}),
    ),
    "storage": STORED,
    "shape": call("torch", "Size", [2, 2]),
    "function": named("torch._utils", "_rebuild_tensor_v2"),
    "class of storages": named("torch", "FloatStorage"),
    "class": named("pathlib", "PurePosixPath"),
    "type of numbers": named("torch", "float16"),
}
STATE = several(STORED, 0, (4096,), (1,))
FILLS = {
    "BUILD": STATE + b"b",
    "BUILD a dict": value({"_cdata": 1, "shape": (9,), "__dict__": {}}) + b"b",
    "SETITEM": number(0) + number(7) + b"s",
    "SETITEMS": MARK + number(0) + number(7) + b"u",
    "APPEND": number(7) + b"a",
    "APPENDS": MARK + number(7) + b"e",
    "ADDITEMS": MARK + number(7) + b"\x90",
}
LAYOUTS = {
    "more than there is": ((COUNT + 1,), (1,), 0),
    "an offset beyond": ((4,), (1,), COUNT),
    "a step beyond": ((4,), (COUNT,), 0),
    "a negative step": ((4,), (-1,), 3),
    "a negative offset": ((4,), (1,), -4),
    "a negative side": ((-4,), (1,), 0),
    "two negative sides": ((-4, -4), (1, 1), 0),
    "sides beyond 64 bits": ((2**63, 2), (0, 0), 0),
    "a product beyond 64 bits": ((2**33, 2**33), (0, 0), 0),
    "a small thing repeated": ((10**9,), (0,), 0),
    "an offset that wraps": ((1,), (1,), 2**62),
    "steps that wrap": ((3, 3), (2**61, 2**61), 0),
    "more steps than sides": ((4,), (1, 1), 0),
    "fewer steps than sides": ((2, 2), (1,), 0),
    "a hundred axes": ((1,) * 100, (1,) * 100, 0),
    "sides that are no numbers": (("4",), (1,), 0),
    "sides that are fractions": ((4.0,), (1,), 0),
    "a side that is true": ((True,), (1,), 0),
    "a list": ([4], [1], 0),
    "nothing": (None, None, None),
    "a text": ("4", "1", 0),
    "an empty axis beside a long one": ((0, 2**61), (1, 1), 0),
}
STORAGES = {
    "not in the file": storage(key="9"),
    "longer than its bytes": storage(count=10**6),
    "shorter than its tensor": storage(count=2),
    "of larger numbers": storage("DoubleStorage"),
    "of a negative length": storage(count=-1),
    "of a length beyond 64 bits": storage(count=2**80),
    "of a length that is no number": storage(count="64"),
    "a part of another": storage("FloatStorage", "0", COUNT, several("1", 0, 4)),
    "of no kind": storage("NoStorage"),
    "of a harmful kind": several("storage", named("os", "system"), "0", "cpu", COUNT) + b"Q",
    "with a path as its name": storage(key="../../etc/passwd"),
    "with a number as its name": storage(key=0),
    "of another identity": several("module", named("somebody", "Net"), "net.py", "import os")
    + b"Q",
    "of a strange identity": several("device", "cuda:0") + b"Q",
    "of no identity": number(3) + b"Q",
    "a text": text("storage"),
    "a list": value([1.0, 2.0, 3.0, 4.0]),
    "a tensor": tensor(),
}
BIG = "x" * 100_000


def doubled(steps: int, opcode: bytes) -> bytes:
    """A value that contains itself of one step before twice: 2**steps to whoever walks it."""
    return value(("x",)) + b"".join(
        b"q" + bytes([n]) + b"0" + b"h" + bytes([n]) + b"h" + bytes([n]) + opcode
        for n in range(steps)
    )


def dict_of_dicts(width: int, depth: int) -> bytes:
    """A dict of one dict many times, of one dict many times, ..., of one tensor."""
    made = tensor()
    for level in range(depth):
        names = b"".join(text(f"k{n}") + b"h" + bytes([level]) for n in range(width))
        made = made + b"q" + bytes([level]) + b"0}" + MARK + names + b"u"
    return made


CLAIMS = {
    "nested tuples": b")" + b"\x85" * 500_000,
    "nested lists": b"]" * 100_000 + b"a" * 99_999,
    "nested tuples as a key": b"}" + b")" + b"\x85" * 500_000 + b"Ns",
    "doubled tuples": doubled(200, b"\x86"),
    "doubled tuples as a key": b"}" + doubled(200, b"\x86") + b"Ns",
    "doubled tuples in a set": b"\x8f" + MARK + doubled(200, b"\x86") + b"\x90",
    "doubled frozensets": b"}" + MARK + doubled(60, b"\x86") + b"\x91" + b"Ns",
    "dicts of dicts": dict_of_dicts(1000, 4),
    "a memo of 2**28 entries": b"]r" + struct.pack("<I", 2**28) + b"0}",
    "a memo's number of ten digits": b"]p9999999999\n0}",
    "a million names": (b"ccollections\nOrderedDict\n0" * 200_000) + b"}",
    "a million opcodes": b"N0" * 1_500_000 + b"}",
    "a million empty sets": b"\x8f" * (budgets.PICKLE_OPCODES + 10),
    "a great integer": b"\x8b" + struct.pack("<i", 10**6) + b"\1" * 10**6,
    "an integer of many digits": b"L" + b"9" * 100_000 + b"L\n",
    "an integer of 4000 digits": b"L" + b"9" * 4000 + b"L\n",
    "great integers as keys": b"}" + b"".join(number(n * (2**61 - 1)) + b"Ns" for n in range(9)),
    "one hash for many keys": b"}"
    + MARK
    + b"".join(number(2**64 + n * (2**61 - 1)) + b"N" for n in range(20_000))
    + b"u",
    "a long key": mapping(**{BIG: tensor()}),
    "long keys in dicts": mapping(a=mapping(**{BIG: mapping(**{BIG: tensor()})})),
    "bytes that are not there": b"\x8e" + struct.pack("<Q", 2**40),
    "a text that is not there": b"\x8d" + struct.pack("<Q", 2**62),
    "bytes beyond 64 bits": b"\x8e" + b"\xff" * 8,
    "a negative length": b"T" + struct.pack("<i", -5),
    "a frame that is not there": b"\x95" + struct.pack("<Q", 2**60) + mapping(w=tensor()),
    "a buffer from outside": b"\x97",
    "a buffer made read-only": tensor() + b"\x98",
    "an extension": b"\x82\x01",
    "another extension": b"\x84\x01\0\0\0",
    "a persistent text": b"Pstorage\n",
    "an unknown opcode": b"\xff",
    "an empty stack": b"0000",
    "a mark and nothing else": MARK,
    "marks without end": MARK * 100_000,
    "a tuple without a mark": b"t",
    "a value from an empty memo": b"h\x05",
    "a key without a value": b"}" + MARK + text("w") + b"u",
    "a list as a key": b"}]Ns",
    "a tensor as a key": b"}" + tensor() + b"Ns",
    "a call without a tuple": named("torch._utils", "_rebuild_tensor_v2") + b"NR",
    "a call of a number": number(3) + b")R",
    "a call of a tensor": tensor() + b")R",
    "an object of a tensor": tensor() + b")\x81",
    "a call with too much": call("torch._utils", "_rebuild_tensor_v2"),
    "an ordered dict of numbers": call("collections", "OrderedDict", [1, 2, 3]),
    "an ordered dict of triples": call("collections", "OrderedDict", [("a", 1, 2)]),
    "an ordered dict of itself": call("collections", "OrderedDict") + b"q\0(X\1\0\0\0ah\0u",
    "a tensor by an object's function": call(
        "torch._tensor", "_rebuild_from_type_v2", named("pathlib", "PurePosixPath"), None, (), None
    ),
    "quantised numbers": call("torch._utils", "_rebuild_tensor_v3", STORED, 0, (4,), (1,), False)
    + b"0"
    + call(
        *("torch._utils", "_rebuild_tensor_v3", STORED, 0, (4,), (1,), False, {}),
        named("torch", "qint8"),
    ),
    "many claims on one storage": mapping(**{f"w{n}": tensor((COUNT,)) for n in range(3000)}),
    "names in other scripts": mapping(
        **{"重み": tensor(), "\u202ekcab": tensor(), "\ud800": tensor()}
    ),
    "a step of great digits": mapping(state_dict=mapping(w=tensor()), global_step=number(256**60)),
}
GOOD = {
    "plain": tensor(),
    "a view": tensor((2, 2), (8, 1), 3),
    "repeated": tensor((16,), (0,), 5),
    "overlapping": tensor((4, 4), (1, 1)),
    "without an axis": tensor((), ()),
    "empty": tensor((0, 4), (4, 1)),
    "a parameter": TARGETS["parameter"],
    "a subclass": TARGETS["subclass"],
    "in other numbers": call(
        *("torch._utils", "_rebuild_tensor_v3", STORED, 2, (4,), (1,), False, {}),
        named("torch", "float16"),
    ),
}


def programs() -> Iterator[tuple[str, bytes]]:
    """Yield the name and the opcodes of every pickle."""
    for path in HARMFUL:
        for way, made in CALLS.items():
            module, _, name = path.rpartition(".")
            yield f"{way} {path}", mapping(w=tensor(), x=made(module, name))
    for target, made in TARGETS.items():
        for fill, opcodes in FILLS.items():
            yield f"{fill} on a {target}", mapping(w=made + opcodes, v=tensor())
    for name, layout in LAYOUTS.items():
        yield f"layout: {name}", mapping(w=tensor(*layout))
    for name, stored in STORAGES.items():
        yield f"storage: {name}", mapping(w=tensor(stored=stored))
        yield f"storage without a tensor: {name}", mapping(w=tensor(), x=stored)
    for name, opcodes in CLAIMS.items():
        yield f"claim: {name}", opcodes
        if len(opcodes) < 10_000:
            yield f"claim beside weights: {name}", mapping(w=tensor(), x=opcodes)
    for name, made in GOOD.items():
        yield f"good: {name}", mapping(state_dict=mapping(w=made), global_step=3)


def cases(folder: Path) -> Iterator[tuple[str, Callable]]:
    import ldm.checkpoint.io  # noqa: F401 - before the guard is up

    for number_, (name, opcodes) in enumerate(programs()):
        written = files(opcodes, folder, str(number_))
        if len(opcodes) > 10**6:
            written.pop("old")
        for kind, path in written.items():
            yield f"{name} ({kind})", partial(checked, path)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return guarded(__file__, tmp_path_factory.mktemp("pickles"))


def test_no_pickle_reads_beside_its_file_or_runs_or_writes_or_takes_long(results):
    assert len(results) >= 400
    assert not faults(results)


def test_good_pickles_are_read(results):
    good = {name: each for name, each in results.items() if name.startswith("good")}
    assert len(good) == 2 * len(GOOD)
    assert all(each.error == "" for each in good.values()), good


@pytest.mark.parametrize("way", CALLS)
def test_what_could_run_is_refused_by_its_name(results, way):
    for path in HARMFUL:
        for kind in ("zip", "old"):
            told = results[f"{way} {path} ({kind})"].text
            assert "asks to run" in told and "nothing was run" in told
            assert path in told or way == "by an attribute"


def test_nothing_is_written_into_what_a_pickle_did_not_make(results):
    for target in TARGETS:
        for fill in FILLS:
            assert "the opcode" in results[f"{fill} on a {target} (zip)"].text


BEYOND, SHAPE = "reaches beyond its data", "a tensor of impossible shape"
WORDS = {
    "layout: more than there is": BEYOND,
    "layout: an offset beyond": BEYOND,
    "layout: a step beyond": BEYOND,
    "layout: a negative step": SHAPE,
    "layout: a negative offset": SHAPE,
    "layout: a negative side": SHAPE,
    "layout: two negative sides": SHAPE,
    "layout: a side that is true": SHAPE,
    "layout: fewer steps than sides": SHAPE,
    "layout: a hundred axes": SHAPE,
    "layout: a small thing repeated": "a tensor of 4000000000 bytes in a file of",
    "storage: not in the file": "whose bytes are not in the file",
    "storage: longer than its bytes": "whose bytes are not in the file",
    "storage: of a negative length": "a storage of no known kind",
    "storage: of no kind": "NoStorage",
    "storage: a part of another": "part of another",
    "claim: a great integer": "an integer of more than",
    "claim: a million opcodes": "opcodes",
    "claim: a million names": "globals",
    "claim: a long key": "a key of 100000 characters",
    "claim: nested tuples as a key": "a tuple as a key",
    "claim: one hash for many keys": "a number of more than 64 bits as a key",
    "claim: dicts of dicts": "entries in dicts within dicts",
}


@pytest.mark.parametrize("name", WORDS)
def test_what_is_forged_is_refused_for_its_reason(results, name):
    told = results[f"{name} (zip)"]
    assert told.error == "UserError" and WORDS[name] in told.text, told
