"""The adapters that ship do on the bundled model what they were trained for."""

from __future__ import annotations

from pathlib import Path

import pytest
from emoji_font import needs_font

from benchmarks import adapters
from ldm.checkpoint.load import load_model

ROOT = Path(__file__).resolve().parents[1]
FEW = ["--n", "4", "--batch_size", "4", "--steps", "8", "--adapters", str(ROOT / "models")]


@pytest.fixture(scope="module")
def bench():
    demo = ROOT / "models/ldm/demo"
    model, _ = load_model(demo / "config.yaml", demo / "model.safetensors")
    return adapters.Bench(model, adapters.parse_args(FEW))


@needs_font
def test_a_small_thing_stands_in_the_box_that_is_drawn(bench):
    overlap, right = adapters.boxes(bench)
    assert overlap.within > 0.6 and overlap.without < 0.3
    assert right.within == 1.0


@needs_font
def test_the_new_word_draws_the_new_thing(bench):
    [found] = adapters.tangerine(bench)
    assert found.within >= 0.75 and found.without == 0


@needs_font
def test_things_get_an_outline_and_stay_what_they_are(bench):
    outlined, right = adapters.outline(bench)
    assert outlined.within >= 0.75 and outlined.without == 0
    assert right.within >= right.without - 0.25


@needs_font
def test_a_picture_is_the_prompt(bench):
    thing, background = adapters.picture(bench)
    assert thing.within >= 0.75 and thing.without <= 0.25
    assert background.within >= 0.75


def test_all_files_together_stay_small():
    shipped = [
        path
        for folder in ("lora", "embeddings", "controlnet")
        for path in (ROOT / "models" / folder).glob("demo-*")
    ]
    assert shipped and sum(path.stat().st_size for path in shipped) <= 3e6


def test_they_are_read_without_a_warning(bench):
    from ldm.adapters.control import read_control

    report = read_control(bench.file("boxes"), bench.model).report
    assert not report.warnings() and report.kind.endswith("T2I-Adapter")
