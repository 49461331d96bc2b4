"""How a program begins and ends: flags read and checked, libraries imported; then out at once."""

from __future__ import annotations

import atexit
import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, TypeVar

from ldm.processor import respect_quota
from ldm.programs.console import Console, exit_codes
from ldm.settings.command_line import parse
from ldm.settings.option import Settings

Schema = TypeVar("Schema", bound=Settings)


def read_flags(
    schema: type[Settings], description: str, argv: Sequence[str] | None
) -> dict[str, Any]:
    """Return the settings that a command line gives; let pictures be as large as it says.

    Torch, which comes later, is told of a quota of the processor's time.

    Args:
        schema: The settings class whose options are the program's flags.
        description: First lines of ``--help``.
        argv: Arguments without the program's name; None takes ``sys.argv``.

    Raises:
        UserError: A flag is not known, or its value is wrong.
    """
    respect_quota()
    given = parse(schema, description, argv)
    if "max_pixels" in given:
        from ldm.images.opening import allow_pixels  # imports Pillow, which --help can do without

        allow_pixels(given["max_pixels"])
    return given


def run_settings_program(
    schema: type[Schema],
    description: str,
    act: Callable[[Console, Schema], object],
    argv: Sequence[str] | None = None,
    *,
    left: str = "nothing was written",
) -> int:
    """Run a program and return its exit code: 0, 2 for a user's error, 130 for Ctrl-C.

    Args:
        schema: The settings class whose options are the program's flags.
        description: First lines of ``--help``.
        act: Does the work; its settings are checked.
        argv: Arguments without the program's name; None takes ``sys.argv``.
        left: What an interruption leaves behind.
    """
    console = Console(schema.program, sys.stdout, sys.stderr)
    with exit_codes(console, lambda: left) as ending:
        settings = schema(**read_flags(schema, description, argv))
        settings.validate()
        act(console, settings)
    return ending.code


@contextmanager
def beginning() -> Iterator[None]:
    """Import torch and load a model within a ``with`` block without looking for garbage.

    What they make stays for good, a million objects: looking through them again and again takes a
    tenth of the time until the first step, and would do so in every later search. In a process
    that has torch already nothing is changed.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def leave(code: int) -> NoReturn:
    """End the program with an exit code; for the last line of a script.

    The interpreter takes 0.4 s to take a loaded torch apart, object by object; the system takes it
    all at once. What has to be done at the end is done first. Under a debugger or a profiler, with
    threads at work, or where another program runs the script, it ends as always.
    """
    ours = sys._getframe(1).f_back is None  # else somebody waits for what comes after
    watched = sys.gettrace() or sys.getprofile() or sys.flags.inspect or sys.flags.interactive
    threads = [each for each in threading.enumerate() if not each.daemon]
    if not ours or watched or len(threads) > 1:
        sys.exit(code)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # nobody is behind it any more
            stream.flush()
    os._exit(code)
