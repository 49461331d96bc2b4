"""The start-up benchmark runs both ways on one file and writes what it found."""

from __future__ import annotations

import pytest
import torch
from omegaconf import OmegaConf
from tiny_model import CONFIG

from benchmarks import reports, startup


@pytest.fixture
def tiny(tmp_path):
    """A tiny configuration, and files of random weights for it."""
    OmegaConf.save(OmegaConf.create(CONFIG), tmp_path / "tiny.yaml")
    startup.make_random(str(tmp_path / "tiny.yaml"), str(tmp_path))
    return tmp_path


def test_all_ways_are_measured_and_the_result_is_saved(tiny, monkeypatch, capsys):
    monkeypatch.setattr(reports, "RESULTS", tiny / "results")
    monkeypatch.setattr(startup, "PROGRAMS", ("scripts/download_models.py",))
    command = (
        f"--config {tiny}/tiny.yaml --ckpt {tiny}/random.ckpt --work {tiny} --repeats 1 "
        "--ways reference ours torch-reader --save check"
    )
    runs = startup.main(command.split())
    assert [way for way, _ in runs] == ["reference", "ours", "torch-reader"]
    assert all(run["wall"] > 0 and run["peak"] > 1e7 for found in runs.values() for run in found)
    saved = (tiny / "results" / "startup-check.md").read_text(encoding="utf-8")
    assert "| reference | .ckpt |" in saved
    assert "| scripts/download_models.py |" in saved
    assert "CPU seconds, ours / torch-reader: " in saved
    assert "wall / reference" in capsys.readouterr().out
    assert not list(tiny.glob("startup-*"))


@pytest.mark.parametrize("suffix", ["ckpt", "safetensors"])
def test_every_way_of_ours_loads_the_random_files(suffix, tiny):
    for way in ("ours", "ours-read", "ours-half"):
        found = startup.work(way, str(tiny / "tiny.yaml"), str(tiny / f"random.{suffix}"))
        assert found["cpu"] > 0


def test_both_ways_end_with_the_same_weights(tiny):
    config, ckpt = str(tiny / "tiny.yaml"), str(tiny / "random.ckpt")
    theirs, ours = startup.as_compvis_did(config, ckpt), startup.as_we_do(config, ckpt)
    pairs = zip(theirs.state_dict().values(), ours.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("bad", ["--repeats 0", "--ways theirs"])
def test_what_cannot_be_measured_is_refused(bad):
    with pytest.raises(SystemExit) as caught:
        startup.parse_args(bad.split())
    assert caught.value.code == 2
