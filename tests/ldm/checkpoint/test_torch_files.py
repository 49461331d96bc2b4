"""Bytes are found where the file has them, and what is described is held against them."""

from __future__ import annotations

import zipfile

import pytest
import torch

from ldm import budgets
from ldm.checkpoint.pickle_machine import PickleFault
from ldm.checkpoint.torch_files import read_torch_file

STATE = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([7, 8])}


@pytest.mark.parametrize("zipped", [True, False])
def test_each_record_is_the_bytes_of_its_storage(zipped, tmp_path):
    torch.save(STATE, tmp_path / "m", _use_new_zipfile_serialization=zipped)
    file, data = read_torch_file(tmp_path / "m"), (tmp_path / "m").read_bytes()
    for name, tensor in STATE.items():
        record = file.records[file.content[name].storage.key]
        assert data[record.start : record.start + record.length] == tensor.numpy().tobytes()
        assert file.content[name].shape == tuple(tensor.shape)
    assert file.mapped is zipped


def test_records_off_their_alignment_are_not_mapped(tmp_path):
    torch.save(STATE, tmp_path / "m")
    with zipfile.ZipFile(tmp_path / "m") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "n", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    starts = [record.start % 16 for record in read_torch_file(tmp_path / "n").records.values()]
    assert any(starts) and not read_torch_file(tmp_path / "n").mapped


def test_an_expanded_tensor_may_claim_no_more_than_the_file_has(tmp_path):
    torch.save({"w": torch.zeros(1).expand(100)}, tmp_path / "m")
    assert read_torch_file(tmp_path / "m").content["w"].stride == (0,)
    torch.save({"w": torch.zeros(1).expand(10**6)}, tmp_path / "m")
    with pytest.raises(PickleFault, match="a tensor of 4000000 bytes in a file of"):
        read_torch_file(tmp_path / "m")


def test_all_tensors_together_have_a_budget(tmp_path, monkeypatch):
    monkeypatch.setattr("ldm.checkpoint.torch_files._SMALL", 0)
    weight = torch.zeros(1000)
    torch.save({str(n): weight[:] for n in range(200)}, tmp_path / "m")
    with pytest.raises(PickleFault, match="tensors of 800000 bytes"):
        read_torch_file(tmp_path / "m")
    monkeypatch.setattr(budgets, "CLAIMED_RATIO", 100)
    assert len(read_torch_file(tmp_path / "m").content) == 200
