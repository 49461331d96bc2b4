"""A bot that is moved by hand, and the LINE that it talks to."""

from __future__ import annotations

import pytest


@pytest.fixture
def line():
    from fake_line import FakeLine  # needs the bot's packages

    with FakeLine() as line:
        yield line


@pytest.fixture
def stage(tmp_path, line):
    from bot_parts import Stage

    made = Stage(tmp_path, line.url)
    made.line, made.number = line, 0
    yield made
    made.close()
