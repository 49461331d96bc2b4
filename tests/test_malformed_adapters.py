"""Adapter files that are damaged, hostile or made for other models: one line each, no picture."""

from __future__ import annotations

from pathlib import Path

import pytest
from malformed_adapters import every
from PIL import Image
from running import load_program

from ldm.pipelines.pipeline import Pipeline

FEW = ["--ddim_steps", "1", "--n_samples", "1", "--n_iter", "1", "--skip_grid"]


@pytest.fixture(scope="module")
def program():
    return load_program("scripts/txt2img.py")


def flags(flag: str, file: Path, picture: Path) -> list[str]:
    if flag.startswith("--control"):
        return ["--control", f"{flag.split()[1]}={file}:{picture}"]
    return [flag, str(file)]


def test_each_is_refused_in_one_line_and_nothing_is_drawn_or_run(
    program, tiny_ckpt, tmp_path, monkeypatch, capsys
):
    """All in one test: the kinds of control depend on the model, which is loaded once."""
    monkeypatch.chdir(tmp_path)
    model = Pipeline.load(tiny_ckpt, device="cpu").model
    Image.new("RGB", (16, 16)).save("picture.png")
    refused, faults = 0, []
    for number, (flag, wrong, write) in enumerate(every(model)):
        file = write(tmp_path / f"file_{number}")
        base = ["--ckpt", str(tiny_ckpt), "--device", "cpu", "--outdir", "out", *FEW]
        code = program.main([*base, *flags(flag, file, Path("picture.png"))])
        lines = capsys.readouterr().err.strip().splitlines()
        told = [line for line in lines if str(file.name) in line]
        if code != 2 or not told or len(lines[-1]) > 600 or "Traceback" in "".join(lines):
            faults.append((flag, wrong, code, lines))
        refused += 1
    assert not faults, "\n".join(map(str, faults))
    assert refused >= 30
    assert not list(Path("out").rglob("*.png")) and not Path("was_run").exists()
