"""The Python examples of pages that have no test of their own run as they stand, from any folder.

A block that needs more than the clone says so in its first line.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from running import load_program

from ldm.pipelines import models

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("course", "faces", "masks", "repainting", "sweeps", "upscaling")
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
EXAMPLES = [
    pytest.param(block, id=f"{page} {number}")
    for page in PAGES
    for number, block in enumerate(BLOCK.findall((ROOT / f"docs/{page}.md").read_text("utf-8")))
    if not block.startswith("# needs")
]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """An empty folder, but for the picture that docs/sweeps.md draws before its examples."""
    folder = tmp_path_factory.mktemp("examples")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(models, "V1_CHECKPOINTS", ())  # as in a fresh clone
        given = ["--prompt", "a red apple on a blue background", "--n_iter", "1", "--n_samples"]
        assert load_program("scripts/txt2img.py").main([*given, "1", "--ddim_steps", "2"]) == 0
    return folder


def test_most_examples_need_nothing_else():
    assert len(EXAMPLES) >= 4


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_runs_and_shows_or_saves_something(example, drawn, monkeypatch, capsys):
    monkeypatch.chdir(drawn)
    monkeypatch.setattr(models, "V1_CHECKPOINTS", ())
    before = {*drawn.rglob("*")}
    exec(compile(example, "an example", "exec"), {})
    assert capsys.readouterr().out or {*drawn.rglob("*")} - before
