"""A run on the terminal: one progress bar, notices above it, errors as a single line."""

from __future__ import annotations

import logging
from typing import TextIO

from tqdm import tqdm

from ldm.pipelines.events import Notice, Progress


class Console:
    """Shows what a run tells.

    Args:
        program: The name before errors.
        out: Where information goes.
        err: Where warnings, errors and the progress bar go.
    """

    def __init__(self, program: str, out: TextIO, err: TextIO) -> None:
        self.program, self.out, self.err = program, out, err
        self._bar: tqdm | None = None
        self._seen: set[str] = set()
        for stream in (out, err):
            # A terminal that cannot show a prompt's script must not stop the run.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")

    def say(self, text: str) -> None:
        """Show a line of information."""
        tqdm.write(text, file=self.out)
        self.out.flush()

    def warn(self, text: str) -> None:
        """Show a warning, once."""
        if text not in self._seen:
            self._seen.add(text)
            tqdm.write(f"warning: {text}", file=self.err)

    def fail(self, text: str, kind: str = "error") -> None:
        """Show the reason for the program's end as one line."""
        self.close()
        tqdm.write(f"{self.program}: {kind}: {' '.join(text.split())}", file=self.err)

    def observe(self, event: Notice | Progress) -> None:
        """Show one event of a run."""
        if isinstance(event, Progress):
            self._advance(event)
        elif event.warning:
            self.warn(event.text)
        else:
            self.say(event.text)

    def _advance(self, progress: Progress) -> None:
        if self._bar is None:
            # A log file is better off with a line now and then.
            interval = 0.1 if self.err.isatty() else 10.0
            self._bar = tqdm(
                total=progress.total,
                desc="drawing",
                unit="step",
                file=self.err,
                mininterval=interval,
                dynamic_ncols=True,
            )
        shown = f"pictures {progress.pictures}/{progress.total_pictures}"
        self._bar.set_postfix_str(shown, refresh=False)
        self._bar.update(progress.done - self._bar.n)

    def close(self) -> None:
        """Finish the progress bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class ConsoleLog(logging.Handler):
    """Passes the library's logged warnings to a console.

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
        logging.getLogger("ldm").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("ldm").removeHandler(self)
