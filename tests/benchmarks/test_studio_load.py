"""The report of the studio's load says what was lost, mixed up, and how memory grew."""

from __future__ import annotations

import pytest

from benchmarks import studio_load
from benchmarks.studio_load import FIRST, Seen, growth, parse_args, report


def test_memory_of_the_first_pictures_does_not_count():
    assert growth([1] * FIRST + [100] * 30 + [105] * 30) == pytest.approx(0.05)
    assert growth([1] * FIRST + [100] * 60) == 0.0
    assert growth([5] * FIRST) == 0.0


@pytest.mark.parametrize(
    ("seen", "code", "verdict"),
    [
        (Seen(memory=[100] * 60), 0, "| met |"),
        (Seen(memory=[100] * 55 + [200] * 55), 0, "not met"),
        (Seen(memory=[100] * 60, lost=["visitor 3: gone"]), 1, "not met"),
        (Seen(memory=[100] * 60, mixed_up=1), 1, "not met"),
        (Seen(), 1, "met"),
    ],
)
def test_what_was_seen_decides_the_verdict_and_the_exit_code(
    seen, code, verdict, monkeypatch, capsys
):
    monkeypatch.setattr(studio_load, "measure", lambda args: seen)
    assert studio_load.main([]) == code
    text = capsys.readouterr().out
    assert verdict in text
    assert all(each in text for each in seen.lost)
    assert "20 visitors" in "\n".join(report(parse_args([]), seen))
