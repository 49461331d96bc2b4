"""kill -9 at any step: nothing is lost, and nothing arrives twice."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from fake_line import FakeLine

PROGRAM = Path(__file__).resolve().parents[2] / "bot_kills.py"


def kill(folder: Path, line: FakeLine, *how: str) -> int:
    command = [sys.executable, str(PROGRAM), str(folder), line.url, *how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize(("age", "way"), [("fresh", "reply"), ("stale", "push")])
def test_killed_at_any_of_its_steps_a_bot_delivers_a_message_once(tmp_path, age, way):
    with FakeLine() as line:
        kills = kill(tmp_path, line, "every", age, "9")  # each step is met with 1
        assert kills >= 5
        # One message for each kill, and the last, which no kill met.
        assert len(line.arrived) == kills + 1
        if way == "reply":
            assert len({to for to, _ in line.arrived}) == kills + 1
        assert all(len(messages) == 1 for _, messages in line.arrived)


def test_20_messages_of_4_users_arrive_once_each_through_many_kills(tmp_path):
    with FakeLine() as line:
        assert kill(tmp_path, line, "random", "5") >= 5
        urls = Counter(each["originalContentUrl"] for _, (each,) in line.arrived)
        assert len(urls) == 20 and set(urls.values()) == {1}
        assert Counter(to for to, _ in line.arrived) == dict.fromkeys(("Ua", "Ub", "Uc", "Ud"), 5)
        pictures = list((tmp_path / "pictures").glob("*.jpg"))
        assert len(pictures) == 40 and not list((tmp_path / "drawn").glob(".*"))
