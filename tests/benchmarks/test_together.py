"""The measure of drawing together draws what it says, and compares files."""

from __future__ import annotations

import pytest

from benchmarks import together


def test_pictures_differ_and_have_their_own_bytes_in_every_batch(monkeypatch):
    monkeypatch.setattr(together, "SIZES", (2,))
    args = together.parse_args(["--steps", "1", "--pictures", "2", "--repeats", "1"])
    rows = [row.split("|") for row in together.measure(args, "plain")]
    assert [row[2].strip() for row in rows] == ["alone, by generate", "2"]
    assert all(row[5].strip() == "2 of 2" for row in rows)


def test_counts_go_from_one(capsys):
    with pytest.raises(SystemExit):
        together.parse_args(["--pictures", "0"])
    assert "go from 1" in capsys.readouterr().err
