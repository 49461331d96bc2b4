from __future__ import annotations

import numpy as np
import pytest
from optimized_program import Program
from PIL import Image


@pytest.fixture
def program(tiny_ckpt, tmp_path, monkeypatch, capsys):
    """Make a program of this folder that runs in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    base = ["--ckpt", tiny_ckpt, "--device", "cpu", "--ddim_steps", "4", "--n_samples", "2"]
    return lambda path: Program(path, tmp_path, capsys, base)


@pytest.fixture
def sketch(tmp_path):
    """A picture of 20x16 pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "sketch.png")
    return tmp_path / "sketch.png"
