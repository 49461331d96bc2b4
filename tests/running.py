"""Run the repository's programs from tests: in this process, or in one of their own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]


def load_program(path: str) -> ModuleType:
    """Import a program such as ``scripts/txt2img.py`` without running it."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def start_program(path: str, *arguments: str, cwd: Path, **environment: str) -> subprocess.Popen:
    """Start a program as a user would; its outputs are captured as UTF-8 text."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / path), *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def run_program(path: str, *arguments: str, cwd: Path, **environment: str) -> tuple[int, str, str]:
    """Run a program to its end; return exit code, stdout and stderr."""
    process = start_program(path, *arguments, cwd=cwd, **environment)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def help_imports_torch(path: str) -> bool:
    """Return whether a program such as ``benchmarks/memory.py`` imports torch to show its help."""
    code = (
        "import runpy, sys; sys.argv = ['x', '--help']\n"
        f"try: runpy.run_path({str(ROOT / path)!r}, run_name='__main__')\n"
        "except SystemExit: print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=True)
    # Anything else was printed where the program did not end as --help does.
    return {"True": True, "False": False}[done.stdout.split()[-1]]
