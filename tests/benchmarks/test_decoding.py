"""The decoding benchmark runs, compares like with like, and writes what it found."""

from __future__ import annotations

import pytest

from benchmarks import reports


@pytest.fixture
def decoding():
    pytest.importorskip("diffusers")
    from benchmarks import decoding

    return decoding


def test_all_sides_decode_the_same_picture_and_the_result_is_saved(
    decoding, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(reports, "RESULTS", tmp_path)
    rows = decoding.main(["--narrow", "--size", "64", "--rounds", "2", "--save", "check"])
    assert [row.split("|")[1].strip() for row in rows][:3] == [
        "ours",
        "ours, --kernels plain",
        "diffusers",
    ]
    assert all(float(row.split("|")[4]) < 1e-5 for row in rows)
    saved = (tmp_path / "decoding-check.md").read_text(encoding="utf-8")
    assert saved == f"# Decoding beside its peers\n\n{capsys.readouterr().out}"
    assert "benchmarks/decoding.py --narrow" in saved


@pytest.mark.parametrize("bad", ["--size 100", "--rounds 0"])
def test_numbers_that_cannot_be_measured_are_refused(decoding, bad, capsys):
    with pytest.raises(SystemExit) as caught:
        decoding.parse_args(bad.split())
    assert caught.value.code == 2
    assert bad.split()[0] in capsys.readouterr().err
