"""The benchmark of manifests measures every format, cleans up, and writes its table."""

from __future__ import annotations

import pytest
from running import help_imports_torch

from benchmarks import manifest, reports


def test_reading_and_every_format_are_measured_and_nothing_is_left(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reports, "RESULTS", tmp_path / "results")
    small = ["--records", "50", "--pictures", "3", "--size", "100", "--save", "check"]
    lines = manifest.main([*small, "--folder", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["results"]
    saved = (tmp_path / "results/manifest-check.md").read_text(encoding="utf-8")
    assert saved == f"# A manifest read and written\n\n{capsys.readouterr().out}"
    rows = {cells[1].strip(): float(cells[2]) for cells in (x.split("|") for x in lines[5:])}
    assert 200 < rows["bytes of a record on disk"] < 300
    assert 100 <= rows["bytes of a record in memory"] <= 120
    assert {name.split(", ")[1] for name in rows if name.startswith("ms ")} == {
        *("folder", "webdataset", "parquet")
    }


@pytest.mark.parametrize("bad", ["--records 0", "--pictures 0", "--size 0"])
def test_what_cannot_be_measured_is_refused(bad):
    with pytest.raises(SystemExit) as caught:
        manifest.parse_args(bad.split())
    assert caught.value.code == 2


def test_its_help_imports_no_torch():
    assert not help_imports_torch("benchmarks/manifest.py")
