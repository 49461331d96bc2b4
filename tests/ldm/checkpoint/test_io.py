"""Reading checkpoints: every common layout, lazily; everything else in one clear line."""

from __future__ import annotations

import collections
import gzip
import lzma
import pickle
import tarfile
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from ldm.checkpoint.io import read_checkpoint
from ldm.errors import UserError

TENSORS = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.tensor([1, 2], dtype=torch.int64)}


def assert_same(tensors, expected=TENSORS):
    assert list(tensors) == list(expected)
    assert all(torch.equal(tensors[k], expected[k]) for k in expected)
    assert all(tensors[k].dtype == expected[k].dtype for k in expected)


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".pth", ".bin"])
@pytest.mark.parametrize("nested", [True, False], ids=["under state_dict", "bare"])
def test_torch_files_of_either_layout_are_read_lazily(suffix, nested, tmp_path):
    path = tmp_path / f"model{suffix}"
    content = {"state_dict": TENSORS, "global_step": 470000} if nested else TENSORS
    torch.save(content, path)
    checkpoint = read_checkpoint(path)
    assert_same(checkpoint.tensors)
    assert checkpoint.global_step == (470000 if nested else None)
    assert checkpoint.mapped
    assert checkpoint.stubbed == ()


def test_safetensors_are_read_with_their_metadata(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(TENSORS, path, metadata={"format": "pt", "global_step": "12"})
    checkpoint = read_checkpoint(str(path))
    assert_same(dict(sorted(checkpoint.tensors.items())))
    assert checkpoint.metadata["format"] == "pt"
    assert checkpoint.global_step == 12
    assert checkpoint.mapped


def test_the_content_decides_and_not_the_name(tmp_path):
    save_file(TENSORS, tmp_path / "model.ckpt")
    assert_same(dict(sorted(read_checkpoint(tmp_path / "model.ckpt").tensors.items())))
    torch.save(TENSORS, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="rename it to .ckpt"):
        read_checkpoint(tmp_path / "model.safetensors")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int8])
def test_element_types_survive_as_stored(dtype, tmp_path):
    expected = {"w": torch.arange(4).to(dtype)}
    torch.save(expected, tmp_path / "a.ckpt")
    save_file(expected, tmp_path / "a.safetensors")
    assert_same(read_checkpoint(tmp_path / "a.ckpt").tensors, expected)
    assert_same(read_checkpoint(tmp_path / "a.safetensors").tensors, expected)


def test_a_lightning_checkpoint_is_read_around_its_callbacks(model_checkpoint, tmp_path):
    parameter = torch.nn.Parameter(torch.ones(2, 2))
    state = collections.OrderedDict(w=parameter, half=torch.ones(3).half(), **TENSORS)
    state._metadata = {"": {"version": 1}}
    content = {
        "epoch": 3,
        "global_step": 7,
        "pytorch-lightning_version": "1.4.2",
        "state_dict": state,
        "callbacks": {model_checkpoint: {"best_model_score": torch.tensor(0.1)}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(2)}}}],
    }
    torch.save(content, tmp_path / "last.ckpt")
    checkpoint = read_checkpoint(tmp_path / "last.ckpt")
    assert_same(checkpoint.tensors, {k: v.detach() for k, v in state.items()})
    assert not any(value.requires_grad for value in checkpoint.tensors.values())
    assert checkpoint.global_step == 7
    assert checkpoint.mapped
    assert checkpoint.stubbed == ("pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",)


def test_views_and_shared_storages_are_rebuilt_in_the_restricted_reader(model_checkpoint, tmp_path):
    base = torch.arange(12.0).view(3, 4)
    content = {"t": base.T, "row": base[1], "scalar": base[2, 3], "empty": torch.empty(0, 4)}
    torch.save({"state_dict": content, "callbacks": {model_checkpoint: {}}}, tmp_path / "a.ckpt")
    checkpoint = read_checkpoint(tmp_path / "a.ckpt")
    assert checkpoint.stubbed
    assert_same(checkpoint.tensors, content)


