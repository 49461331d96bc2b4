"""The watermark benchmark marks the given pictures both ways and writes what it found."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from benchmarks import reports, watermark_quality


def test_both_ways_are_measured_and_the_result_is_saved(tmp_path, monkeypatch, capsys):
    pytest.importorskip("imwatermark")
    monkeypatch.setattr(reports, "RESULTS", tmp_path / "results")
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, level in (("a.png", 90), ("b.jpg", 140)):
        Image.fromarray(np.full((300, 400, 3), level, np.uint8)).save(folder / name)
    found = watermark_quality.main([str(folder), "--side", "256", "--save", "check"])
    assert list(found) == [(n, w) for n in ("a.png", "b.jpg") for w in ("reference", "gentle")]
    assert all(mark.wrong[0] == 0 and mark.psnr > 35 for mark in found.values())
    saved = (tmp_path / "results" / "watermark-check.md").read_text(encoding="utf-8")
    assert "| a.png | gentle |" in saved and "| **of 2** | **reference** |" in saved
    assert "own decoder" in capsys.readouterr().out


def test_the_default_pictures_are_photographs_of_installed_packages():
    paths = watermark_quality.find_pictures([])
    assert all(path.is_file() for path in paths)
    if not paths:
        with pytest.raises(SystemExit, match="no photographs"):
            watermark_quality.main([])


def test_pictures_too_small_for_a_watermark_are_refused(capsys):
    with pytest.raises(SystemExit):
        watermark_quality.parse_args(["--side", "64"])
    assert "256" in capsys.readouterr().err
