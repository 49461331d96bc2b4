"""The inversion benchmark: run whole on a small untrained model, and its table's arithmetic."""

from __future__ import annotations

import pytest
import torch
from emoji_font import needs_font
from small_demo import write_small_demo

from benchmarks import inversion, reports
from benchmarks.demo_measures import psnr_of
from ldm.models.diffusion.null_text import Fit

SMALL = ["--n", "2", "--batch_size", "1", "--steps", "2", "--updates", "1"]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


@needs_font
def test_the_program_measures_the_three_ways_and_writes_what_it_prints(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(reports, "RESULTS", tmp_path / "results")
    config, ckpt = write_small_demo(tmp_path)
    flags = ["--config", str(config), "--ckpt", str(ckpt), "--save", "small", *SMALL]
    assert inversion.main(flags) == 0
    printed = capsys.readouterr().out
    saved = (tmp_path / "results" / "inversion-small.md").read_text(encoding="utf-8")
    assert saved == f"# Inversion of real pictures\n\n{printed}"
    table = {row[0]: row[1:] for row in map(cells, printed.splitlines()) if len(row) == 7}
    assert list(table) == ["way", "---", "none", "ddim", "null-text", "negative-prompt"]
    assert table["none"][2:] == ["-"] * 4
    for way in ("ddim", "null-text", "negative-prompt"):
        assert all(float(cell) == float(cell) for cell in table[way])
    assert "null-text within 0.5 dB of the autoencoder" in printed


@needs_font
def test_bad_settings_are_one_line(tmp_path, capsys):
    config, ckpt = write_small_demo(tmp_path)
    flags = ["--config", str(config), "--ckpt", str(ckpt), *SMALL, "--rate_steps", "1"]
    assert inversion.main(flags) == 2
    assert capsys.readouterr().err == (
        "rate_steps 1 given; expected 2 or more, one for each step of the inversion; raise it, as "
        "at 0 nothing is learnt\n"
    )
    with pytest.raises(SystemExit):
        inversion.main(["--n", "0"])
    assert "--n 0 given; expected 1 or more" in capsys.readouterr().err


def test_psnr_is_that_of_values_from_0_to_1():
    wanted = torch.zeros(2, 3, 4, 4)
    pictures = torch.stack([wanted[0] + 0.2, wanted[1]])  # 0.1 of the range; equal
    assert psnr_of(pictures, wanted) == pytest.approx([20.0, 100.0])


def test_the_table_has_medians_means_and_the_worst():
    none = inversion.Measured(psnr=[24.0, 26.0, 31.0])
    way = inversion.Measured([23.0, 25.9, 30.0], [1.0, 0.1, 1.0], [2.0, 4.0, 9.0])
    _, _, first, second = inversion.rows({"none": none, "ddim": way})
    assert cells(first)[1:3] == ["26.00", "27.00"]
    assert cells(second) == ["ddim", "25.90", "26.30", "1.00", "0.70", "1.00", "4.0"]


@pytest.mark.parametrize(
    ("lost", "said"),
    [([0.2, 0.6], "reached in the mean (0.40 dB), by 1 of 2"), ([0.4, 0.8], "missed in the mean")],
)
def test_the_verdict_is_of_the_mean_and_counts_the_pictures(lost, said):
    assert said in inversion.verdict(inversion.Measured(lost=lost))


def test_the_losses_are_shown_beside_the_threshold_of_their_step():
    fits = [
        tuple(Fit(torch.full((2,), 2.0 + i), torch.full((2,), 1.0 + i)) for i in range(11)),
        tuple(Fit(torch.full((1,), 2.0 + i), torch.full((1,), 5.0 + i)) for i in range(11)),
    ]
    settings = inversion.parse_args([])
    _, _, first, *_, last = inversion.loss_rows(inversion.Measured(fits=fits), settings)
    assert cells(first) == ["1", "1.00e-05", "2.00e+00", "1.00e+00", "5.00e+00"]
    assert cells(last) == ["11", "2.10e-04", "1.20e+01", "1.10e+01", "1.50e+01"]
