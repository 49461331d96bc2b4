"""A report is shown as it is found, and is a page among the results only where one is asked for."""

from __future__ import annotations

from benchmarks import reports


def test_lines_are_shown_and_kept_as_a_page(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reports, "RESULTS", tmp_path)
    reports.tell(iter(["- a", "- b"]), "What it costs", None)
    assert capsys.readouterr().out == "- a\n- b\n" and not list(tmp_path.iterdir())
    reports.tell(iter(["- a"]), "What it costs", "costs-x")
    assert (tmp_path / "costs-x.md").read_text("utf-8") == "# What it costs\n\n- a\n"
