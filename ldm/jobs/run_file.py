"""``run.json``: what a run was begun with, kept beside its pictures for who goes on with it."""

from __future__ import annotations

import json
from typing import Any

from ldm.errors import UserError
from ldm.jobs.run import RunPlan, Survey
from ldm.legible import quoted

NAME = "run.json"


def read_run(plan: RunPlan) -> dict[str, Any] | None:
    """Return what the run in a plan's place was begun with; None where none is there.

    Raises:
        UserError: Something else is there under the name.
        StoreError: The place cannot be read.
    """
    try:
        found = json.loads(plan.store.get(NAME))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("format"), str):
        raise UserError(
            f"--out {plan.settings.out}: {NAME} there is not of a run; expected a run of this "
            "program, or none; give another --out"
        )
    return found


def check_run(plan: RunPlan, begun: dict[str, Any] | None) -> None:
    """Check that a plan goes on as the run was begun.

    Raises:
        UserError: It writes another kind of files.
    """
    asked = plan.settings.format
    if begun is not None and begun["format"] != asked:
        raise UserError(
            f"--format {asked} was given; the run in {plan.settings.out} was begun with --format "
            f"{quoted(begun['format'])}; expected one kind of files in a run; give that, or "
            "another --out"
        )


def write_run(plan: RunPlan, found: Survey) -> None:
    """Write down what a run goes on with.

    Raises:
        StoreError: It cannot be written.
    """
    state = found.state
    entry = {
        "format": plan.settings.format,
        "jobs": {
            "name": plan.settings.jobs,
            "bytes": state.size,
            "modified_ns": state.modified,
            "sha256": state.sha256,
            "pictures": found.pictures,
        },
        "model": plan.reader.model,
        "settings": plan.given,
    }
    plan.store.put(NAME, json.dumps(entry, indent=1, default=str).encode("ascii") + b"\n")


def notice_on_jobs(begun: dict[str, Any] | None, found: Survey) -> str | None:
    """Say that the file of jobs is another one than the run last went on with; None if not."""
    jobs = (begun or {}).get("jobs")
    before = jobs.get("sha256") if isinstance(jobs, dict) else None
    if before is None or before == found.state.sha256:
        return None
    return (
        f"the file of jobs has changed since the run was begun; {found.remaining} of its "
        f"{found.pictures} pictures are left to draw"
    )
