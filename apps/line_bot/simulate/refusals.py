"""What LINE answers to a request that it does not accept, in its own words where they are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

INVALID_REPLY_TOKEN = "Invalid reply token"
MONTHLY_LIMIT = "You have reached your monthly limit."
RATE_LIMIT = "The API rate limit has been exceeded. Try again later."
ACCEPTED_BEFORE = "The retry key is already accepted"
UNAUTHORIZED = (
    "Authentication failed. Confirm that the access token in the authorization header is valid."
)


class Refusal(Exception):
    """An answer other than 2xx.

    Args:
        status: Of HTTP.
        message: Said to the bot.
        details: Faults of the body, each a mapping of "message" and "property".
        headers: Of the answer.
        more: Other fields of the answer's body.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        details: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})
        self.body: dict[str, Any] = {"message": message, **(more or {})}
        if details:
            self.body["details"] = [dict(each) for each in details]


def faulty_body(details: Sequence[Mapping[str, str]]) -> Refusal:
    """Return the refusal of a body with these faults."""
    return Refusal(400, f"The request body has {len(details)} error(s)", details=details)


def invalid_property(name: str) -> Refusal:
    """Return the refusal of a body whose field has a value that cannot be one."""
    return Refusal(
        400, f"The property, '{name}', in the request body is invalid (line: -, column: -)"
    )
