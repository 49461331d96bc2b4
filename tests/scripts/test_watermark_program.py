"""The program that prints a picture's watermark."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ldm.images.io import save_picture
from ldm.safety.watermark import Watermarker

PROGRAM = Path(__file__).parents[2] / "scripts" / "tests" / "test_watermark.py"
PICTURE = np.full((256, 256, 3), 120, np.uint8)


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("watermark_program", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("file_format", ["png", "jpg"])
def test_it_says_which_watermark_there_is(program, tmp_path, capsys, file_format):
    pytest.importorskip("imwatermark")
    marked, _ = Watermarker().apply(PICTURE)
    path = save_picture(marked, tmp_path / f"a.{file_format}")
    assert program.main([str(path)]) == 0
    words = f"{path} carries the invisible watermark 'StableDiffusionV1'.\n"
    assert capsys.readouterr().out == words


@pytest.mark.parametrize("side", [256, 64])
def test_it_says_that_there_is_none_and_why_in_a_small_one(program, tmp_path, capsys, side):
    pytest.importorskip("imwatermark")
    path = save_picture(PICTURE[:side, :side], tmp_path / "a.png")
    assert program.main([str(path)]) == 1
    told = capsys.readouterr().out
    assert "carries no invisible watermark" in told and told.count("\n") == 1
    assert (": 64x64 is too small" in told) is (side == 64)


@pytest.mark.parametrize("content", [None, b"no picture"])
def test_an_unreadable_file_is_one_line_and_exit_code_2(program, tmp_path, capsys, content):
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    assert program.main([str(path)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert str(path) in told.err and told.err.count("\n") == 1


def test_it_runs_from_any_folder_without_being_installed(tmp_path):
    environment = {name: v for name, v in os.environ.items() if name != "PYTHONPATH"}
    missing = subprocess.run(
        [sys.executable, str(PROGRAM), "nothing.png"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert missing.returncode == 2
    assert missing.stderr.startswith("test_watermark: error: image nothing.png does not exist")
