from __future__ import annotations

import contextlib
import ctypes.util
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from trust.guard import Result, faults, guarded

from ldm.errors import UserError


def refuse(text: str) -> None:
    error = UserError("")
    error.args = (text,)  # as if nobody had made it legible
    raise error


def spin() -> None:
    try:
        while True:
            pass
    except Exception:
        pass


def swallow(act: Callable) -> None:
    with contextlib.suppress(Exception):
        act()


def cases(folder: Path) -> Iterator[tuple[str, Callable]]:
    outside = folder.parent / "outside"
    yield "nothing", lambda: 1
    yield "own file", lambda: (folder / "own").write_text("x")
    yield "one line", lambda: refuse("no; yes is expected")
    yield "process", lambda: subprocess.run([sys.executable, "-V"])
    yield "shell", lambda: os.system("true")
    yield "swallowed", lambda: swallow(lambda: os.system("true"))
    yield "fork", os.fork
    yield "network", socket.socket
    yield "library", lambda: ctypes.CDLL(ctypes.util.find_library("z") or "libz.so.1")
    yield "read outside", lambda: (folder.parent / "secret").read_text()
    yield "write outside", lambda: outside.write_text("x")
    yield "low write outside", lambda: os.open(outside, os.O_CREAT | os.O_WRONLY)
    yield "folder outside", outside.mkdir
    yield "deletion outside", (folder.parent / "secret").unlink
    yield "program overwritten", lambda: os.open(__file__, os.O_RDWR)
    yield "climbing", lambda: (folder / "../secret").read_text()
    yield "memory", lambda: len(bytearray(2**31))
    yield "time", spin
    yield "other error", lambda: {}["key"]
    yield "long line", lambda: refuse("x" * 5000)
    yield "raw line", lambda: refuse("\x1b[31mred")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    folder = tmp_path_factory.mktemp("guard")
    (folder / "secret").write_text("secret")
    (folder / "inside").mkdir()
    done = guarded(__file__, folder / "inside", seconds=0.2)
    assert (folder / "secret").exists() and not (folder / "outside").exists()
    return done


HARMLESS = ("nothing", "own file", "one line")


def test_what_a_harmless_case_does_is_no_fault(results: dict[str, Result]) -> None:
    assert not faults({name: results[name] for name in HARMLESS})
    assert results["nothing"].value == 1
    assert (results["one line"].error, results["one line"].text) == (
        "UserError",
        "no; yes is expected",
    )


def test_every_harm_is_a_fault(results: dict[str, Result]) -> None:
    assert len(results) == 21
    for name, result in results.items():
        assert bool(faults({name: result})) == (name not in HARMLESS), name


def test_an_act_that_a_case_hides_is_seen(results: dict[str, Result]) -> None:
    assert results["swallowed"].error == "" and "os.system" in results["swallowed"].acts[0]


def die(folder: Path) -> Iterator[tuple[str, Callable]]:
    yield "deadly", lambda: os.kill(os.getpid(), 9)


def test_a_case_that_kills_the_process_is_named(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="-9 after case deadly"):
        guarded(__file__, tmp_path, cases="die")
