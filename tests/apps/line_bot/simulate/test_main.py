"""The program: a bot beside the stand-in, how it ends, and mistakes as one line."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from running import ROOT

pytest.importorskip("linebot", reason="needs the bot's packages: pip install -e '.[line]'")

import httpx

from apps.line_bot.simulate import simulation
from apps.line_bot.simulate.__main__ import main
from apps.line_bot.simulate.echo import make_echo_bot


@pytest.fixture(scope="module")
def line():
    with simulation(make_echo_bot, patience=10.0) as line:
        yield line


def test_the_echo_bot_answers_in_the_users_language_with_two_buttons(line):
    for person, button in zip(line.users, ["もう一度", "再一次", "again"], strict=True):
        line.say(person, "猫")
        (message,) = line.wait_for_messages(person, 1)
        assert (message.content["text"], message.way) == ("猫", "reply")
        labels = [each["action"]["label"] for each in message.content["quickReply"]["items"]]
        assert labels[0] == button
        line.press(person, "pressed")
        assert line.wait_for_messages(person, 2)[1].content["text"] == "postback: pressed"


def test_the_echo_bot_turns_forged_webhooks_away(line):
    for body, signature in [(b"{}", None), (b"{}", "x"), (b"\xff", "x"), (b"", "")]:
        assert line.webhooks.post(body, signature).status == 400


def test_the_echo_bot_goes_on_after_an_error_of_lines(line):
    person = line.add_user("X")
    line.switches.set(errors_left=1)
    line.say(person, "lost")
    while line.switches.errors_left:
        pass
    line.say(person, "heard")
    assert line.wait_for_messages(person, 1)[0].content["text"] == "heard"


def test_a_place_never_shows_its_secrets(line):
    from apps.line_bot.simulate import BotPlace

    shown = repr(BotPlace("http://127.0.0.1:1", line.secret, line.access_token, 2))
    assert line.secret not in shown
    assert line.access_token not in shown


def start(*flags, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "apps.line_bot.simulate", *flags],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    "flags", [("--echo",), ("--bot-url", "http://127.0.0.1:9/callback")], ids=["echo", "alone"]
)
def test_the_program_says_where_its_page_is_and_ends_when_told(flags):
    secrets = {"LINE_CHANNEL_SECRET": "hush", "LINE_CHANNEL_ACCESS_TOKEN": "quiet"}
    process = start(*flags, "--port", "0", **secrets)
    said = ""
    while "Chat page: " not in said:
        said += process.stdout.readline()
        assert process.poll() is None, process.stderr.read()
    address = said.partition("Chat page: ")[2].split()[0]
    assert httpx.get(address, trust_env=False).status_code == 200
    process.terminate()
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "hush" not in said + out
    assert "quiet" not in said + out


@pytest.mark.parametrize(
    "flags, expected",
    [
        ([], "one of the arguments --bot-url --echo is required"),
        (["--echo", "--bot-url", "http://x/"], "not allowed with argument"),
        (["--bot-url", "127.0.0.1:8000"], "is no address; expected one such as http://"),
        (["--echo", "--port", "70000"], "port 70000 cannot be listened on"),
        (["--echo", "--port", "x"], "invalid int value"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(capsys, monkeypatch, flags, expected):
    monkeypatch.setenv("LINE_CHANNEL_SECRET", "hush")
    monkeypatch.setenv("LINE_CHANNEL_ACCESS_TOKEN", "quiet")
    assert main(flags) == 2
    out, err = capsys.readouterr()
    assert expected in err
    assert (out, err.count("\n")) == ("", 1)


def test_a_secret_that_is_not_set_is_asked_for(capsys, monkeypatch):
    monkeypatch.delenv("LINE_CHANNEL_SECRET", raising=False)
    assert main(["--bot-url", "http://127.0.0.1:9/callback"]) == 2
    assert "LINE_CHANNEL_SECRET is not set" in capsys.readouterr().err
