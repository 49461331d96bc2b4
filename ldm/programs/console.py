"""A run on the terminal, and how it ends: one progress bar, notices above it, errors as one line.

Exit codes: 0, 2 for a user's error or a missing package, 130 for Ctrl-C; never with a traceback
for those.

    console = Console("txt2img", sys.stdout, sys.stderr)
    with exit_codes(console, lambda: "finished pictures are kept") as ending:
        ...
    return ending.code
"""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from ldm.legible import legible, one_line
from ldm.pipelines.progress import Notice, Progress
from ldm.programs.interrupts import INTERRUPTED, Interrupts

if TYPE_CHECKING:
    from tqdm import tqdm


STEP = "step"


class Console:
    """Shows what a run tells, made legible: it may quote what a file or a visitor says.

    Args:
        program: The name before errors.
        out: Where information goes; None, as ``sys.stdout`` of a closed descriptor, is nowhere.
        err: Where warnings, errors and the progress bar go, or None.
        unit: What the progress bar counts; where it is no step, it counts pictures already.
    """

    def __init__(
        self, program: str, out: TextIO | None, err: TextIO | None, unit: str = STEP
    ) -> None:
        self.program, self.out, self.err, self.unit = program, _Outlet(out), _Outlet(err), unit
        self._bar: tqdm | None = None
        self._seen: set[str] = set()

    def say(self, text: str) -> None:
        """Show lines of information."""
        self._write("\n".join(map(legible, text.split("\n"))), self.out)

    def warn(self, text: str) -> None:
        """Show a warning, once."""
        shown = one_line(text)
        if shown not in self._seen:
            self._seen.add(shown)
            self._write(f"warning: {shown}", self.err)

    def fail(self, text: str, kind: str = "error") -> None:
        """Show the reason for the program's end as one line."""
        self.close()
        self._write(f"{self.program}: {kind}: {one_line(text)}", self.err)

    def observe(self, event: Notice | Progress) -> None:
        """Show one event of a run."""
        if isinstance(event, Progress):
            self._advance(event)
        elif event.warning:
            self.warn(event.text)
        else:
            self.say(event.text)

    def _write(self, text: str, stream: _Outlet) -> None:
        """Show a line, above the bar if there is one."""
        if self._bar is not None:
            self._bar.clear()
        stream.write(f"{text}\n")
        stream.flush()
        if self._bar is not None:
            self._bar.refresh()

    def _advance(self, progress: Progress) -> None:
        if progress.total == 0:  # strength 0: there is nothing to wait for
            return
        if self._bar is None:
            from tqdm import tqdm

            # A log file is better off with a line now and then.
            interval = 0.1 if self.err.isatty() else 10.0
            self._bar = tqdm(
                total=progress.total,
                desc="drawing",
                unit=self.unit,
                file=self.err,
                mininterval=interval,
                dynamic_ncols=True,
            )
        if self.unit == STEP:
            shown = f"pictures {progress.pictures}/{progress.total_pictures}"
            self._bar.set_postfix_str(shown, refresh=False)
        self._bar.update(progress.done - self._bar.n)

    def close(self) -> None:
        """Finish the progress bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class _Outlet:
    """A stream that falls silent once nobody is behind it.

    A reader that goes away (``| head -1``) or a log's full disk must not end the run, whose
    product is files.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = io.StringIO() if stream is None else stream
        self._silent = stream is None
        # A terminal that cannot show a prompt's script must not stop the run either.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> None:
        self._attempt(lambda: self._stream.write(text))

    def flush(self) -> None:
        self._attempt(self._stream.flush)

    def _attempt(self, act: Callable[[], Any]) -> None:
        if self._silent:
            return
        try:
            act()
        except OSError:
            self._silent = True
            # The descriptor too, as the interpreter flushes the stream once more when it ends.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)  # what tqdm asks: isatty, encoding, fileno


LOGGERS = "ldm", "optimizedSD"
"""Whose warnings are for who runs a program, or draws on a page."""


class ConsoleLog(logging.Handler):
    """Passes the logged warnings of the library, and of pages, to a console.

    Example:
        >>> with ConsoleLog(console):                                    # doctest: +SKIP
        ...     sampler.make_schedule(7)
    """

    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Show one record."""
        self._console.warn(record.getMessage())

    def __enter__(self) -> ConsoleLog:
        for name in LOGGERS:
            logging.getLogger(name).addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(self)


OK, USER_ERROR = 0, 2


@dataclass
class Ending:
    """How a program ends.

    Attributes:
        code: Its exit code; a program may set another one than OK.
    """

    code: int = OK


@contextmanager
def exit_codes(
    console: Console, left: Callable[[], str] = lambda: "", *, takes_warnings: bool = True
) -> Iterator[Ending]:
    """Turn what ends the ``with`` block into an exit code and one line.

    Args:
        console: Shows errors; closed in the end.
        left: Says what an interruption leaves behind.
        takes_warnings: The console shows what the library logs as warnings, and Python's own are
            not shown. False leaves both as they are.
    """
    ending = Ending()
    with Interrupts() as interrupts:
        try:
            with _library_warnings(console) if takes_warnings else nullcontext():
                yield ending
        except (Exception, KeyboardInterrupt) as error:
            from ldm.programs.reasons import reason  # of errors alone

            if interrupts.came or isinstance(error, KeyboardInterrupt):
                console.fail(left(), kind="stopped")
                ending.code = INTERRUPTED
            elif (text := reason(error, console.program)) is None:
                raise
            else:
                console.fail(text)
                ending.code = USER_ERROR
        finally:
            console.close()


@contextmanager
def _library_warnings(console: Console) -> Iterator[None]:
    with ConsoleLog(console), warnings.catch_warnings():
        if not sys.warnoptions:  # libraries' advice to programmers; python -W shows it
            warnings.simplefilter("ignore")
        yield
