"""A pickle never runs anything: it is read as tensors, stubbed, or refused by name."""

from __future__ import annotations

import argparse
import collections
import io
import os
import pathlib
import pickle
import struct
import sys
import zipfile

import numpy as np
import pytest
import torch

from ldm.checkpoint.element_types import ELEMENT_TYPES
from ldm.checkpoint.io import read_checkpoint
from ldm.checkpoint.pickle_machine import Inert, PickleFault
from ldm.checkpoint.unpickle import RefusedGlobal, Unpickled
from ldm.errors import UserError


class Calls:
    """Pickles as a call of ``function`` on ``args``."""

    def __init__(self, function, *args, state=None):
        self.parts = (function, args) if state is None else (function, args, state)

    def __reduce__(self):
        return self.parts


def opcodes(module, name, *args):
    """The bytes of a protocol-2 pickle that calls a global."""
    body = b"".join(pickle.dumps(a, protocol=2)[2:-1] for a in args)
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"(" + body + b"tR."


def read(data: bytes):
    made = Unpickled.read(io.BytesIO(data))
    return made.content, made.stubbed


def with_pickle(path, data: bytes):
    """A file of ``torch.save`` whose pickle is replaced by ``data``."""
    torch.save({"w": torch.zeros(2)}, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, data if name.endswith("data.pkl") else content)
    return path


DANGEROUS = [
    ("os", "system"),
    ("posix", "system"),
    ("nt", "system"),
    ("subprocess", "Popen"),
    ("builtins", "eval"),
    ("builtins", "exec"),
    ("builtins", "getattr"),
    ("builtins", "setattr"),
    ("builtins", "__import__"),
    ("builtins", "open"),
    ("builtins", "type"),
    ("__builtin__", "apply"),
    ("importlib", "import_module"),
    ("runpy", "run_path"),
    ("operator", "attrgetter"),
    ("functools", "partial"),
    ("types", "CodeType"),
    ("marshal", "loads"),
    ("pickle", "loads"),
    ("copyreg", "add_extension"),
    ("torch", "load"),
    ("torch", "ops"),
    ("torch.hub", "load"),
    ("torch.storage", "_load_from_bytes"),
    ("torch._utils", "_rebuild_device_tensor_from_numpy"),
    ("torch.nn.modules.linear", "Linear"),
    ("torch.serialization", "load"),
    ("torch.jit", "load"),
    ("numpy.testing._private.utils", "runstring"),
    ("numpy", "load"),
    ("numpy.f2py.diagnose", "run_command"),
    ("pathlib", "os.system"),
    ("pathlib", "Path.unlink"),
    ("collections", "namedtuple"),
    ("collections", "OrderedDict.fromkeys"),
    ("omegaconf", "OmegaConf.create"),
    ("pytorch_lightning.utilities.cloud_io", "load"),
    ("pytorch_lightning.callbacks.model_checkpoint", "os.system"),
    ("lightning_evil", "Callback"),
    ("ldm.util", "instantiate_from_config"),
    ("typing", "sys"),
]


@pytest.mark.parametrize(("module", "name"), DANGEROUS)
def test_a_dangerous_global_is_refused_by_name(module, name):
    with pytest.raises(RefusedGlobal) as refusal:
        read(opcodes(module, name, "echo"))
    assert refusal.value.name == f"{module}.{name}"


@pytest.mark.parametrize("name", ["sys\ntem", "sys\ttem", "\x1b[2J", "x" * 10_000, "a b"])
def test_a_name_that_is_no_name_is_quoted(name):
    data = b"".join(b"X" + struct.pack("<I", len(n)) + n.encode() for n in ("os", name))
    with pytest.raises(RefusedGlobal) as refusal:
        read(b"\x80\x04" + data + b"\x93.")
    shown = refusal.value.name
    assert shown.startswith("'os.") and shown.isprintable() and len(shown) < 300


@pytest.mark.parametrize("protocol", range(1, 6))
def test_a_malicious_pickle_is_refused_and_not_run_in_every_protocol(protocol, tmp_path):
    witness = tmp_path / "ran"
    evil = {"state_dict": {"w": torch.zeros(1)}, "x": Calls(os.system, f"touch {witness}")}
    path = tmp_path / "evil.ckpt"
    torch.save(evil, path, pickle_protocol=protocol)
    with pytest.raises(UserError, match=r"asks to run (posix|nt)\.system") as refusal:
        read_checkpoint(path)
    assert not witness.exists()
    assert "\n" not in str(refusal.value)


