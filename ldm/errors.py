"""The one exception that programs turn into a single line and exit code 2."""

from __future__ import annotations


class UserError(ValueError):
    """Something the user gave cannot be used.

    The message is one line with three parts: what was given, what is expected, what to do.
    Programs print it to stderr without a traceback; library users may catch it as a ``ValueError``.
    """
