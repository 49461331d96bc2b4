"""Latents computed beforehand are those that training would compute, for the same model only."""

from __future__ import annotations

import pytest
import torch
import yaml
from running import load_program
from safetensors.torch import save_file
from tiny_model import CONFIG, write_tiny_model
from torch.utils.data import default_collate

import main
from ldm import atomic
from ldm.checkpoint.load import load_component
from ldm.config import build, load_config
from ldm.data.precomputed import PrecomputedLatents, fingerprint
from ldm.errors import UserError
from ldm.training import precompute

PROGRAM = load_program("scripts/precompute_latents.py")
PICTURES = {"target": "training_parts.Pictures", "params": {"length": 5}}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with a tiny model's file and a configuration that trains it."""
    folder = tmp_path_factory.mktemp("precomputed")
    write_tiny_model(folder)
    data = {"batch_size": 2, "num_workers": 0, "train": PICTURES}
    model = {**CONFIG["model"], "base_learning_rate": 1e-4}
    config = {"model": model, "data": {"target": "main.DataModuleFromConfig", "params": data}}
    (folder / "train.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return folder


def encode(place, out: str, *more: str) -> int:
    base = ["--base", str(place / "train.yaml"), "--ckpt", str(place / "tiny.safetensors")]
    sizes = ["--out", str(place / out), "--shard_size", "2", "--batch_size", "2"]
    return PROGRAM.main([*base, *sizes, "--device", "cpu", *more])


@pytest.fixture(scope="module")
def written(place):
    assert encode(place, "latents") == 0
    return place / "latents"


@pytest.fixture(scope="module")
def model(place):
    model = build(load_config(place / "config.yaml"), "model").eval()
    load_component(model, place / "tiny.safetensors", prefix="")
    return model


def batch_of(dataset) -> dict:
    return default_collate([dataset[i] for i in range(len(dataset))])


def test_the_hub_sees_the_same_latents_and_conditioning_as_from_the_pictures(written, model):
    from training_parts import Pictures

    stored, fresh = batch_of(PrecomputedLatents(str(written))), batch_of(Pictures(5))
    with torch.no_grad():
        torch.manual_seed(1)
        expected = model.get_input(fresh, "jpg")
        torch.manual_seed(1)
        found = model.get_input(stored, "jpg")
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert stored["txt"] == fresh["txt"]
    assert "jpg" not in stored


def test_dropped_captions_take_the_stored_empty_one(written, model):
    stored = batch_of(PrecomputedLatents(str(written)))
    with torch.no_grad():
        empty = model.get_learned_conditioning([""] * 5)
        model.cond_dropout, _ = 1.0, model.train()
        found = model.get_input(stored, "jpg")[1]
        model.cond_dropout, _ = 0.0, model.eval()
    torch.testing.assert_close(found, empty, rtol=1e-5, atol=1e-6)


def test_half_precision_takes_half_the_disk_and_three_digits(place, written, capsys):
    assert encode(place, "half", "--half") == 0
    capsys.readouterr()
    whole, half = batch_of(PrecomputedLatents(str(written))), PrecomputedLatents(place / "half")
    found = batch_of(half)["jpg_moments"]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, whole["jpg_moments"], rtol=1e-3, atol=1e-3)
    size = {f: sum(p.stat().st_size for p in f.glob("0*")) for f in (written, place / "half")}
    assert size[place / "half"] < 0.6 * size[written]


def test_labels_are_kept_and_pictures_alone_can_be_encoded(place, capsys):
    labelled = "data.params.train.params.labels=true"
    assert encode(place, "alone", "--no_text", labelled) == 0
    item = PrecomputedLatents(place / "alone")[3]
    assert sorted(item) == ["class_label", "jpg_moments", "txt"]
    assert int(item["class_label"]) == 3


