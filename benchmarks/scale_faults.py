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

MOST = 40  # pictures
# The first run meets the fault; what it left is copied before the fault is taken away.
SCRIPT = """
mkdir -p {disk} {met} {kept} && mount -t tmpfs -o {fault} tmpfs {disk} || exit
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
    base = folder / "faults"
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir()
    few = base / "jobs.csv"  # a run is begun again and again here
    lines = jobs.read_text(encoding="utf-8").splitlines()[: MOST + 1]
    few.write_text("\n".join(lines) + "\n", encoding="utf-8")
    expected = {number: digest for number, digest in expected.items() if number < MOST}
    half = max(40_000, 4000 * len(expected))  # bytes: about so much as half of the pictures take
    return [
        _on_disk("full disk", f"size={half}", way, few, base, expected),
        _on_disk("read-only folder", "ro", way, few, base, expected),
        _changed(way, few, base, expected),
    ]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def _on_disk(
    name: str, fault: str, way: Way, jobs: Path, folder: Path, expected: Mapping[int, str]
) -> dict[str, Any]:
    base = folder / name.replace(" ", "-")
    base.mkdir()
    paths = {word: base / word for word in ("disk", "met", "kept", "message", "code", "log")}
    run = shlex.join(way.command(jobs, paths["disk"]))
    words = {word: shlex.quote(str(path)) for word, path in paths.items()}
    script = SCRIPT.format(**words, run=run, fault=fault)
    unshare = shutil.which("unshare")
    if unshare is not None:
        command = [unshare, "-rm", "sh", "-c", script]
        subprocess.run(command, cwd=ROOT, env=_environment(), check=False)
    if not paths["code"].exists():
        return {"fault": name, "code": "-", "message": "no mount allowed: not tried", "good": True}
    met, kept = (judge(pictures_in(paths[word]), expected) for word in ("met", "kept"))
    torn = met.doubled or met.different or met.strangers
    return {
        "fault": name, "code": int(paths["code"].read_text()), "good": kept.good and not torn,
        "message": _last_line(paths["message"].read_text(), base),
    }  # fmt: skip


def _last_line(text: str, base: Path) -> str:
    """Return what a program said last, as a table can show it; folders begin with the fault's."""
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return lines[-1].replace(f"{base}/", "").replace("|", "\\|") if lines else ""


def _changed(way: Way, jobs: Path, folder: Path, expected: Mapping[int, str]) -> dict[str, Any]:
    """Draw, change the last line, draw again, change it back, draw again."""
    base = folder / "changed"
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
        "message": _last_line(told.stdout + told.stderr, base),
        "good": last.good and middle in (last, wanted),
    }  # fmt: skip
