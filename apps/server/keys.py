"""API keys: who may draw. Only hashes are stored; a key is compared in constant time.

Keys are long random texts, so a plain SHA-256 of one cannot be turned back; what people choose as
passwords has no place here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from pathlib import Path

from apps.server.refused import Refused
from ldm.errors import UserError
from ldm.legible import quoted
from ldm.paths import ERRORS, reason

VARIABLE = "LDM_SERVER_KEYS"
EVERYBODY = ""
"""The name of whoever asks where there are no keys."""
_LINE = re.compile(r"([A-Za-z0-9_.-]{1,64}):([0-9A-Fa-f]{64})")
_FORM = "NAME:SHA-256 of the key, 64 hexadecimal digits"
_LARGEST_FILE = 2**20  # bytes
_LONGEST_KEY = 512  # characters


class Keys:
    """The keys that open the server; without any it is open to everybody who can reach it.

    Args:
        digests: The SHA-256 of each key, in lower-case hexadecimal digits, by its name.
    """

    def __init__(self, digests: Mapping[str, str] | None = None) -> None:
        self._digests = dict(digests or {})

    def __bool__(self) -> bool:
        return bool(self._digests)

    def name_of(self, key: str) -> str | None:
        """Return the name of a key; None if it is none. The time tells nothing of a near miss."""
        given = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        found = None
        for name, digest in self._digests.items():
            if hmac.compare_digest(given, digest):
                found = name
        return found

    def who(self, headers: Mapping[str, str]) -> str:
        """Return the name of the key that a request brings.

        It stands in ``Authorization: Bearer``, in ``X-API-Key``, or as the password in
        ``Authorization: Basic``, whose user name is not looked at.

        Args:
            headers: With names in lower case, or in any.

        Raises:
            Refused: There is none, or it is not known.
        """
        if not self._digests:
            return EVERYBODY
        key = _key_in(headers)
        name = self.name_of(key) if 0 < len(key) <= _LONGEST_KEY else None
        if name is None:
            raise Unauthorized
        return name


class Unauthorized(Refused):
    """A request without a key that is known."""

    def __init__(self) -> None:
        super().__init__(
            401, "no key that is known was given; expected one; send Authorization: Bearer KEY"
        )

    @property
    def headers(self) -> dict[str, str]:
        """Say how a key is brought."""
        return {"WWW-Authenticate": "Bearer"}


def _key_in(headers: Mapping[str, str]) -> str:
    kind, _, rest = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return rest.strip()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(rest.strip(), validate=True).decode().partition(":")[2]
        except (binascii.Error, ValueError):
            return ""
    return headers.get("x-api-key", "")


def read_keys(file: str | None, environment: Mapping[str, str]) -> Keys:
    """Return the keys of a file and of the environment.

    Args:
        file: A text file; empty lines and lines with a # first are left out. None is no file.
        environment: The process's.

    Raises:
        UserError: The file cannot be read, or a line is none. What it says is not quoted.
    """
    digests: dict[str, str] = {}
    lines = [(f"{VARIABLE}, word {n}", text)
             for n, text in enumerate(environment.get(VARIABLE, "").split(), 1)]  # fmt: skip
    if file is not None:
        lines += [(f"--keys {file}, line {n}", text) for n, text in _lines(file)]
    for where, text in lines:
        found = _LINE.fullmatch(text)
        if found is None:
            raise UserError(f"{where} is no key; expected {_FORM}; correct it")
        if found[1] in digests:
            raise UserError(f"{where} names {quoted(found[1])} again; expected each name once")
        digests[found[1]] = found[2].lower()
    if file is not None and not digests:
        raise UserError(f"--keys {file} holds no key; expected lines of {_FORM}; add one")
    return Keys(digests)


def _lines(file: str) -> list[tuple[int, str]]:
    try:
        with Path(file).open("rb") as opened:
            text = opened.read(_LARGEST_FILE).decode("utf-8-sig")
    except ERRORS as error:  # UnicodeDecodeError is a ValueError
        fault = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else reason(error)
        raise UserError(
            f"--keys {file} cannot be read ({fault}); expected a text file of lines {_FORM}; "
            "check the path"
        ) from error
    stripped = [(n, line.strip()) for n, line in enumerate(text.splitlines(), 1)]
    return [(n, line) for n, line in stripped if line and not line.startswith("#")]
