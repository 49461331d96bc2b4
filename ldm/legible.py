"""Texts of strangers as a message may show them: short, and without characters that act.

A name in a file may hold what a terminal obeys (escape sequences), what turns the order of letters
around, or what nobody sees; and it may be as long as the file. ``ldm.errors.UserError`` and the
console pass every message through ``legible``. Whoever quotes what a file says uses ``quoted``, so
that a long name does not push the rest of the sentence out of the message.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from ldm.budgets import MESSAGE, QUOTED

# Control characters but line break and tab; marks that turn or hide text; lone surrogates, which
# no file can hold; separators that some programs break lines at; letters that show nothing.
_ACTING = (
    r"\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f"
    r"\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff9-\ufffb"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f"
)
# Emoji and many scripts join letters by these; beside ASCII or each other they only hide.
_JOINED = "\u200c\u200d"
_JOINERS = r"\u200c\u200d"
_ALONE = rf"(?<![^\x00-\x7f{_JOINERS}])[{_JOINERS}]|[{_JOINERS}](?![^\x00-\x7f{_JOINERS}])"
_HARMFUL = re.compile(rf"[{_ACTING}]|{_ALONE}")


def legible(text: str, limit: int = MESSAGE) -> str:
    r"""Return a text with characters that act written as escapes, and cut in its middle.

    Line breaks, tabs and everything that is seen stay, in any script. A legible text stays as it
    is, so that nothing is lost by doing it twice.

    Args:
        text: Any text.
        limit: The most characters to return.

    Example:
        >>> print(legible("\x1b[31mred"))
        \x1b[31mred
        >>> legible("a" * 500 + "b" * 500, limit=60)
        'aaaaaaaaaaaaaaaaaaaa ... (1,000 characters) ... bbbbbbbbbbbb'
    """
    return _cut(text, limit, escaped)


def escaped(text: str) -> str:
    """Return a text of any length with characters that act written as escapes."""
    return _HARMFUL.sub(_escape, text)


def quoted(value: object, limit: int = QUOTED) -> str:
    r"""Return a value that a file holds as a message quotes it: legible, short, in one line.

    Args:
        value: A text is put between quotation marks, other values are written as Python does.
        limit: The most characters between them.

    Example:
        >>> print(quoted("a\nb"), quoted(3), quoted(["x"]))
        'a\nb' 3 ['x']
    """
    if isinstance(value, str):
        text, mark = value, "'"
    else:
        text, mark = _written(value), ""
    return mark + _cut(text, limit, _in_one_line) + mark


def one_line(text: str) -> str:
    """Return a message as one legible line."""
    lines = (line.strip() for line in re.split(r"[\r\n]+", text))
    return legible(" ".join(filter(None, lines)))


def _written(value: object) -> str:
    try:
        return repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, a list in lists
        return f"a value of kind {type(value).__name__}"


def _in_one_line(text: str) -> str:
    return escaped(text).replace("\n", r"\n").replace("\t", r"\t")


def _cut(text: str, limit: int, shown: Callable[[str], str]) -> str:
    # More than the limit is never escaped: a message of megabytes costs no time.
    if len(text) <= limit and len(whole := shown(text)) <= limit:
        return whole
    left_out = f" ... ({len(text):,} characters) ... "
    room = limit - len(left_out)
    tail = room * 2 // 5
    begin, end = shown(text[:limit])[: room - tail], shown(text[-limit:])[-tail:]
    # A joiner at the cut has lost what it joined.
    return begin.rstrip(_JOINED) + left_out + end.lstrip(_JOINED)


def _escape(found: re.Match) -> str:
    code = ord(found[0])
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