def test_a_malicious_pickle_of_the_old_format_is_refused_and_not_run(tmp_path):
    witness = tmp_path / "ran"
    path = tmp_path / "evil.pt"
    evil = {"w": torch.zeros(1), "x": Calls(os.system, f"touch {witness}")}
    torch.save(evil, path, _use_new_zipfile_serialization=False)
    with pytest.raises(UserError, match="system"):
        read_checkpoint(path)
    assert not witness.exists()


def test_a_chain_of_attribute_look_ups_is_refused_at_its_first_link(tmp_path):
    chain = Calls(getattr, Calls(getattr, os, "path"), "join")
    chain.parts[1][0].parts = (getattr, (Calls(__import__, "os"), "system"))
    with pytest.raises(RefusedGlobal, match=r"builtins\.getattr"):
        read(pickle.dumps(chain))


def test_danger_deep_inside_training_state_is_found(model_checkpoint, tmp_path):
    witness = tmp_path / "ran"
    nested = {"a": [{"b": (1, {model_checkpoint: Calls(os.system, f"touch {witness}")})}]}
    torch.save({"state_dict": {"w": torch.zeros(1)}, "callbacks": nested}, tmp_path / "e.ckpt")
    with pytest.raises(UserError, match="system"):
        read_checkpoint(tmp_path / "e.ckpt")
    assert not witness.exists()


def test_no_module_is_imported_for_a_stub():
    sys.modules.pop("omegaconf.nonsense", None)
    stub, stubbed = read(opcodes("omegaconf.nonsense", "Config", "content", {"a": 1}))
    assert isinstance(stub, Inert)
    assert stubbed == {"omegaconf.nonsense.Config"}
    assert "omegaconf.nonsense" not in sys.modules


@pytest.mark.parametrize(
    "effect",
    [
        b"}X\x01\x00\x00\x00xK\x01sb",
        b"N}X\x01\x00\x00\x00xK\x01s\x86b",
        b"(K\x01K\x02K\x03K\x04u",
        b"K\x01K\x02s",
        b"(K\x01K\x02e",
        b"K\x01a",
    ],
    ids=["BUILD", "BUILD with slots", "SETITEMS", "SETITEM", "APPENDS", "APPEND"],
)
def test_a_stub_swallows_state_items_and_attributes(effect):
    stub, _ = read(b"\x80\x02comegaconf.dictconfig\nDictConfig\n)\x81" + effect + b".")
    assert isinstance(stub, Inert)
    assert not hasattr(stub, "x")


FILLED = {
    "BUILD": b"}X\x01\x00\x00\x00xK\x01sb",
    "SETITEM": b"X\x01\x00\x00\x00xK\x01s",
    "SETITEMS": b"(X\x01\x00\x00\x00xK\x01u",
    "APPEND": b"K\x01a",
    "APPENDS": b"(K\x01e",
    "ADDITEMS": b"(K\x01\x90",
}
TARGETS = {
    "a function of the loader": b"ctorch._utils\n_rebuild_tensor_v2\n",
    "a type of numbers": b"ctorch\nfloat32\n",
    "a class": b"cpathlib\nPurePosixPath\n",
    "a class of storages": b"ctorch\nFloatStorage\n",
    "a tuple": b"K\x01\x85",
    "a text": b"X\x01\x00\x00\x00x",
    "a number": b"K\x05",
    "nothing": b"N",
}


@pytest.mark.parametrize("opcode", FILLED)
@pytest.mark.parametrize("target", TARGETS)
def test_only_containers_that_a_pickle_made_can_be_filled(opcode, target):
    with pytest.raises(PickleFault, match=f"the opcode {opcode} on a"):
        read(b"\x80\x04" + TARGETS[target] + FILLED[opcode] + b".")


@pytest.mark.parametrize(("made", "opcode"), [(b"}", "BUILD"), (b"]", "SETITEM"), (b"}", "APPEND")])
def test_a_container_takes_what_is_its_own(made, opcode):
    with pytest.raises(PickleFault, match=f"the opcode {opcode} on a"):
        read(b"\x80\x04" + made + FILLED[opcode] + b".")


def test_numpy_scalars_are_stubbed_and_numpy_objects_never_come_to_life():
    scalar, _ = read(pickle.dumps(np.float64(1.5), protocol=2))
    assert isinstance(scalar, Inert)
    objects = np.array([Calls(os.getcwd)], dtype=object)
    with pytest.raises(RefusedGlobal, match="getcwd"):
        read(pickle.dumps(objects, protocol=2))
    plain, stubbed = read(pickle.dumps(np.array(["a", None], dtype=object), protocol=2))
    assert isinstance(plain, Inert)
    assert any("_reconstruct" in name for name in stubbed)


