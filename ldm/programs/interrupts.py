"""Ctrl-C at any moment: no traceback and exit code 130.

While a program's imports run, a KeyboardInterrupt would show a traceback, and some imports swallow
it. So every program begins, before its other imports, with the same lines: Ctrl-C ends the process
at once. (Where it is ignored, as under nohup, it stays so.) ``Interrupts`` takes over from there.
"""

from __future__ import annotations

import signal

INTERRUPTED = 130  # 128 + the number of SIGINT, as shells report it


class Interrupts:
    """Raises KeyboardInterrupt at Ctrl-C within a ``with`` block, and remembers that it came.

    Libraries whose import is cut short turn it into errors of their own: NumPy into a
    RecursionError, for one.

    Attributes:
        came: Whether Ctrl-C was pressed.
    """

    def __init__(self) -> None:
        self.came = False

    def __enter__(self) -> Interrupts:
        self._before = signal.getsignal(signal.SIGINT)
        self._listens = callable(self._before)  # else it is ignored, or not Python's affair
        try:
            if self._listens:
                signal.signal(signal.SIGINT, self._raise)
        except ValueError:  # not the main thread, which alone takes signals
            self._listens = False
        return self

    def __exit__(self, *_: object) -> None:
        if self._listens:
            signal.signal(signal.SIGINT, self._before)

    def _raise(self, number: int, frame: object) -> None:
        self.came = True
        signal.default_int_handler(number, frame)  # raises KeyboardInterrupt
