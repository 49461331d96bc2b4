"""The benchmark of samplers: run whole on a small untrained model, gone on with, and its tables."""

from __future__ import annotations

import json

import pytest
from emoji_font import needs_font
from PIL import Image
from running import help_imports_torch
from small_demo import write_small_demo

from benchmarks import reports, steps
from benchmarks.steps import Drawn, steps_for, write_page
from benchmarks.steps_tables import NOISY, RUNS, Mean, best_rows, mean_of
from ldm.models.diffusion.k_samplers import Noisy
from ldm.settings.samplers import SAMPLERS, samplers_for
from ldm.util import get_obj_from_str

FEW = ["--runs", "ddim trailing", "dpmpp_sde karras", "--calls", "3", "4", "--reference_steps", "3"]


def flags(folder):
    config, ckpt = write_small_demo(folder)
    kept = ["--outdir", str(folder / "kept"), "--batch_size", "2", "--psnr_n", "2"]
    return ["--config", str(config), "--ckpt", str(ckpt), *kept, *FEW]


@needs_font
def test_the_program_measures_writes_what_it_prints_and_goes_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(reports, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(steps, "PLOT", tmp_path / "steps.png")
    monkeypatch.setattr(steps, "PAGE", tmp_path / "samplers.md")
    page = "before\n{}\nold\n{}\nafter\n".format(*steps.MARKS)
    (tmp_path / "samplers.md").write_text(page, encoding="utf-8")
    given = [*flags(tmp_path), "--save", "small", "--docs"]
    assert steps.main([*given, "--n", "2"]) == 0
    printed = capsys.readouterr().out
    saved = (tmp_path / "results" / "steps-small.md").read_text(encoding="utf-8")
    assert saved == f"# {steps.TITLE}\n\n{printed}"
    assert "| `ddim trailing` | " in printed and "| `dpmpp_sde karras` (noise) | " in printed
    page = (tmp_path / "samplers.md").read_text(encoding="utf-8")
    assert page.startswith("before\n") and page.endswith("after\n") and "old" not in page
    assert "Measured on 2 prompts" in page and "| `ddim trailing` | " in page
    assert Image.open(tmp_path / "steps.png").size[0] > 1000
    kept = (tmp_path / "kept" / "measures.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(kept) == 1 + 2 * 2 * 2
    # More prompts: the first ones are not drawn again.
    assert steps.main([*given, "--n", "4"]) == 0
    more = (tmp_path / "kept" / "measures.jsonl").read_text(encoding="utf-8").splitlines()
    assert more[: len(kept)] == kept and len(more) == 1 + 4 * 2 * 2
    assert "- 4 held-out prompts" in capsys.readouterr().out
    # DDIM in three steps is its own limit here, but for where its steps lie; later ones have none.
    drawn = [Drawn(**json.loads(line)) for line in more[1:]]
    assert all(each.psnr > 15 for each in drawn[:8] if each.run == "ddim trailing")
    assert {each.psnr for each in drawn[8:]} == {None}
    assert steps.main([*given, "--scale", "2"]) == 2
    assert "holds measures of other settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--runs", "dpmpp"], "--runs 'dpmpp' was given"),
        (["--runs", "ddim karras"], "karras is for"),
        (["--calls", "2"], "--calls 2 was given; expected 3 or more"),
        (["--n", "1"], "--n 1 was given"),
    ],
)
def test_bad_settings_are_one_line(tmp_path, capsys, given, message):
    assert steps.main([*flags(tmp_path), *given]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_every_sampler_for_models_that_are_not_distilled_is_measured_with_a_spacing_of_its_own():
    measured = {}
    for run in RUNS:
        name, _, spacing = run.partition(" ")
        assert name in samplers_for(spacing)
        measured.setdefault(name, []).append(spacing)
    assert measured.keys() == SAMPLERS.keys() - {"lcm", "tcd"}


def test_the_samplers_with_noise_are_those_that_draw_it():
    ours = {n for n, e in SAMPLERS.items() if issubclass(get_obj_from_str(e.target), Noisy)}
    assert set(NOISY) == ours | {"ddpm", "restart"}


@pytest.mark.parametrize("calls", [8, 15, 25, 50])
@pytest.mark.parametrize("name", SAMPLERS)
def test_steps_take_as_many_calls_as_there_are_or_one_less(name, calls):
    taken = steps_for(name, calls)
    cost = 2 * taken - 1 if SAMPLERS[name].calls == 2 else taken + (name == "plms")
    assert calls - 1 <= cost <= calls


def test_means_and_the_best_are_read_from_the_measures():
    drawn = [Drawn(k, "ddim trailing", 8, 20.0 + 10 * k, k == 0, 0.5) for k in range(2)]
    drawn.append(Drawn(2, "ddim trailing", 15, None, True, 1.0))
    assert mean_of(drawn, "ddim trailing", 8) == Mean(25.0, 0.5, 0.5)
    drawn.append(Drawn(2, "ddim trailing", 8, None, True, 0.5))
    assert mean_of(drawn, "ddim trailing", 8) == Mean(25.0, 2 / 3, 0.5)
    means = {"ddim trailing 8": Mean(25.0, 0.5, 0.5), "heun karras 8": Mean(30.0, 0.25, 0.75)}
    *_, row = best_rows(means, ["ddim trailing", "heun karras"], [8])
    assert row.startswith("| 8 | `heun karras` 30.0 dB, `ddim trailing` 25.0 dB | `heun karras` 75")


def test_a_page_keeps_what_is_outside_the_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n{}x{}\nb".format(*steps.MARKS), encoding="utf-8")
    for _ in range(2):
        write_page(page, ["new"])
    assert page.read_text(encoding="utf-8") == "a\n{}\n\nnew\n\n{}\nb".format(*steps.MARKS)


def test_help_needs_no_torch():
    assert not help_imports_torch("benchmarks/steps.py")
