"""Run hostile cases in a process of their own that may do no harm, and say what each one did.

    results = guarded(__file__, tmp_path)          # in a test; runs this file's `cases`
    assert not faults(results)

``cases(folder)`` of that file yields ``(name, act)``: it writes what it needs below ``folder``, and
``act()`` reads it and returns something that JSON can hold, or raises. Imports at the top of the
file, and what ``cases`` does before its first yield, happen before the guard is up: load there what
the acts need (torch, Pillow's plugins). Then for each act an audit hook notes and refuses

- every process started, and every socket,
- every file opened, made, renamed or deleted outside ``folder``, but for reading the repository and
  the Python installation, which lazy imports need,
- every library loaded by ctypes,

its memory is what the process had plus ``memory`` bytes, and its time ``seconds`` of the processor.
A case that kills the process (SIGSEGV, memory of the machine) ends ``guarded`` with its name.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
READABLE = (TESTS.parent, *map(Path, {sys.prefix, sys.base_prefix, *sys.path}))
# What the interpreter and libraries read at any time: clocks, random numbers, their own memory.
SYSTEM = ("/dev/null", "/dev/urandom", "/proc/", "/sys/", "/usr/share/", "/etc/localtime")
PROCESSES = ("subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "pty.")
NETWORK = ("socket.", "urllib.", "http.", "ftplib.", "smtplib.", "webbrowser.")
CHANGES = (
    *("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate"),
    *("os.chmod", "os.chown", "os.utime", "shutil.rmtree", "shutil.move", "shutil.copyfile"),
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
LONGEST = 2_200  # characters of a message: ldm.budgets.MESSAGE, and what introduces it


@dataclass
class Result:
    """What one case did.

    Attributes:
        value: What it returned.
        error: Its exception's name, "" for none.
        text: Its exception's message.
        seconds: Of the processor.
        acts: What the guard refused.
    """

    value: Any = None
    error: str = ""
    text: str = ""
    seconds: float = 0.0
    acts: list[str] = field(default_factory=list)


def guarded(
    file: str | Path, folder: Path, *, memory: int = 2**30, seconds: float = 5, cases: str = "cases"
) -> dict[str, Result]:
    """Run the cases of a test file in a guarded process; return their results by name."""
    arguments = [str(file), cases, str(folder), str(memory), str(seconds)]
    environment = {**os.environ, "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}"}
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", __file__, *arguments],
        capture_output=True,
        encoding="utf-8",
        errors="backslashreplace",
        env=environment,
        timeout=600,
    )
    lines = [json.loads(line[1:]) for line in done.stdout.splitlines() if line[:1] == "\0"]
    results = {each.pop("name"): Result(**each) for each in lines if len(each) > 1}
    if done.returncode:
        last = lines[-1]["name"] if lines else "none"
        raise AssertionError(f"{done.returncode} after case {last}:\n{done.stderr[-4000:]}")
    return results


def faults(results: dict[str, Result], *, seconds: float = 5) -> list[str]:
    """List what no case may do: more than a value, or one line of a UserError that can be shown."""
    assert results
    return [
        f"{name}: {fault}" for name, each in results.items() for fault in _faults(each, seconds)
    ]


def _faults(result: Result, seconds: float) -> Iterator[str]:
    yield from result.acts
    if result.error not in ("", "UserError"):
        yield f"{result.error}: {result.text[:300]}"
    if result.seconds > seconds:
        yield f"took {result.seconds:.1f} s"
    if len(result.text) > LONGEST:
        yield f"a message of {len(result.text)} characters: {result.text[:100]}"
    raw = sorted({each for each in result.text if unicodedata.category(each) in ("Cc", "Cf", "Cs")})
    if raw:
        yield f"a message with {raw}: {result.text[:100]!r}"


# The guarded process.


class OutOfTime(BaseException):
    """No handler of Exception holds it up."""


class Guard:
    """Notes and refuses what no file may make this process do."""

    def __init__(self, folder: Path) -> None:
        self.folder = os.path.realpath(folder)
        self.readable = [os.path.realpath(each) for each in READABLE if str(each)]
        self.acts: list[str] = []
        self.up = False

    def hook(self, event: str, arguments: tuple) -> None:
        """See one audit event."""
        if not self.up:
            return
        self.up = False  # what follows opens nothing, but formats what it was given
        try:
            act = self._refused(event, arguments)
            if act:
                self.acts.append(act)
        finally:
            self.up = True
        if act:
            raise PermissionError(act)

    def _refused(self, event: str, arguments: tuple) -> str | None:
        if event.startswith((*PROCESSES, *NETWORK, "ctypes.dlopen")):
            return f"{event} {arguments!r:.200}"
        if event == "open":
            path, mode, flags = arguments
            writes = bool((flags or 0) & WRITING) or any(c in str(mode or "") for c in "wax+")
            return self._outside(event, path, writes=writes)
        if event in CHANGES:
            paths = [each for each in arguments if isinstance(each, (str, bytes, os.PathLike))]
            return next(filter(None, (self._outside(event, p, writes=True) for p in paths)), None)
        return None

    def _outside(self, event: str, path: Any, *, writes: bool) -> str | None:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return None  # a descriptor that is open already
        place = os.path.realpath(os.fsdecode(path))
        inside = any(
            _below(place, each) for each in [self.folder, *([] if writes else self.readable)]
        )
        if inside or place == "/dev/null" or (not writes and place.startswith(SYSTEM)):
            return None
        return f"{event} {place} {'to write' if writes else 'to read'}"


def _below(place: str, folder: str) -> bool:
    return place == folder or place.startswith(folder.rstrip(os.sep) + os.sep)


def _act(act: Callable[[], Any], guard: Guard, seconds: float) -> Result:
    result = Result()
    guard.acts = []
    started = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, seconds)
    guard.up = True
    try:
        result.value = act()
    except BaseException as error:
        result.error, result.text = type(error).__name__, str(error)
    finally:
        guard.up = False
        signal.setitimer(signal.ITIMER_PROF, 0)
    result.seconds, result.acts = time.process_time() - started, guard.acts
    return result


def _tell(**line: Any) -> None:
    sys.stdout.write("\0" + json.dumps(line) + "\n")
    sys.stdout.flush()


def _out_of_time(*_: object) -> None:
    raise OutOfTime("the processor's time is used up")


def main(file: str, name: str, folder: str, memory: str, seconds: str) -> None:
    """Run the cases of one file; write a line for each that begins and each that ends."""
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    cases = getattr(module, name)(Path(folder))
    first = next(cases)
    guard = Guard(Path(folder))
    sys.addaudithook(guard.hook)
    signal.signal(signal.SIGPROF, _out_of_time)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + int(memory)
    for case, act in itertools.chain([first], cases):
        _tell(name=case)
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        result = _act(act, guard, float(seconds))
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        _tell(name=case, **asdict(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
