"""The one exception that programs turn into a single line and exit code 2; others in words."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

from ldm.legible import legible

OURS = "ldm"
_INSTALLED = ("site-packages", "dist-packages", "<frozen", sysconfig.get_path("stdlib"))


class UserError(ValueError):
    """Something the user gave cannot be used.

    The message is one line with three parts: what was given, what is expected, what to do.
    Programs print it to stderr without a traceback; library users may catch it as a ``ValueError``.
    What it quotes may come from a file: the message is made legible (``ldm.legible``).

    Args:
        message: The message, of any length and with any characters.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(legible(str(message)))


def raised_by(error: BaseException) -> tuple[str, str]:
    """Find whose code an error came out of; what a library raises, whoever called it has caused.

    Args:
        error: One that was caught.

    Returns:
        The dotted name of the innermost module that is no installed library's, and "file, line n"
        there; both empty if there is none.
    """
    found = "", ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        name, file = frame.f_globals.get("__name__", ""), frame.f_code.co_filename
        if name.split(".")[0] == OURS or not any(part in file for part in _INSTALLED):
            found = name, f"{Path(file).name}, line {line}"
    return found


def in_words(error: BaseException) -> str:
    """Return an error's kind, where it was raised and its message, in one line.

    Example:
        >>> in_words(KeyError("jpg"))
        "KeyError: 'jpg'"
    """
    _, where = raised_by(error)
    text = legible(" ".join(str(error).split()), limit=240)
    return f"{type(error).__name__}{f' in {where}' if where else ''}: {text}"


def is_out_of_memory(error: BaseException) -> bool:
    """Check whether memory was lacking, on any device; that is no fault of a configuration."""
    kinds = ("OutOfMemoryError", "MemoryError")
    return type(error).__name__ in kinds or "allocate memory" in str(error)
