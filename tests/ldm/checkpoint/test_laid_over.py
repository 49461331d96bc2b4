"""Tensors over a file are those that were saved: values, types, and what they share."""

from __future__ import annotations

import zipfile
from collections import Counter

import pytest
import torch

from ldm.checkpoint.laid_over import LaidOver, NotPlain, plain_content
from ldm.checkpoint.torch_files import read_torch_file

DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32),
    *(torch.int16, torch.int8, torch.uint8, torch.bool, torch.complex64, torch.complex128),
    *(torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16, torch.uint32, torch.uint64),
]


def saved(content, path, **options):
    torch.save(content, path, **options)
    return read_torch_file(path)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_type_of_numbers_comes_back(dtype, zipped, tmp_path):
    values = torch.arange(24).to(dtype).view(2, 3, 4)
    old = not zipped and dtype in DTYPES[-5:]  # these have no storages in the old format
    if old:
        pytest.skip("no such storage in the old format")
    content = plain_content(
        saved({"w": values, "t": values.mT}, tmp_path / "m", _use_new_zipfile_serialization=zipped)
    )
    for name, expected in {"w": values, "t": values.mT}.items():
        assert content[name].dtype == dtype and content[name].stride() == expected.stride()
        found, wanted = (each.contiguous().view(torch.uint8) for each in (content[name], expected))
        assert torch.equal(found, wanted)


def test_what_shares_a_storage_shares_it_again(tmp_path):
    weight = torch.arange(6.0)
    content = plain_content(saved({"a": weight, "b": weight[2:], "c": [weight]}, tmp_path / "m"))
    content["a"][2] = 9.0
    assert content["b"][0] == 9.0
    assert content["c"][0] is not None and content["c"][0][2] == 9.0


def test_compressed_and_unaligned_bytes_are_copied_and_equal(tmp_path):
    state = {"h": torch.arange(3).half(), "w": torch.arange(5.0).double(), "e": torch.empty(0, 2)}
    torch.save(state, tmp_path / "m")
    with zipfile.ZipFile(tmp_path / "m") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "n", "w", method) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        read = plain_content(read_torch_file(tmp_path / "n"))
        assert all(torch.equal(read[name], state[name]) for name in state)
        assert all(each.data_ptr() % each.element_size() == 0 for each in read.values())


def test_all_plain_values_come_back_and_objects_do_not(tmp_path):
    content = {"n": 3, "x": (1.5, None, True), "l": [{"d": torch.float16}], "s": torch.ones(2)}
    read = plain_content(saved(content, tmp_path / "m"))
    assert torch.equal(read.pop("s"), torch.ones(2))
    assert read == {"n": 3, "x": (1.5, None, True), "l": [{"d": torch.float16}]}
    for other, words in ((Counter("a"), "collections.Counter"), (Counter, "class collections")):
        with pytest.raises(NotPlain, match=words):
            plain_content(saved({"x": other}, tmp_path / "m"))


def test_containers_in_containers_have_an_end(tmp_path):
    endless = {}
    endless["x"] = endless
    with pytest.raises(NotPlain, match="within more than"):
        plain_content(saved(endless, tmp_path / "m"))


def test_a_tensor_is_made_when_it_is_asked_for(tmp_path):
    file = saved({"a": torch.ones(3), "b": torch.zeros(10**5)}, tmp_path / "m")
    made = LaidOver(file)
    assert torch.equal(made.tensor(file.content["a"]), torch.ones(3))
    assert len(made._storages) == 1