def test_an_interrupted_writing_goes_on_where_it_was(place, written, tmp_path, capsys):
    assert encode(tmp_path, "latents", *_same(place)) == 0
    folder = tmp_path / "latents"
    (folder / "000001.safetensors").unlink()
    with pytest.raises(UserError, match="lacks 1 of 3 shards.*run scripts/precompute_latents"):
        PrecomputedLatents(str(folder))
    before = (folder / "000000.safetensors").stat().st_mtime_ns
    capsys.readouterr()
    assert encode(tmp_path, "latents", *_same(place)) == 0
    assert capsys.readouterr().out.count("there already") == 2
    assert (folder / "000000.safetensors").stat().st_mtime_ns == before
    again, first = batch_of(PrecomputedLatents(folder)), batch_of(PrecomputedLatents(written))
    torch.testing.assert_close(again["jpg_moments"], first["jpg_moments"], rtol=0, atol=0)


def _same(place) -> list[str]:
    """Point an encoding in another folder at the configuration of ``place``."""
    return [
        "--base",
        str(place / "train.yaml"),
        "--ckpt",
        str(place / "tiny.safetensors"),
    ]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["data.params.train.params.length=4"], ["another", "source"]),
        (["--half"], ["another dtype"]),
        (["--no_text"], ["another cond_stage"]),
        (["--shard_size", "0"], ["1 or more"]),
        (["--num_workers", "-1"], ["--num_workers", "0 or more"]),
        (["--seed", "-1"], ["--seed", "0 or more"]),
        (["--device", "abacus"], ["--device abacus"]),
        (["model.params.cond_stage_trainable=true"], ["--no_text"]),
        (["data.params.train.target=no.such.Set"], ["no.such.Set"]),
        (["--split", "validation"], ["data.params.validation"]),
    ],
)
def test_a_mistake_is_one_line_and_leaves_the_folder_as_it_was(place, written, capsys, more, words):
    before = {p.name: p.stat().st_mtime_ns for p in written.iterdir()}
    assert encode(place, "latents", *more) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert all(word in line for word in words), line
    assert {p.name: p.stat().st_mtime_ns for p in written.iterdir()} == before


