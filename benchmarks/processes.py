"""Processes as Linux shows them in /proc: a process's children, what they are, who still runs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

PAUSE = 0.02  # seconds between two looks


def children(pid: int) -> list[int]:
    """Return the processes that a process, in any of its threads, has started and that run."""
    found: set[int] = set()
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):  # a thread that has just ended
                found |= {int(child) for child in (thread / "children").read_text().split()}
    return sorted(found)


def descendants(pid: int) -> list[int]:
    """Return the children of a process, theirs, and so on."""
    found = children(pid)
    return found + [below for child in found for below in descendants(child)]


def draws(pid: int) -> bool:
    """Whether a process has loaded torch; others only look after files that children share."""
    with contextlib.suppress(OSError):
        return b"libtorch" in Path(f"/proc/{pid}/maps").read_bytes()
    return False


def title(pid: int) -> str:
    """Return a process's command line, or what it calls itself; empty if it is gone."""
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
        return text.decode(errors="replace").strip()
    return ""


def runs(pid: int) -> bool:
    """Whether a process is there and not only waits for its parent to hear of its end."""
    with contextlib.suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state not in "ZX"
    return False


def alive(pids: Sequence[int], patience: float = 10.0) -> list[int]:
    """Return those processes that still run after some seconds."""
    late = time.monotonic() + patience
    left = list(pids)
    while left and time.monotonic() < late:
        left = [pid for pid in left if runs(pid)]
        time.sleep(PAUSE)
    return left
