"""What a process draws with in tests; functions of a module, which that process can import."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

from apps.line_bot.worker import BadPhoto
from ldm.errors import UserError

SECRET = "a-secret-of-the-environment"


def fails_to_load(*_):
    raise UserError("there is no such device")


def told_by_prompt(*_):
    """Return what draws a text file, or fails as the prompt says."""
    errors = {
        "user": UserError("the size is wrong"),
        "photo": BadPhoto("no photo"),
        "disk": OSError(errno.ENOSPC, "No space left on device"),
        "fault": ZeroDivisionError("x"),
    }

    def draw(task, folder: Path, check, source=None) -> None:
        if task.prompt in errors:
            raise errors[task.prompt]
        while task.prompt == "slow" or (task.prompt == "once" and _first(folder)):
            check()
            time.sleep(0.01)
        facts = [os.getpid(), os.nice(0), *(v for v in os.environ.values() if SECRET in v)]
        (folder / "0.png").write_text(f"{task.prompt} {source} {facts}")

    return draw


def _first(folder: Path) -> bool:
    """Whether no process was here before this one; it leaves its number."""
    mark = folder.parent.parent / "first"
    if not mark.exists():
        mark.write_text(str(os.getpid()))
    return mark.read_text() == str(os.getpid())