@pytest.mark.parametrize("stateful", [True, False], ids=["restricted", "weights_only"])
def test_files_of_torch_before_1_6_are_read(stateful, model_checkpoint, tmp_path):
    content = {"state_dict": TENSORS, "callbacks": {model_checkpoint: {}} if stateful else {}}
    torch.save(content, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    checkpoint = read_checkpoint(tmp_path / "old.ckpt")
    assert_same(checkpoint.tensors)
    assert not checkpoint.mapped


def test_a_file_whose_members_are_compressed_is_unpacked_and_not_mapped(tmp_path):
    torch.save(TENSORS, tmp_path / "a.ckpt")
    with zipfile.ZipFile(tmp_path / "a.ckpt") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "b.ckpt", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    checkpoint = read_checkpoint(tmp_path / "b.ckpt")
    assert_same(checkpoint.tensors)
    assert not checkpoint.mapped


@pytest.mark.parametrize("suffix", ["ckpt", "safetensors"])
def test_writing_into_a_loaded_tensor_never_reaches_the_file(suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    torch.save(TENSORS, path) if suffix == "ckpt" else save_file(TENSORS, path)
    before = path.read_bytes()
    read_checkpoint(path).tensors["a.weight"].fill_(9.0)
    assert path.read_bytes() == before
    assert read_checkpoint(path).tensors["a.weight"][0, 0] == 0.0


def bytes_of(kind: str, tmp_path) -> bytes:
    """A file's content that is no checkpoint."""
    whole = tmp_path / "whole"
    torch.save({"w": torch.zeros(4096)}, whole)
    save_file({"w": torch.zeros(4096)}, tmp_path / "whole.safetensors")
    return {
        "empty": b"",
        "short": b"abc",
        "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 4\n",
        "html": b"\n<!DOCTYPE html><html><body>Please log in</body></html>",
        "xml": b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
        "json": b'{"error": "Repository not found"}',
        "gguf": b"GGUF" + bytes(64),
        "hdf": b"\x89HDF\r\n\x1a\n" + bytes(64),
        "gzip": gzip.compress(bytes(1000)),
        "xz": lzma.compress(bytes(1000)),
        "zstd": b"\x28\xb5\x2f\xfd" + bytes(64),
        "text": b"this is not a checkpoint at all, just text",
        "cut zip": whole.read_bytes()[:9000],
        "cut safetensors": (tmp_path / "whole.safetensors").read_bytes()[:9000],
        "cut header": (tmp_path / "whole.safetensors").read_bytes()[:20],
        "pickle": pickle.dumps(["not", "written", "by", "torch"]),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("empty", "empty"),
        ("short", "too short"),
        ("lfs", "git-lfs pointer"),
        ("html", "web page"),
        ("xml", "web page"),
        ("json", "JSON"),
        ("gguf", "GGUF"),
        ("hdf", "HDF5"),
        ("gzip", "packed by gzip"),
        ("xz", "packed by xz"),
        ("zstd", "packed by zstd"),
        ("text", "unknown content"),
        ("cut zip", "cut short"),
        ("cut safetensors", "damaged"),
        ("cut header", "cut short"),
        ("pickle", "damaged"),
    ],
)
def test_what_is_no_checkpoint_is_named_in_one_line(kind, words, tmp_path):
    path = tmp_path / "model.ckpt"
    path.write_bytes(bytes_of(kind, tmp_path))
    with pytest.raises(UserError, match=words) as error:
        read_checkpoint(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_names_the_downloader(tmp_path):
    with pytest.raises(UserError, match=r"does not exist.*download_models\.py"):
        read_checkpoint(tmp_path / "model.ckpt")


def test_folders_are_told_apart(tmp_path):
    with pytest.raises(UserError, match="a folder;"):
        read_checkpoint(tmp_path)
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(UserError, match="folder of diffusers"):
        read_checkpoint(tmp_path)


def test_an_unreadable_file_is_one_line(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    torch.save(TENSORS, tmp_path / "a.ckpt")
    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(UserError, match=r"cannot be read \(Permission denied\)"):
        read_checkpoint(tmp_path / "a.ckpt")


def test_a_tar_of_the_oldest_torch_is_refused(tmp_path):
    (tmp_path / "storages").write_bytes(b"\x80\x02K\x00.")
    with tarfile.open(tmp_path / "old.pt", "w") as archive:
        archive.add(tmp_path / "storages", "storages")
    with pytest.raises(UserError, match="tar file"):
        read_checkpoint(tmp_path / "old.pt")


def test_a_torchscript_program_is_refused(tmp_path):
    torch.save(TENSORS, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt", "a") as archive:
        archive.writestr("a/constants.pkl", b"\x80\x02).")
    with pytest.raises(UserError, match="TorchScript"):
        read_checkpoint(tmp_path / "a.pt")


def test_a_foreign_zip_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.ckpt", "w") as archive:
        archive.writestr("model.ckpt", b"x")
    with pytest.raises(UserError, match="zip that torch did not write"):
        read_checkpoint(tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"epoch": 1, "optimizer": {"w": torch.zeros(1)}}, r"no tensors.*'epoch', 'optimizer'"),
        ({"state_dict": {}}, "no tensors"),
        ([torch.zeros(1)], "holds a list"),
        (torch.zeros(1), "holds a Tensor"),
    ],
)
def test_a_file_without_a_dict_of_tensors_says_what_it_holds(content, words, tmp_path):
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(UserError, match=words):
        read_checkpoint(tmp_path / "a.ckpt")


@pytest.mark.parametrize("key", ["model", "state_dict", "anything"])
def test_a_dict_that_contains_itself_is_read_as_far_as_it_holds_tensors(key, tmp_path):
    content = {"w": torch.ones(2)}
    content[key] = content
    torch.save(content, tmp_path / "a.ckpt")
    assert_same(read_checkpoint(tmp_path / "a.ckpt").tensors, {"w": torch.ones(2)})


def test_dicts_of_tensors_that_are_no_weights_are_passed_over(tmp_path):
    training = {"optimizer": {"m": torch.zeros(2)}, "scaler": {"s": torch.zeros(1)}}
    training |= {"callbacks": {"best": torch.zeros(1)}, "lr_schedulers": {"x": torch.zeros(1)}}
    torch.save({"generator": TENSORS, **training, "step": 3}, tmp_path / "a.ckpt")
    assert_same(read_checkpoint(tmp_path / "a.ckpt").tensors)
