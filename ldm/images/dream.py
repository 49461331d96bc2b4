"""InvokeAI's first form of a recipe: a command line, such as ``"a cat" -s 50 -S3 -W 512 -A k_lms``.

Words are those of a POSIX shell, as ``shlex.split`` finds them, but in linear time.
"""

from __future__ import annotations

import re
from typing import Any

_PIECE = re.compile(
    r"""(?P<space>\s+)|(?P<plain>[^\s"'\\]+)|\\(?P<escaped>.)"""
    r"""|"(?P<double>[^"\\]*(?:\\.[^"\\]*)*)"|'(?P<single>[^']*)'""",
    re.DOTALL,
)
_FLAGS = {"-s": "steps", "-S": "seed", "-W": "width", "-H": "height", "-C": "cfg_scale"}
_FLAGS |= {"-A": "sampler", "-f": "strength", "-I": "init_image"}


def values_of_command(text: str) -> dict[str, Any]:
    """Return the settings of a command line: a prompt and flags.

    Raises:
        ValueError: A quotation does not end, or there is no prompt.
    """
    prompt, *rest = words_in(text)
    values: dict[str, Any] = {"prompt": prompt}
    rest.reverse()
    while rest:
        flag = rest.pop()
        if glued := re.fullmatch(r"(-[A-Za-z])([\w.]+)", flag):
            flag = glued[1]
            rest.append(glued[2])
        has_value = bool(rest) and not rest[-1].startswith("-")
        values[_FLAGS.get(flag, flag)] = rest.pop() if has_value else True
    return {**values, "type": "img2img" if "init_image" in values else "txt2img"}


def words_in(text: str) -> list[str]:
    """Split a command line into its words.

    Raises:
        ValueError: A quotation does not end.
    """
    words: list[list[str]] = []
    position, begins = 0, True
    while position < len(text):
        piece = _PIECE.match(text, position)
        if piece is None:
            raise ValueError("a quotation without an end")
        position = piece.end()
        if piece.lastgroup == "space":
            begins = True
            continue
        if begins:
            words.append([])
        begins = False
        part = piece[piece.lastgroup]
        # Within quotation marks a backslash stands for itself before anything else.
        double = piece.lastgroup == "double"
        words[-1].append(re.sub(r'\\(["\\])', r"\1", part) if double else part)
    return ["".join(parts) for parts in words]
