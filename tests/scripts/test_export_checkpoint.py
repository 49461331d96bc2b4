"""The program that writes checkpoints for inference."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

PROGRAM = Path(__file__).parents[2] / "scripts" / "export_checkpoint.py"


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("export_checkpoint", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_writes_the_file_and_says_what_is_in_it(program, tiny_ckpt, tmp_path, capsys):
    out = tmp_path / "half.safetensors"
    given = ["--ckpt", str(tiny_ckpt), "--out", str(out), "--half", "--meta", "author=me=you"]
    assert program.main(given) == 0
    line = capsys.readouterr().out
    assert line.startswith(f"wrote {out}")
    assert "UNet" in line
    with safe_open(out, framework="pt") as file:
        assert file.metadata()["modelspec.author"] == "me=you"
        assert file.get_tensor("model.diffusion_model.out.2.weight").dtype == torch.float16
        assert file.get_tensor("betas").dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--use_ema"], "no averaged"),
        (["--meta", "author"], "KEY=VALUE"),
        (["--out", "model.ckpt"], ".safetensors"),
        (["--ckpt", "nowhere.ckpt"], "does not exist"),
    ],
)
def test_a_users_error_is_one_line_and_exit_code_2(
    program, tiny_ckpt, tmp_path, capsys, monkeypatch, change, words
):
    monkeypatch.chdir(tmp_path)
    given = ["--ckpt", str(tiny_ckpt), "--out", "a.safetensors", *change]
    assert program.main(given) == 2
    shown = capsys.readouterr()
    assert words in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""
    assert list(tmp_path.iterdir()) == []
