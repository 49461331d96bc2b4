"""A text that does not show itself: in logs, errors and pages it is three stars."""

from __future__ import annotations

import hmac
from typing import NoReturn

HIDDEN = "***"


class Secret:
    """Holds a text that only ``reveal`` gives away.

    Args:
        text: What to keep.

    Example:
        >>> token = Secret("hunter2")
        >>> print(token, repr(token), f"{token}", token.equals("hunter2"))
        *** Secret(***) *** True
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text; for the one place that needs it."""
        return self._text

    def equals(self, text: str) -> bool:
        """Compare in a time that does not tell how much of a guess was right."""
        return hmac.compare_digest(
            self._text.encode("utf-8", "surrogatepass"), text.encode("utf-8", "surrogatepass")
        )

    def __bool__(self) -> bool:
        return bool(self._text)

    def __str__(self) -> str:
        return HIDDEN

    def __repr__(self) -> str:
        return f"Secret({HIDDEN})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not written anywhere")
