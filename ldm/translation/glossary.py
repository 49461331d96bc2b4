"""Read a user's glossary: a word, a tab, its English; one on each line."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from ldm.errors import UserError
from ldm.legible import quoted
from ldm.paths import ERRORS, reason
from ldm.translation.lexicon import LONGEST_WORD

_FORM = "expected a Japanese or Chinese word, a tab and its English"


def read_glossary(path: str | Path) -> dict[str, tuple[str, str]]:
    """Return the words of a glossary, as a layer of a ``Lexicon``.

    Empty lines and lines that begin with ``#`` are remarks. A word may be given once.

    Args:
        path: A UTF-8 text file.

    Raises:
        UserError: The file cannot be read, or a line is wrong; it is named by its number.
    """
    words: dict[str, tuple[str, str]] = {}
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        word, english = _entry(f"--glossary {path}, line {number}", line)
        if word in words:
            raise UserError(
                f"--glossary {path}, line {number} gives {word!r} a second time; expected each "
                "word once; take one out"
            )
        words[word] = ("n", english)
    return words


def _entry(where: str, line: str) -> tuple[str, str]:
    parts = [unicodedata.normalize("NFKC", part).strip() for part in line.split("\t")]
    if len(parts) != 2 or not all(parts):
        raise UserError(f"{where} is {quoted(line)}; {_FORM}; correct it")
    word, english = parts
    if any(letter.isspace() for letter in word) or len(word) > LONGEST_WORD:
        raise UserError(
            f"{where} has the word {quoted(word)}; expected one without spaces, of "
            f"{LONGEST_WORD} letters or fewer; shorten it"
        )
    return word, english


def _text(path: str | Path) -> str:
    try:
        # utf-8-sig: editors on Windows put a byte order mark in front.
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError(
            f"--glossary {path}, line {line} is not UTF-8; expected a UTF-8 text file; save it as "
            "UTF-8"
        ) from error
    except ERRORS as error:
        raise UserError(
            f"--glossary {path} cannot be read ({reason(error)}); {_FORM} on each line of a text "
            "file; check the path"
        ) from error
