"""Ballast of training checkpoints is passed over; what could run code is refused, by name."""

from __future__ import annotations

import functools
import io
import operator
import os
import pickle
import subprocess
import sys

import pytest
import torch
from pickled_names import NEW_NAMES, PROTOCOLS, corpus, names_of

from ldm.checkpoint.element_types import ELEMENT_TYPES
from ldm.checkpoint.io import read_checkpoint
from ldm.checkpoint.known_names import may_be_made, may_be_named, python3_name
from ldm.checkpoint.pickle_machine import Inert
from ldm.checkpoint.unpickle import REBUILDERS, STAND_INS, Named, RefusedGlobal, Unpickled
from ldm.errors import UserError

WEIGHT = torch.arange(3.0)
# Of numpy about its matrix, and of Lightning about torch.
pytestmark = [
    pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec"),
]


@pytest.fixture(scope="module")
def objects():
    return dict(corpus())


def read(data: bytes):
    return Unpickled.read(io.BytesIO(data)).content


def test_the_table_knows_every_name_that_the_installed_packages_pickle(objects):
    handled = {*REBUILDERS, *STAND_INS, *(("torch", name) for name in ELEMENT_TYPES)}
    unknown = {
        f"{module}.{name}"
        for module, names in names_of(objects.values()).items()
        for name in names
        if (module, name) not in handled
        and not may_be_named(module, name)
        and not name.endswith("Storage")
    }
    assert unknown == set()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old format"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_checkpoint_is_read_around_all_ballast_at_every_protocol(
    protocol, zipped, objects, tmp_path
):
    path = tmp_path / "last.ckpt"
    for name, value in objects.items():
        content = {"state_dict": {"w": WEIGHT}, "hyper_parameters": {"given": value}}
        torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
        assert torch.equal(read_checkpoint(path).tensors["w"], WEIGHT), name


# What numpy 1, old OmegaConf, Python 2 and others write that are not installed here.
FOREIGN = [
    ("numpy.core.multiarray", "scalar"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "complex256"),
    ("numpy", "bool_"),
    ("pathlib._local", "PosixPath"),
    ("omegaconf.listconfig", "ListConfig"),
    ("omegaconf.base", "ContainerMetadata"),
    ("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint"),
    ("lightning.pytorch.utilities.parsing", "AttributeDict"),
    ("lightning_utilities.core.enums", "StrEnum"),
    ("pytorch_lightning.utilities.argparse", "_gpus_arg_default"),
    ("exceptions", "ValueError"),
    ("__builtin__", "long"),
    ("__builtin__", "unicode"),
    ("__builtin__", "xrange"),
    ("__builtin__", "set"),
    ("copy_reg", "_reconstructor"),
    ("__main__", "TrainingMode"),
    ("somebodys_project.models.options", "Mode"),
]


@pytest.mark.parametrize(("module", "name"), FOREIGN)
def test_what_other_versions_pickle_is_a_placeholder_whose_module_is_not_imported(module, name):
    before = set(sys.modules)
    named = f"\x80\x02c{module}\n{name}\n".encode("latin-1")
    assert isinstance(read(named + b"."), Named)
    assert isinstance(read(named + b"(K\x01tR."), Inert)
    assert isinstance(read(named + b")\x81}X\x01\x00\x00\x00xK\x01sb."), Inert)
    assert not {n for n in set(sys.modules) - before if n.startswith(module.partition(".")[0])}


@pytest.mark.parametrize(("old", "new"), sorted(NEW_NAMES.items()))
def test_names_of_python_2_are_judged_by_their_names_of_python_3(old, new):
    assert python3_name(*old) == new


FUNCTIONS = [
    os.system,
    os.popen,
    eval,
    exec,
    compile,
    getattr,
    setattr,
    __import__,
    open,
    print,
    map,
    subprocess.Popen,
    subprocess.check_output,
    operator.attrgetter,
    operator.getitem,
    operator.methodcaller,
    functools.partial,
    functools.reduce,
    pickle.loads,
    io.open,
    torch.load,
    torch.hub.load,
    torch.jit.load,
    torch.jit.ScriptModule,
    torch.nn.functional.relu,
    torch.fx.GraphModule,
]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("value", FUNCTIONS, ids=lambda f: f"{f.__module__}.{f.__name__}")
def test_code_is_refused_by_name_even_as_a_mere_value(value, protocol, tmp_path):
    content = {"state_dict": {"w": WEIGHT}, "hyper_parameters": {"function": value}}
    torch.save(content, tmp_path / "a.ckpt", pickle_protocol=protocol)
    with pytest.raises(UserError, match="asks to run") as refusal:
        read_checkpoint(tmp_path / "a.ckpt")
    assert value.__name__ in str(refusal.value) or value is io.open
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "value",
    [
        functools.partial(os.getcwd),
        functools.partial(torch.nn.LayerNorm, eps=1e-6),
        operator.attrgetter("a"),
        torch.nn.Linear(1, 1).forward,
        {}.update,
    ],
    ids=["partial", "partial of a class", "attrgetter", "method", "bound method"],
)
def test_objects_that_carry_a_function_are_refused(value, protocol, tmp_path):
    torch.save({"w": WEIGHT, "f": value}, tmp_path / "a.ckpt", pickle_protocol=protocol)
    with pytest.raises(UserError, match="asks to run"):
        read_checkpoint(tmp_path / "a.ckpt")


NESTED = b"c__builtin__\ngetattr\n(csomebody\nOptions\nX\x04\x00\x00\x00%stR"
CHAINS = {
    "a method of a class, called": NESTED % b"load" + b"(X\x01\x00\x00\x00xtR",
    "an attribute of a string": b"cbuiltins\ngetattr\n(X\x01\x00\x00\x00xX\x05\x00\x00\x00uppertR",
    "an attribute of an instance": b"cbuiltins\ngetattr\n(csomebody\nA\n)RX\x01\x00\x00\x00xtR",
    "a default": b"cbuiltins\ngetattr\n(csomebody\nA\nX\x01\x00\x00\x00xNtR",
    "an item of a dict": b"c_operator\ngetitem\n(}X\x01\x00\x00\x00xtR",
    "an item of a class": b"c_operator\ngetitem\n(csomebody\nA\nK\x01tR",
    "a new class": b"cbuiltins\ntype\n(X\x01\x00\x00\x00x)}tR",
    "the type of a number": b"cbuiltins\ntype\n(K\x01tR",
    "a class of torch, called": b"ctorch.nn\nLinear\n(K\x01K\x01tR",
    "a nested class of torch, called": b"ctorch.nn\nLinear.Inner\n(K\x01tR",
}


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
def test_stand_ins_serve_placeholders_alone_and_lead_to_nothing_that_can_be_called(chain):
    with pytest.raises(RefusedGlobal):
        read(b"\x80\x02" + chain + b".")


def test_a_class_within_a_class_and_its_members_are_placeholders():
    inner = read(b"\x80\x02" + NESTED % b"Mode" + b".")
    assert isinstance(inner, Named)
    assert isinstance(read(b"\x80\x02" + NESTED % b"Mode" + b"(K\x01tR."), Inert)


def test_imitators_of_known_packages_are_not_taken_for_them():
    assert may_be_made("lightning.pytorch", "Trainer")
    assert not may_be_named("lightning_evil", "Callback")
    assert not may_be_named("torch.jit", "ScriptModule")
    assert may_be_named("torch.nn", "ReLU")
    assert not may_be_made("torch.nn", "ReLU")
