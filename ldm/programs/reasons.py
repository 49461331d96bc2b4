"""Which errors a user can mend, and in what words: a program's last line."""

from __future__ import annotations

import re

from ldm.errors import UserError
from ldm.programs.packages import explained, missing_package

# What torch and Python say where a loader's workers cannot hand their batches over: memory shared
# between processes is small in most containers, and so is the number of open files.
_HANDING_OVER = re.compile(
    r".*(unable to (write to file|open shared memory object|allocate shared memory)"
    r"|out of shared memory|received \d+ items of ancdata|Too many open files).*"
)
_LOST = re.compile(r"DataLoader worker .*(is killed by signal|exited unexpectedly).*")


def reason(error: Exception, program: str) -> str | None:
    """Return in one line what the user can mend; None if it is a fault of the program.

    Args:
        error: What ended the program.
        program: Its name, which decides how its settings are given.
    """
    if isinstance(error, UserError):
        return explained(error)
    if isinstance(error, ImportError):
        return missing_package(error)
    if isinstance(error, MemoryError):
        return (
            "the machine's memory is used up; expected room for what was asked; give smaller "
            "pictures, or fewer at a time"
        )
    if isinstance(error, RuntimeError) or "DataLoader worker" in str(error):
        return _lost_worker(str(error), program)
    return None


def _lost_worker(text: str, program: str) -> str | None:
    setting = "data.params.num_workers=0" if program == "main.py" else "--num_workers 0"
    if found := _HANDING_OVER.search(text):
        return (
            f"the data loader's workers cannot hand their batches over ({_cause(found[0])}); "
            "expected room in shared memory (/dev/shm; docker's is 64 MB) and for open files; "
            f"give {setting}, or the container more by --shm-size, the shell more by ulimit -n"
        )
    if found := _LOST.search(text):
        return (
            f"the data loader lost a worker ({_cause(found[0])}); expected memory enough for all "
            f"of them; give {setting} or fewer of them, or a smaller batch"
        )
    return None


def _cause(line: str) -> str:
    """Return a library's line without the name of its exception and without advice of its own."""
    return re.sub(r"^\w+Error: ", "", line.strip()).split(". ")[0].rstrip(". ")
