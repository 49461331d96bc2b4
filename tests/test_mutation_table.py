"""The table of mutations names lines that exist: ``tests/mutations.py`` can be run any day."""

from __future__ import annotations

from pathlib import Path

import pytest
from mutation_table import TABLE

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(("file", "guards"), TABLE)
def test_each_line_stands_once_in_its_file_and_has_tests_that_exist(file, guards):
    source = (ROOT / file).read_text(encoding="utf-8")
    for old, new in TABLE[file, guards]:
        assert source.count(old) == 1, old
        assert new != old
    for guard in guards.split():
        assert (ROOT / guard.split("::")[0]).exists()
