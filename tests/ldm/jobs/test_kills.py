"""kill -9 at every step on the disk: nothing recorded is lost or torn, nothing is there twice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "job_kills.py"

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.mark.parametrize("format, least", [("folder", 30), ("webdataset", 15)])
def test_a_writer_killed_at_any_step_leaves_a_run_that_goes_on(tmp_path, format, least):
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(tmp_path), format],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= least  # kills