def test_a_folder_of_something_else_is_left_alone(place, tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    assert encode(place, str(tmp_path)) == 2
    assert "holds something else" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_what_a_killed_run_left_of_an_index_is_nothing_else(place, written, capsys):
    index = place / "killed" / f".index.json.ldm-{atomic._host()}-999999999-0123abcd-7.part"
    index.parent.mkdir()
    index.write_text("{")
    assert encode(place, "killed") == 0
    assert "what killed runs left there" in capsys.readouterr().err
    assert not index.exists()


def test_a_folder_that_cannot_be_made_is_told_in_one_line(place, capsys):
    assert encode(place, "train.yaml/latents") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "--out" in line and "cannot be written" in line


def test_a_first_stage_without_weights_is_refused(place, capsys):
    base = ["--base", str(place / "train.yaml"), "--out", str(place / "none")]
    assert PROGRAM.main([*base, "model.params.first_stage_config.params.ckpt_path=null"]) == 2
    assert "no weights" in capsys.readouterr().err


def test_a_damaged_index_is_one_line(tmp_path):
    (tmp_path / "index.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="no such index"):
        PrecomputedLatents(str(tmp_path))


def test_another_model_is_refused(written, model):
    dataset = PrecomputedLatents(str(written))
    dataset.check_model(model)
    with torch.no_grad():
        weight = model.first_stage_model.quant_conv.bias
        weight[0] += 1e-4
        with pytest.raises(UserError, match="another first_stage"):
            dataset.check_model(model)
        weight.copy_(weight.new_tensor(weight.tolist()))
        weight[0] -= 1e-4
    model.first_stage_key = "image"
    try:
        with pytest.raises(UserError, match="first_stage_key 'jpg', the model has 'image'"):
            dataset.check_model(model)
    finally:
        model.first_stage_key = "jpg"


def test_a_fingerprint_does_not_see_the_element_type_but_every_weight():
    layer = torch.nn.Linear(3, 2).to(torch.bfloat16)
    before = fingerprint(layer)
    assert fingerprint(layer.float()) == before
    with torch.no_grad():
        layer.bias[1] += 1
    assert fingerprint(layer) != before


def test_main_trains_on_the_folder_and_refuses_it_for_another_model(
    place, written, tmp_path, capsys
):
    base = ["-b", str(place / "train.yaml"), "-t", "-l", str(tmp_path), "--latents", str(written)]
    checkpoint = f"model.params.ckpt_path={place / 'tiny.safetensors'}"
    quiet = ["lightning.callbacks.image_logger=null", "--max_steps", "2"]
    assert main.main([*base, *quiet, "-n", "run", checkpoint, "model.params.cond_dropout=0.5"]) == 0
    capsys.readouterr()
    for more in ([], ["data.params.wrap=true"]):
        assert main.main([*base, *quiet, "-n", "other", *more]) == 2
        assert "another first_stage" in capsys.readouterr().err
    assert not list(tmp_path.glob("*_other"))


def test_an_encoding_that_failed_before_its_first_shard_binds_nobody(place, written):
    (place / "failed").mkdir()
    (place / "failed" / "index.json").write_bytes((written / "index.json").read_bytes())
    save_file({"embedding": torch.zeros(77, 32)}, place / "failed" / "empty.safetensors")
    assert encode(place, "failed", "--half") == 0
    again, whole = (PrecomputedLatents(str(place / name))[0] for name in ("failed", "latents"))
    assert again["txt_empty"].any()
    torch.testing.assert_close(again["txt_empty"], whole["txt_empty"], rtol=1e-3, atol=1e-3)


def test_parts_that_several_processes_encode_make_the_folder_of_one(place, written, capsys):
    assert encode(place, "parts", "--part", "2/2") == 0
    assert "1 of them are there; the other parts are still to be encoded" in capsys.readouterr().out
    with pytest.raises(UserError, match="lacks 2 of 3 shards, the first is 000000"):
        PrecomputedLatents(str(place / "parts"))
    assert encode(place, "parts", "--part", "1/2") == 0
    assert "to train on them" in capsys.readouterr().out
    files = {path.name: path.read_bytes() for path in written.iterdir()}
    assert files == {path.name: path.read_bytes() for path in (place / "parts").iterdir()}


def test_a_part_is_not_written_into_a_folder_that_others_began_otherwise(
    place, written, tmp_path, monkeypatch, capsys
):
    """Two processes begin at once; the second one's index takes the first one's place."""
    real = precompute._encode

    def slowly(task, *rest):
        half = (written / "index.json").read_text("utf-8").replace("float32", "float16")
        (task.out / "index.json").write_text(half, encoding="utf-8")
        return real(task, *rest)

    monkeypatch.setattr(precompute, "_encode", slowly)
    assert encode(tmp_path, "mixed", *_same(place), "--part", "1/2") == 2
    assert "was begun with another dtype (float16, now float32)" in capsys.readouterr().err
    assert not list((tmp_path / "mixed").glob("0*"))


def test_what_another_process_is_writing_is_no_hindrance(place, tmp_path):
    (tmp_path / "begun").mkdir()
    with atomic.replacing(tmp_path / "begun" / "index.json") as part:
        part.write_text("half of", encoding="utf-8")
        assert encode(tmp_path, "begun", *_same(place), "--part", "1/3") == 0
        part.write_bytes((tmp_path / "begun" / "index.json").read_bytes())


@pytest.mark.parametrize("part", ["3/2", "0/2", "1", "1/0", "a/b"])
def test_a_part_that_there_is_not_is_refused(place, capsys, part):
    assert encode(place, "none", "--part", part) == 2
    assert f"--part {part} was given; expected" in capsys.readouterr().err
    assert not (place / "none").exists()
