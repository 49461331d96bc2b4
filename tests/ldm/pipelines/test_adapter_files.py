"""Finding adapters by their names, and the hashes that other programs know them by."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from ldm.errors import UserError
from ldm.pipelines import adapter_files
from ldm.pipelines.adapter_files import (
    CONTROLS,
    EMBEDDINGS,
    LORAS,
    embedding_hash,
    embeddings_called,
    find_adapter,
    find_named,
    full_hash,
    lora_file,
    lora_hashes,
    on_shelf,
)


@pytest.fixture(autouse=True)
def shelves(tmp_path, monkeypatch):
    """An empty working directory; the project's own models are elsewhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(adapter_files, "ROOT", tmp_path / "project")


def put(*names):
    for name in names:
        path = adapter_files.Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"weights")


@pytest.mark.parametrize(
    "name", ["ink", "ink.safetensors", "styles/ink", "styles/ink.safetensors", "INK", r"styles\ink"]
)
def test_a_name_may_have_its_ending_and_its_folder(name):
    put("models/lora/styles/ink.safetensors", "models/lora/inkwell.pt")
    assert find_named(LORAS, name).as_posix() == "models/lora/styles/ink.safetensors"


def test_the_same_case_goes_before_another():
    put("models/lora/Ink.pt", "models/lora/ink.safetensors")
    assert find_named(LORAS, "Ink").name == "Ink.pt"


def test_a_name_of_several_is_refused_with_their_places():
    put("models/lora/a/ink.pt", "models/lora/b/ink.pt")
    with pytest.raises(UserError, match="may be 'a/ink.pt', 'b/ink.pt'; expected the name of one"):
        find_named(LORAS, "ink")
    assert find_named(LORAS, "b/ink").parent.name == "b"


def test_an_unknown_name_is_refused_with_the_nearest():
    put("models/lora/watercolour.pt")
    with pytest.raises(UserError, match="--lora 'watercolor' is no file.*'watercolour'") as caught:
        find_named(LORAS, "watercolor")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", r"C:\a.pt", "", "..", "a/../../secret"]
)
def test_a_name_leads_out_of_no_folder(name):
    put("models/secret.pt", "models/lora/ink.pt", "secret.pt")
    with pytest.raises(UserError):
        find_named(LORAS, name)


def test_a_flag_may_give_a_path_and_goes_before_names(tmp_path):
    put("ink.pt", "models/lora/ink.pt")
    assert find_adapter(LORAS, "ink.pt").as_posix() == "ink.pt"
    assert find_adapter(LORAS, "ink").as_posix() == "models/lora/ink.pt"


def test_the_project_s_own_folder_is_looked_into_as_well(tmp_path):
    put("project/models/lora/own.pt", "models/lora/ink.pt")
    assert [path.stem for path in on_shelf(LORAS)] == ["ink", "own"]


def test_pictures_beside_embeddings_are_none(tmp_path):
    put("models/embeddings/sunny.pt", "models/embeddings/sunny.png")
    put(
        "models/embeddings/a.preview.png", "models/embeddings/.hidden.pt", "models/embeddings/x.txt"
    )
    Image.new("RGB", (4, 4)).save("models/embeddings/inside.png")
    assert sorted(path.name for path in on_shelf(EMBEDDINGS)) == ["inside.png", "sunny.pt"]


def test_a_folder_of_diffusers_is_one_control():
    for name in ("canny/config.json", "canny/diffusion_pytorch_model.bin", "depth.pth"):
        put(f"models/controlnet/{name}")
    assert [path.name for path in on_shelf(CONTROLS)] == ["canny", "depth.pth"]
    assert full_hash(find_named(CONTROLS, "canny")) == hashlib.sha256(b"weights").hexdigest()


def test_embeddings_are_called_by_their_names_as_words():
    put("models/embeddings/sunny.pt", "models/embeddings/sunny day.pt", "models/embeddings/x.pt")
    called = [path.stem for path in embeddings_called(["(Sunny:1.2) and SUNNY  day", "sunnyx"])]
    assert sorted(called) == ["sunny", "sunny day"]


def test_a_lora_s_hash_is_of_its_tensors_and_what_it_says_of_itself_goes_first(tmp_path):
    tensors = {"a": torch.arange(4.0)}
    save_file(tensors, tmp_path / "plain.safetensors")
    save_file(tensors, tmp_path / "said.safetensors", {"sshs_model_hash": "0123456789abcdef"})
    own = hashlib.sha256(tensors["a"].numpy().tobytes()).hexdigest()[:12]
    assert lora_hashes(tmp_path / "plain.safetensors") == [own]
    assert lora_hashes(tmp_path / "said.safetensors") == ["0123456789ab", own]
    put("other.pt")
    assert lora_hashes(tmp_path / "other.pt") == [hashlib.sha256(b"weights").hexdigest()[:12]]


def test_a_changed_file_has_another_hash(tmp_path):
    put("a.pt")
    before = embedding_hash(tmp_path / "a.pt")
    (tmp_path / "a.pt").write_bytes(json.dumps("other weights").encode())
    assert embedding_hash(tmp_path / "a.pt") != before


def test_a_shelf_of_very_many_files_is_not_looked_through_for_ever(monkeypatch):
    monkeypatch.setattr(adapter_files, "MOST_FILES", 3)
    put(*(f"models/lora/{a}/{b}.pt" for a in "abcdef" for b in "xy"))
    assert len(on_shelf(replace(LORAS))) < 8


def test_a_folder_of_diffusers_or_peft_is_one_lora():
    put("models/lora/ink/pytorch_lora_weights.safetensors", "models/lora/hat/adapter_model.bin")
    put("models/lora/hat/adapter_config.json", "models/lora/styles/dot.pt")
    assert [path.name for path in on_shelf(LORAS)] == ["hat", "ink", "dot.pt"]
    found = find_named(LORAS, "hat")
    assert lora_file(found).name == "adapter_model.bin"
    assert lora_hashes(found) == [hashlib.sha256(b"weights").hexdigest()[:12]]
