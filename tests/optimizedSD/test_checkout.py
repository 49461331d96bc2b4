"""The programs use the ldm package of their own checkout: parts of two versions never meet.

In the fork a folder copied over an older checkout met that one's samplers and failed in the middle
of a run ("unexpected keyword argument 'sampler'").
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "optimizedSD"
PROGRAMS = sorted(path.name for path in FOLDER.glob("*_*.py"))
PROGRAMS = [name for name in PROGRAMS if "__main__" in (FOLDER / name).read_text("utf-8")]


def test_the_programs_are_found():
    assert {"optimized_txt2img.py", "optimized_img2img.py", "inpaint_gradio.py"} <= set(PROGRAMS)


@pytest.mark.parametrize("program", PROGRAMS)
def test_another_ldm_on_the_path_does_not_get_in_the_way(program, tmp_path):
    other = tmp_path / "ldm" / "__init__.py"
    other.parent.mkdir()
    other.write_text("raise ImportError('the ldm of another checkout')\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(FOLDER / program), "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "--prompt" in done.stdout or "--port" in done.stdout
