"""Shapes are read from a file's head alone, and nothing that it names is run."""

from __future__ import annotations

import itertools
import os
import pickle
import zipfile
from collections import OrderedDict
from types import SimpleNamespace

import pytest
import torch
from pickled_names import PROTOCOLS, corpus
from safetensors.torch import save_file

from ldm.checkpoint.peek import peek_shapes

STATE = {"a.weight": torch.zeros(3, 9, 1, 1), "b": torch.zeros(()), "c": torch.arange(4)}
SHAPES = {"a.weight": (3, 9, 1, 1), "b": (), "c": (4,)}


def test_a_safetensors_file_tells_its_shapes(tmp_path):
    save_file(STATE, tmp_path / "m.safetensors", metadata={"format": "pt"})
    assert peek_shapes(tmp_path / "m.safetensors") == SHAPES


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_checkpoint_of_torch_tells_its_shapes(tmp_path, nested, half, zipped):
    state = {name: value.half() if half else value for name, value in STATE.items()}
    content = {"state_dict": state, "global_step": 3} if nested else state
    torch.save(content, tmp_path / "m.ckpt", _use_new_zipfile_serialization=zipped)
    assert peek_shapes(tmp_path / "m.ckpt") == SHAPES


def test_training_state_beside_the_weights_is_in_no_ones_way(tmp_path):
    module = torch.nn.Conv2d(9, 4, 3)
    content = {
        "callbacks": {SimpleNamespace: {"best": SimpleNamespace(x=[1, {2}])}},
        "state_dict": module.state_dict(),  # an OrderedDict with an attribute
        "parameters": torch.nn.Parameter(torch.zeros(2)),
        "optimizer_states": [torch.optim.Adam(module.parameters()).state_dict()],
        "dtype": torch.float16,
        "ordered": OrderedDict(a=1),
    }
    torch.save(content, tmp_path / "m.ckpt")
    assert peek_shapes(tmp_path / "m.ckpt") == {"weight": (4, 9, 3, 3), "bias": (4,)}


def test_what_cannot_be_read_is_left_to_who_loads_it(tmp_path):
    (tmp_path / "text.ckpt").write_text("no weights")
    (tmp_path / "cut.safetensors").write_bytes((1000).to_bytes(8, "little") + b'{"a":')
    (tmp_path / "empty.ckpt").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "zip.ckpt", "w") as archive:
        archive.writestr("a/b.txt", "c")
    for path in [*tmp_path.iterdir(), tmp_path / "missing.ckpt", tmp_path]:
        assert peek_shapes(path) == {}


def test_nothing_that_a_pickle_asks_for_is_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    with zipfile.ZipFile(tmp_path / "evil.ckpt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"state_dict": {"a": Evil()}}))
    assert peek_shapes(tmp_path / "evil.ckpt") == {}
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("key", ["model", "model_state_dict", "params", "module", "net"])
def test_weights_under_any_trainers_name_tell_their_shapes(tmp_path, key):
    torch.save({key: STATE, "optimizer": {"m": torch.zeros(2)}}, tmp_path / "m.ckpt")
    assert peek_shapes(tmp_path / "m.ckpt") == SHAPES


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*LeafSpec")
def test_the_ballast_of_training_hides_no_shape(tmp_path):
    for (name, value), protocol in itertools.product(corpus(), PROTOCOLS):
        content = {"state_dict": STATE, "hyper_parameters": {"given": value}}
        torch.save(content, tmp_path / "m.ckpt", pickle_protocol=protocol)
        assert peek_shapes(tmp_path / "m.ckpt") == SHAPES, (name, protocol)
