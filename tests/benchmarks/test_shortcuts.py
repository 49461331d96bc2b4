"""The measure of shortcuts, run whole on a tiny untrained model."""

from __future__ import annotations

import pytest
import torch
from emoji_font import needs_font
from small_demo import write_small_demo

from benchmarks import reports, shortcuts
from benchmarks.demo_measures import Score
from ldm.settings.generation import Txt2ImgSettings

NOTHING = Score(1.0, 0.5, 0.25, 0.0, 0.0)


@needs_font
def test_the_program_prints_a_row_for_each_case_between_two_plain_ones(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(reports, "RESULTS", tmp_path / "results")
    config, ckpt = write_small_demo(tmp_path)
    given = ["--config", str(config), "--ckpt", str(ckpt), "--n", "2", "--steps", "2"]
    cases = ["reuse-2", "zero-snr", "turns"]
    assert shortcuts.main([*given, "--only", *cases, "--save", "x"]) == 0
    out = capsys.readouterr().out
    rows = [line.split(" | ") for line in out.splitlines() if line.startswith("| ")][1:]
    assert [row[0].strip("| ") for row in rows] == ["plain", *cases, "plain, again"]
    assert rows[0][2] == rows[-1][2] == "same" and rows[1][1] == "`--reuse 2`"
    assert (
        (tmp_path / "results" / "shortcuts-x.md")
        .read_text(encoding="utf-8")
        .endswith(out.splitlines()[-1] + "\n")
    )


@pytest.mark.parametrize("name", shortcuts.CASES)
def test_each_case_is_one_that_a_user_can_ask_for(name):
    settings = Txt2ImgSettings(spacing="trailing", **shortcuts.CASES[name])
    settings.validate()
    assert settings.is_shortened and not settings.notices()


def test_time_is_a_ratio_to_the_mean_of_both_plain_runs():
    def found(level, seconds):
        return shortcuts.Found(torch.full((2, 3, 4, 4), level), seconds, 1, NOTHING)

    table = {"plain": found(0.0, 1.0), "reuse-2": found(0.2, 1.0), "plain, again": found(0.0, 3.0)}
    _, _, plain, case, again = shortcuts.rows(table)
    assert plain.endswith("| same | 50% | 25% | 100% | 0.50 |") and again.endswith("1.50 |")
    assert "| `--reuse 2` | 20.0 |" in case  # an error of 0.1 in values from 0 to 1


def test_a_model_that_is_not_there_is_refused(capsys):
    assert shortcuts.main(["--ckpt", "nowhere.safetensors"]) == 2
    assert "there is no file" in capsys.readouterr().err
