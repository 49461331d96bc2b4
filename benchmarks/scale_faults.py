"""What scripts/batch.py does when the disk is full or cannot be written, or its job file changes.

Disks are tmpfs mounts in a namespace of their own (``unshare``), gone when its shell ends.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.scale_runs import ROOT, Way, judge, pictures_in

# The first run meets the fault; what it left is copied before the fault is taken away.
SCRIPT = """
mkdir -p {disk} {met} {kept} && mount -t tmpfs -o {fault} tmpfs {disk} || exit 99
{run} > {message} 2>&1
echo $? > {code}
cp -a {disk}/. {met} && mount -o remount,rw,size=1g {disk} && {run} >> {log} 2>&1
cp -a {disk}/. {kept}
"""


def faults(way: Way, jobs: Path, folder: Path, expected: Mapping[int, str]) -> list[dict[str, Any]]:
    """Try each fault, then go on without it; return a row of the report for each.

    Args:
        way: How the program draws.
        jobs: The job file.
        folder: Holds what the tries leave.
        expected: The SHA-256 of each picture, by number.
    """
    small = max(40_000, sum(4000 for _ in expected) // 2)  # bytes: about half of the pictures
    return [
        _on_disk("full disk", f"size={small}", way, jobs, folder, expected),
        _on_disk("read-only folder", "ro", way, jobs, folder, expected),
        _changed(way, jobs, folder, expected),
    ]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def _on_disk(
    name: str, fault: str, way: Way, jobs: Path, folder: Path, expected: Mapping[int, str]
) -> dict[str, Any]:
    base = folder / name.replace(" ", "-")
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir()
    paths = {word: base / word for word in ("disk", "met", "kept", "message", "code", "log")}
    run = shlex.join(way.command(jobs, paths["disk"]))
    words = {word: shlex.quote(str(path)) for word, path in paths.items()}
    script = SCRIPT.format(**words, run=run, fault=fault)
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], cwd=ROOT, env=_environment(), check=False
    )
    if done.returncode == 99 or not paths["code"].exists():
        return {"fault": name, "code": "-", "message": "no mount allowed: not tried", "good": True}
    met, kept = (judge(pictures_in(paths[word]), expected) for word in ("met", "kept"))
    torn = met.doubled or met.different or met.strangers
    return {
        "fault": name, "code": int(paths["code"].read_text()), "good": kept.good and not torn,
        "message": _last_line(paths["message"].read_text()),
    }  # fmt: skip


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return lines[-1].replace("|", "\\|") if lines else ""


def _changed(way: Way, jobs: Path, folder: Path, expected: Mapping[int, str]) -> dict[str, Any]:
    """Draw, change the last line, draw again, change it back, draw again."""
    base = folder / "changed"
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir()
    lines = jobs.read_text(encoding="utf-8").splitlines()
    other = [*lines[:-1], lines[-1].replace("a ", "a small ", 1)]
    again = base / "jobs.csv"
    for text in (lines, other, lines):
        again.write_text("\n".join(text) + "\n", encoding="utf-8")
        done = subprocess.run(
            way.command(again, base / "out"), cwd=ROOT, env=_environment(),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if text is other:
            middle, told = judge(pictures_in(base / "out"), expected), done
    last = judge(pictures_in(base / "out"), expected)
    wanted = dataclasses.replace(last, different=1)
    return {
        "fault": "one line of the job file changes", "code": told.returncode,
        "message": _last_line(told.stdout + told.stderr),
        "good": last.good and middle in (last, wanted),
    }  # fmt: skip
