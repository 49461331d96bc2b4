"""Settings come from flags, environment and file; a mistake is one line and quotes no secret."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest
from bot_parts import ADMIN, ENVIRONMENT
from fake_line import SECRET, TOKEN

from apps.line_bot.secret import Secret
from apps.line_bot.settings import BotSettings, read_settings, read_toml
from ldm.errors import UserError


def read(tmp_path, environment=None, text=None, **flags):
    file = None
    if text is not None:
        file = str(tmp_path / "bot.toml")
        (tmp_path / "bot.toml").write_text(text, encoding="utf-8")
    given = {"data": str(tmp_path / "data"), **flags}
    return read_settings(given, ENVIRONMENT | (environment or {}), file)


def test_flags_stand_over_the_environment_and_that_over_the_file(tmp_path):
    text = 'port = 1\nmost_steps = 2\ndaily_pictures = 3\nallow = ["U1", "G2"]\nturbo = true\n'
    text += 'open_to = "listed"\n'
    environment = {
        "LINE_BOT_PORT": "4",
        "LINE_BOT_MOST_STEPS": "5",
        "LINE_BOT_DEVICE": "cpu cuda:1",
    }
    settings, _ = read(tmp_path, environment, text, port=6)
    assert (settings.port, settings.most_steps, settings.daily_pictures) == (6, 5, 3)
    assert settings.allow == ("U1", "G2") and settings.turbo is True
    assert settings.device == ("cpu", "cuda:1")


def test_secrets_may_stand_in_the_file(tmp_path):
    text = 'line_channel_secret = "s3cr3t"\nline_channel_access_token = "t0ken"\n'
    (tmp_path / "bot.toml").write_text(text)
    given = {"data": str(tmp_path), "public_base_url": "https://a.example"}
    _, secrets = read_settings(given, {}, str(tmp_path / "bot.toml"))
    assert secrets.line_channel_secret.equals("s3cr3t") and not secrets.admin_token


@pytest.mark.parametrize(
    ("environment", "text", "flags", "message"),
    [
        ({"LINE_CHANNEL_SECRET": ""}, None, {}, "LINE_CHANNEL_SECRET was not given"),
        ({"LINE_CHANNEL_ACCESS_TOKEN": ""}, None, {}, "LINE_CHANNEL_ACCESS_TOKEN was not given"),
        ({"LINE_CHANNEL_SECRET": "line\nbreak"}, None, {}, "LINE_CHANNEL_SECRET holds something"),
        ({"ADMIN_TOKEN": "short"}, None, {}, "ADMIN_TOKEN is too short"),
        ({"PUBLIC_BASE_URL": ""}, None, {}, "PUBLIC_BASE_URL was not given"),
        ({"PUBLIC_BASE_URL": "http://a.example"}, None, {}, "takes https addresses only"),
        ({"PUBLIC_BASE_URL": "ftp://a.example"}, None, {}, "PUBLIC_BASE_URL ftp://a.example"),
        ({"PUBLIC_BASE_URL": "https://a b"}, None, {}, "expected an address such as"),
        ({"LINE_BOT_PORT": "x"}, None, {}, "LINE_BOT_PORT x was given; expected a whole number"),
        ({}, "port = 'x'", {}, "bot.toml: --port x was given"),
        ({}, "most_step = 1", {}, "bot.toml: unknown key 'most_step'; did you mean most_steps?"),
        ({}, "port = ", {}, "bot.toml cannot be read (no TOML at end of document"),
        ({}, "allow = ['a b']", {}, "ids as LINE gives them"),
        ({}, None, {"most_pictures": 9}, "--most_pictures 9 was given"),
        ({}, None, {"give_up_hours": 48.0}, "--give_up_hours 48.0"),
        ({}, None, {"store": "s3"}, "without a bucket"),
        ({}, None, {"tunnel": "ngrok"}, "expected one of them"),
        ({}, None, {"allow": ("U1",)}, "expected --open_to listed beside it"),
        ({}, None, {"keep_hours": 2.0}, "deliveries are tried for 23 hours"),
        ({}, None, {"store": "s3", "s3_bucket": "b", "keep_hours": 200.0}, "168 hours at most"),
        ({}, None, {"store": "imgur"}, "IMGUR_CLIENT_ID"),
        ({}, None, {"data": "/proc/nothing"}, "--data /proc/nothing"),
    ],
)
def test_each_mistake_is_told_in_one_line(tmp_path, environment, text, flags, message):
    with pytest.raises(UserError) as caught:
        read(tmp_path, environment, text, **flags)
    said = str(caught.value)
    assert message in said and "\n" not in said
    assert all(secret not in said for secret in (SECRET, TOKEN, ADMIN, "line\\nbreak"))


def test_a_broken_file_is_told_without_what_it_holds(tmp_path):
    (tmp_path / "x.toml").write_text('line_channel_secret = "s3cr3t\n')
    with pytest.raises(UserError) as caught:
        read_toml(str(tmp_path / "x.toml"))
    assert "s3cr3t" not in str(caught.value) and caught.value.__cause__ is None


def test_a_secret_shows_itself_nowhere(tmp_path):
    settings, secrets = read(tmp_path)
    for shown in (repr(secrets), f"{secrets.admin_token}", f"{settings!r}", str([*vars(secrets)])):
        assert not any(text in shown for text in (SECRET, TOKEN, ADMIN))
    with pytest.raises(TypeError):
        pickle.dumps(secrets.admin_token)
    assert Secret("é").equals("é") and not Secret("a").equals("b") and not Secret("a").equals("")


def test_no_flag_takes_a_secret():
    names = {*BotSettings.__dataclass_fields__}
    assert not [name for name in names if "token" in name or "secret" in name or "key" in name]


def test_the_program_tells_what_is_wrong_in_one_line_and_with_exit_code_2(tmp_path):
    command = [sys.executable, "-m", "apps.line_bot", "--data", str(tmp_path)]
    environment = {"PUBLIC_BASE_URL": "http://x.example", "PATH": "/usr/bin:/bin"}
    import os

    environment |= {"PYTHONPATH": os.pathsep.join(sys.path), "LINE_CHANNEL_SECRET": SECRET}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "https addresses only" in done.stderr and SECRET not in done.stderr
