"""The program evaluate as a user meets it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from running import load_program

from ldm.images.io import save_picture

SCRIPT = "scripts/evaluate.py"


@pytest.fixture
def run(capsys):
    program = load_program(SCRIPT)

    def run(*arguments):
        code = program.main([*map(str, arguments), "--device", "cpu"])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def folders(tmp_path):
    rng = np.random.default_rng(0)
    for folder, low in (("real", 0), ("fake", 40)):
        for name in "ab":
            pixels = rng.integers(low, 256, (16, 16, 3), dtype=np.uint8)
            save_picture(pixels, tmp_path / folder / f"{name}.png")
    return tmp_path / "real", tmp_path / "fake"


def test_scores_of_pairs_are_shown_and_written(run, folders, tmp_path):
    real, fake = folders
    arguments = ("--real", real, "--fake", fake, "--metrics", "psnr", "ssim")
    code, out, err = run(*arguments, "--json", tmp_path / "report.json")
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert [line[0] for line in lines] == ["real:", "fake:", "metric", "psnr", "ssim"]
    content = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert float(lines[3][1]) == pytest.approx(content["scores"]["psnr"]["value"], rel=1e-4)


def test_features_need_weights_of_this_machine(run, folders, tmp_path):
    real, fake = folders
    code, _, err = run("--real", real, "--fake", fake)
    assert code == 2 and "fid and kid need --inception" in err and err.count("\n") == 1
    code, _, err = run("--real", real, "--fake", fake, "--inception", tmp_path / "none.pth")
    assert code == 2 and "none.pth' does not exist" in err and err.count("\n") == 1
    code, _, err = run("--fake", fake, "--metrics", "clip", "--clip_ckpt", tmp_path / "none")
    assert code == 2 and "no picture has a caption" in err and err.count("\n") == 1


def test_another_networks_weights_are_refused(run, folders, tmp_path):
    pytest.importorskip("torch_fidelity")
    import torch
    from safetensors.torch import save_file

    real, fake = folders
    save_file({"layer.weight": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
    options = ("--real", real, "--fake", fake, "--inception", tmp_path / "other.safetensors")
    code, _, err = run(*options)
    assert code == 2 and "does not hold FID's Inception network" in err and err.count("\n") == 1


def test_a_report_that_cannot_be_written_is_told_before_measuring(run, folders, tmp_path):
    real, fake = folders
    (tmp_path / "file").write_text("")
    arguments = ("--real", real, "--fake", fake, "--metrics", "psnr")
    code, out, err = run(*arguments, "--json", tmp_path / "file/report.json")
    assert code == 2 and out == "" and "--json" in err and err.count("\n") == 1
