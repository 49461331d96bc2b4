"""Switches have positions; others are refused, and then none is changed."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("linebot", reason="needs the bot's packages: pip install -e '.[line]'")


from apps.line_bot.simulate import Switches
from ldm.errors import UserError


@pytest.mark.parametrize(
    "name, value",
    [
        ("errors_left", -1),
        ("errors_left", True),
        ("error_status", 404),
        ("lost_answers", 0.5),
        ("down_until", math.nan),
        ("latency", math.inf),
        ("latency", "1"),
        ("token_lifetime", -1),
        ("quota", -1),
        ("access_token_valid", 1),
        ("redelivery", None),
        ("colour", "red"),
    ],
)
def test_a_position_that_a_switch_does_not_have_changes_nothing(name, value):
    switches = Switches()
    with pytest.raises(UserError, match=f"{name}.*expected"):
        switches.set(**{"errors_left": 9, name: value})
    assert switches == Switches()


def test_positions_are_taken():
    switches = Switches()
    switches.set(errors_left=3, error_status=429, quota=None, latency=0.5, redelivery=False)
    assert (switches.errors_left, switches.error_status, switches.quota) == (3, 429, None)


def test_a_lost_answer_is_lost_once():
    switches = Switches(lost_answers=1)
    assert [switches.lose_answer() for _ in range(3)] == [True, False, False]
