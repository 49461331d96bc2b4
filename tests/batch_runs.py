"""Runs of scripts/batch.py on the tiny model: files of jobs, plans, and what is on disk."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

from ldm.jobs.manifest import Manifest
from ldm.jobs.run import RunPlan, planned
from ldm.jobs.store import open_store
from ldm.settings.batch import BatchSettings

STEPS = 2


def write_csv(path: Path, rows: list[dict]) -> Path:
    """Write a file of jobs whose columns are those of all rows."""
    names = list(dict.fromkeys(name for row in rows for name in row)) or ["seed"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_jsonl(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def mixed_rows(count: int) -> list[dict]:
    """Rows of two sizes and two numbers of steps, whose prompts and scales all differ."""
    return [
        {
            "prompt": f"a cat, number {n}",
            "seed": 100 + n,
            "W": 16 + 4 * (n % 2),
            "ddim_steps": STEPS + n // 2 % 2,
            "spacing": "trailing",
            "scale": 2 + n % 3,
        }
        for n in range(count)
    ]


def plan_of(jobs: Path, out: Path, ckpt: Path, **given) -> RunPlan:
    """Return the plan of a command line that gives these settings."""
    given = {"jobs": str(jobs), "out": str(out), "ckpt": str(ckpt), "device": "cpu", **given}
    settings = BatchSettings(**given)
    settings.validate()
    return planned(settings, frozenset(given))


def pictures_in(out: Path) -> dict[str, str]:
    """Return the SHA-256 of each picture's file by its name."""
    found = sorted(out.glob("[0-9]*/*.png"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def records_in(out: Path):
    """Return the manifest's records."""
    return Manifest(open_store(str(out))).done()


def numbers_written(out: Path) -> list[int]:
    """Return the number of every line in the manifest's parts, sorted: one for each drawing."""
    parts = [path.read_text().splitlines() for path in (out / "manifest").iterdir()]
    return sorted(json.loads(line)["number"] for part in parts for line in part)
