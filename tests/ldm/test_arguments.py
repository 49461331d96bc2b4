"""Command lines whose mistakes are one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ldm.arguments import ArgumentParser
from ldm.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = (
    "scripts/export_checkpoint.py",
    "scripts/download_models.py",
    "scripts/tests/test_watermark.py",
)


def test_a_mistake_is_a_user_error_that_points_to_the_help():
    parser = ArgumentParser()
    parser.add_argument("--n", type=int)
    with pytest.raises(UserError, match=r"invalid int value: 'x'; see --help"):
        parser.parse_args(["--n", "x"])


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_answer_an_unknown_flag_in_one_line_with_exit_code_2(program):
    done = subprocess.run(
        [sys.executable, str(ROOT / program), "--no-such-flag"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"{Path(program).stem}: ")
