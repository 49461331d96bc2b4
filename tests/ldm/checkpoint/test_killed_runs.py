"""Killed at any step, a run leaves the older file or the newer one, and the next clears up."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from narrow_models import write_narrow_model
from running import ROOT

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked children")


def kills(folder, *works):
    """Run surveys of ``tests/kill_points.py``; return what each saw at every kill."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/kill_points.py"), str(folder), *works],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return [[line for line in lines if line["work"] == work] for work in works]


def check(seen, at_least, gone_for_a_moment):
    """The old or the new is there after each kill, or back after the next run; nothing is left."""
    assert len(seen) >= at_least
    for kill in seen:
        assert kill["next"] == (kill["killed"] or "old"), kill
        assert kill["then_left"] == 0, kill
        assert bool(kill["left"]) == any("removed" in text for text in kill["said"]), kill
    assert {kill["next"] for kill in seen} == {"old", "new"}
    missing = [kill for kill in seen if kill["killed"] is None]
    assert len(missing) == gone_for_a_moment
    assert all("is back" in " ".join(kill["said"]) for kill in missing)


def test_what_is_replaced_is_there_or_comes_back(tmp_path):
    file, folder = kills(tmp_path, "replace-file", "replace-folder")
    check(file, at_least=4, gone_for_a_moment=0)
    check(folder, at_least=14, gone_for_a_moment=1)


def test_a_checkpoint_is_there_or_comes_back(tmp_path):
    write_narrow_model(tmp_path, "v1")
    exported, converted = kills(tmp_path, "export", "convert")
    check(exported, at_least=10, gone_for_a_moment=0)
    check(converted, at_least=12, gone_for_a_moment=1)
