"""What can go wrong on request: errors, outages, delays, a quota that ends, tokens that expire."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from apps.line_bot.simulate.refusals import RATE_LIMIT, UNAUTHORIZED, Refusal
from ldm.errors import UserError

_WORDS = {429: RATE_LIMIT, 500: "Internal server error", 503: "Service unavailable"}


@dataclass
class Switches:
    """How the stand-in behaves from now on; every field may be changed while it runs.

    Args:
        errors_left: Calls of the API that are still to be answered with `error_status`.
        error_status: 429, 500 or 503.
        lost_answers: Requests that are accepted although the answer is 500: what retry keys
            are for.
        down_until: Time of the stand-in's clock, in seconds, until which calls fail with 503.
        latency: Seconds that every call of the API takes longer.
        token_lifetime: Seconds for which a reply token is good. LINE promises none; a minute is
            what its documentation advises to stay below.
        quota: Messages that may be pushed in a month, or None for as many as one likes.
        access_token_valid: False answers 401 to the right token too, as after it expired.
        redelivery: Whether webhooks that were not answered with 200 in time are sent again.
    """

    errors_left: int = 0
    error_status: int = 500
    lost_answers: int = 0
    down_until: float = -math.inf
    latency: float = 0.0
    token_lifetime: float = 60.0
    quota: int | None = 200
    access_token_valid: bool = True
    redelivery: bool = True

    def set(self, **changes: Any) -> None:
        """Change some; nothing is changed if one of them cannot be.

        Raises:
            UserError: There is no such switch, or it has no such position.
        """
        for name, value in changes.items():
            _check(name, value)
        for name, value in changes.items():
            setattr(self, name, value)

    def refuse_if_asked(self, now: float) -> None:
        """Raise the refusal that a call has to meet now, if any; errors on request are used up."""
        if not self.access_token_valid:
            raise Refusal(401, UNAUTHORIZED)
        if now < self.down_until:
            raise Refusal(503, _WORDS[503])
        if self.errors_left > 0:
            self.errors_left -= 1
            raise Refusal(self.error_status, _WORDS[self.error_status])

    def lose_answer(self) -> bool:
        """Return whether the answer to a message that was accepted gets lost; uses one up."""
        lost = self.lost_answers > 0
        self.lost_answers -= lost
        return lost


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _seconds(value: object) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and 0 <= value < math.inf


_POSITIONS = {
    "errors_left": (_count, "a whole number of calls, 0 or more"),
    "error_status": (lambda value: value in _WORDS, "429, 500 or 503"),
    "lost_answers": (_count, "a whole number of messages, 0 or more"),
    "down_until": (
        lambda value: isinstance(value, (int, float)) and not math.isnan(value),
        "a time in seconds",
    ),
    "latency": (_seconds, "seconds, 0 or more"),
    "token_lifetime": (_seconds, "seconds, 0 or more"),
    "quota": (lambda value: value is None or _count(value), "a whole number, or null for no limit"),
    "access_token_valid": (lambda value: isinstance(value, bool), "true or false"),
    "redelivery": (lambda value: isinstance(value, bool), "true or false"),
}
assert {*_POSITIONS} == {each.name for each in dataclasses.fields(Switches)}


def _check(name: str, value: object) -> None:
    if name not in _POSITIONS:
        raise UserError(f"{name!r} is no switch of the stand-in; expected one of {[*_POSITIONS]}")
    allowed, expected = _POSITIONS[name]
    if not allowed(value):
        raise UserError(f"the switch {name} cannot be {value!r}; expected {expected}")