@pytest.mark.parametrize(
    "ballast",
    [
        argparse.Namespace(a=1),
        pathlib.PurePosixPath("/x"),
        collections.defaultdict(list, {"a": [1]}),
        collections.Counter("aab"),
        np.float32(2.0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_ordinary_training_ballast_is_stubbed(ballast, tmp_path):
    torch.save(
        {"state_dict": {"w": torch.ones(3)}, "hyper_parameters": ballast}, tmp_path / "a.ckpt"
    )
    checkpoint = read_checkpoint(tmp_path / "a.ckpt")
    assert torch.equal(checkpoint.tensors["w"], torch.ones(3))


def storage_pickle(size, stride, offset, numel=2, *, old=False):
    """The pickle of ``{"path": a class past weights_only, "w": a tensor over record 0}``."""

    def number(n):
        return b"J" + struct.pack("<i", n)

    def text(word):
        return b"X" + struct.pack("<I", len(word)) + word.encode()

    def several(*items):
        return b"(" + b"".join(items) + b"t"

    storage_type = b"ctorch\nFloatStorage\n"
    view = [b"N"] if old else []
    record = (text("storage"), storage_type, text("0"), text("cpu"), number(numel), *view)
    storage = several(*record) + b"Q"
    shape = several(*map(number, size)), several(*map(number, stride))
    hooks = b"ccollections\nOrderedDict\n)R"
    call = several(storage, number(offset), *shape, b"\x89", hooks) + b"R"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n" + call
    path = opcodes("pathlib", "PurePosixPath", "x")[2:-1]
    return b"\x80\x02}(" + text("path") + path + text("w") + tensor + b"u."


def old_file(path, data: bytes):
    """A file as torch wrote before 1.6, of one storage of two numbers."""
    head = [torch.serialization.MAGIC_NUMBER, torch.serialization.PROTOCOL_VERSION, {}]
    parts = [pickle.dumps(part, protocol=2) for part in head]
    parts += [data, pickle.dumps(["0"], protocol=2), struct.pack("<qff", 2, 0.0, 0.0)]
    path.write_bytes(b"".join(parts))
    return path


def forged(tmp_path, shape, old):
    write = old_file if old else with_pickle
    return write(tmp_path / "a.pt", storage_pickle(*shape, old=old))


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old"])
def test_a_hand_written_pickle_within_its_data_loads(old, tmp_path):
    checkpoint = read_checkpoint(forged(tmp_path, ((2,), (1,), 0), old))
    assert torch.equal(checkpoint.tensors["w"], torch.zeros(2))
    assert checkpoint.stubbed == ("pathlib.PurePosixPath",)


# torch would enlarge the storages of an old file by whatever lies in memory.
@pytest.mark.parametrize("old", [False, True], ids=["zip", "old"])
@pytest.mark.parametrize(
    "shape",
    [((3,), (1,), 0), ((2,), (1,), 1), ((2,), (9,), 0), ((1,), (1,), -1), ((-1,), (1,), 0)],
)
def test_a_tensor_that_reaches_beyond_its_data_is_refused(shape, old, tmp_path):
    with pytest.raises(UserError, match=r"damaged \(a tensor"):
        read_checkpoint(forged(tmp_path, shape, old))


@pytest.mark.parametrize("seed", range(40))
def test_damaged_pickles_fail_in_one_clear_line(seed, model_checkpoint, tmp_path):
    path = tmp_path / "a.ckpt"
    content = {
        "state_dict": collections.OrderedDict(
            a=torch.arange(6.0).view(2, 3), b=torch.ones(2).half()
        ),
        "callbacks": {model_checkpoint: {"best": np.float64(1)}},
    }
    torch.save(content, path)
    with zipfile.ZipFile(path) as archive:
        data = bytearray(
            archive.read(next(n for n in archive.namelist() if n.endswith("data.pkl")))
        )
    rng = np.random.default_rng(seed)
    for position in rng.integers(0, len(data), size=4):
        data[position] = rng.integers(256)
    torch.save({"a": torch.zeros(6), "b": torch.zeros(2).half()}, path)
    with_pickle(path, bytes(data))
    try:
        tensors = read_checkpoint(path).tensors
    except UserError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 500
    else:
        assert all(isinstance(value, torch.Tensor) for value in tensors.values())


@pytest.mark.filterwarnings("ignore:.*support is experimental")
def test_every_element_type_of_torch_is_known():
    there = {name: each for name, each in vars(torch).items() if isinstance(each, torch.dtype)}
    assert there.keys() <= ELEMENT_TYPES.keys()
    for name, size in ELEMENT_TYPES.items():
        if size is not None and name in there:
            assert torch.empty(3, dtype=there[name]).nbytes == 3 * size
