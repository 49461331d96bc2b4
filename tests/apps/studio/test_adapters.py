"""LoRAs and embeddings as a page shows them: their own words, read without opening weights."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from PIL import Image

from apps.studio.adapters import Adapter, adapters_there, with_adapter
from ldm.settings.tags import split_tags

INK = Adapter("ink", "LoRA", Path("ink.safetensors"), words=("inkstyle", "sepia"))


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """An empty project of its own; writes files whose headers say what is given."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ldm.pipelines.adapter_files.ROOT", tmp_path)

    def put(name, **said):
        path = tmp_path / "models" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        header = json.dumps({"__metadata__": said}).encode()
        path.write_bytes(struct.pack("<Q", len(header)) + header)
        return path

    return put


def test_a_file_says_its_title_its_words_and_what_it_is_for(shelf):
    counts = {"10_ink": {"rare": 1, "ink drawing": 30, "cat": 12}}
    shelf(
        "lora/ink.safetensors",
        **{"modelspec.title": "Ink of Ada", "ss_base_model_version": "sd_v1"},
        ss_tag_frequency=json.dumps(counts),
    )
    (found,) = adapters_there()
    assert (found.name, found.kind, found.title, found.base) == (
        "ink",
        "LoRA",
        "Ink of Ada",
        "sd_v1",
    )
    assert found.words == ("ink drawing", "cat", "rare")


def test_what_lies_beside_a_file_goes_before_its_header(shelf):
    path = shelf("lora/ink.safetensors", **{"modelspec.trigger_phrase": "old"})
    said = {"activation text": "inkstyle, <lora:other:1>wash", "preferred weight": 0.6}
    path.with_suffix(".json").write_text(json.dumps(said | {"notes": "by\nAda"}))
    path.with_name("ink.civitai.info").write_text(json.dumps({"trainedWords": ["brush"]}))
    Image.new("RGB", (4, 4)).save(path.with_name("ink.preview.png"))
    (found,) = adapters_there()
    assert found.words == ("old", "inkstyle", "wash", "brush")
    assert (found.weight, found.note, found.written) == (0.6, "by Ada", "<lora:ink:0.6>")
    assert found.picture == Path("models/lora/ink.preview.png")


def test_search_looks_at_names_and_words(shelf):
    shelf("lora/ink.safetensors", **{"modelspec.trigger_phrase": "inkstyle"})
    shelf("embeddings/fog.safetensors")
    assert [each.name for each in adapters_there()] == ["ink", "fog"]
    assert [each.name for each in adapters_there("INKSTYLE")] == ["ink"]
    assert [each.name for each in adapters_there("embedding fog")] == ["fog"]
    assert adapters_there("ink fog") == []


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff" * 8 + b"{", b"\x02\0\0\0\0\0\0\0{]", struct.pack("<Q", 4) + b"null"],
)
def test_a_damaged_file_still_has_its_name(shelf, content):
    path = shelf("lora/ink.safetensors")
    path.write_bytes(content)
    path.with_suffix(".json").write_bytes(b"\xff{")
    (found,) = adapters_there()
    assert (found.name, found.words, found.base) == ("ink", (), "")


@pytest.mark.parametrize("counts", ["[]", '{"a": []}', '{"a": {"b": "c"}}', "{", "[" * 9999])
def test_counts_that_are_none_give_no_words(shelf, counts):
    shelf("lora/ink.safetensors", ss_tag_frequency=counts)
    assert adapters_there()[0].words == ()


def test_what_is_inserted_is_a_tag_that_is_read_again():
    text = with_adapter("a cat", INK)
    assert text == "a cat, inkstyle <lora:ink:1>"
    assert split_tags(text)[1][0].name == "ink"


def test_inserting_twice_writes_nothing_twice():
    once = with_adapter("", INK)
    assert with_adapter(once, INK) == once == "inkstyle <lora:ink:1>"
    weak = "inkstyle <lora:Ink:0.3>"
    assert with_adapter(weak, INK) == weak
    assert with_adapter("inkstyle <lora:ink:wrong>", INK) == "inkstyle <lora:ink:wrong>"


def test_an_embedding_is_called_by_its_name():
    fog = Adapter("fog", "embedding", Path("fog.pt"), words=("other",))
    assert with_adapter("a cat", fog) == with_adapter("a cat, fog", fog) == "a cat, fog"


def test_the_one_that_ships_is_there_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = {each.name: each for each in adapters_there()}
    assert found["demo-outline"].kind == "LoRA" and found["demo-tangerine"].kind == "embedding"
