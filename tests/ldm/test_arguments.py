"""Command lines whose mistakes are one line."""

from __future__ import annotations

import pytest

from ldm.arguments import ArgumentParser
from ldm.errors import UserError


def test_a_mistake_is_a_user_error_that_points_to_the_help():
    parser = ArgumentParser()
    parser.add_argument("--n", type=int)
    with pytest.raises(UserError, match=r"invalid int value: 'x'; see --help"):
        parser.parse_args(["--n", "x"])
