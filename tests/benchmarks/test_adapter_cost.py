"""The benchmark of what adapters cost: run whole on a narrow UNet, both libraries taking turns."""

from __future__ import annotations

import pytest

from benchmarks import adapter_cost, reports

pytest.importorskip("peft")

NARROW = ["--narrow", "--size", "64", "--steps", "1", "--rounds", "1", "--rank", "2"]


def test_all_ways_are_timed_in_both_libraries_and_the_result_is_written(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(reports, "RESULTS", tmp_path)
    assert adapter_cost.main([*NARROW, "--save", "small"]) == 0
    printed = capsys.readouterr().out
    saved = (tmp_path / "adapter-cost-small.md").read_text(encoding="utf-8")
    assert saved == f"# {adapter_cost.TITLE}\n\n{printed}"
    rows = [line.split("|")[1:-1] for line in printed.splitlines() if line.startswith("| ")]
    assert [row[0].strip() for row in rows[1:]] == list(adapter_cost.WAYS)
    assert all(float(cell.strip(" *")) > 0 for row in rows[1:] for cell in row[1:])


@pytest.mark.parametrize("flags", [["--rank", "0"], ["--size", "100"]])
def test_bad_settings_are_one_line(flags, capsys):
    with pytest.raises(SystemExit):
        adapter_cost.main([*NARROW, *flags])
    assert flags[0] in capsys.readouterr().err.splitlines()[-1]
