"""The command line: what it says of listening, names and passwords; help without heavy imports."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from running import ROOT

from apps.studio.__main__ import main
from apps.studio.settings import StudioSettings
from ldm.errors import UserError


def test_help_needs_neither_torch_nor_gradio():
    code = (
        "import json, runpy, sys\n"
        "sys.argv = ['studio', '--help']\n"
        "try:\n    runpy.run_module('apps.studio', run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
        cwd=ROOT,
    )
    assert "--listen" in done.stdout
    assert "--share" not in done.stdout
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert loaded.isdisjoint({"torch", "gradio", "numpy", "PIL", "omegaconf"})


def test_it_answers_to_this_machine_alone_unless_it_is_told_otherwise():
    assert StudioSettings().host == "127.0.0.1"
    assert StudioSettings().risk(None) == ""
    assert StudioSettings(listen=True).host == "0.0.0.0"


def test_listening_without_a_password_says_what_it_risks():
    open_to_all = StudioSettings(listen=True, outdir="out")
    assert "whoever can reach this machine" in open_to_all.risk(None)
    assert "out" in open_to_all.risk(None)
    assert open_to_all.risk("ada:lovelace") == ""


def test_the_command_lines_password_comes_before_the_environments():
    environment = {"STUDIO_AUTH": "eve:12345"}
    assert StudioSettings(auth="ada:lovelace").auth_of(environment) == "ada:lovelace"
    assert StudioSettings().auth_of(environment) == "eve:12345"
    assert StudioSettings().auth_of({}) is None


@pytest.mark.parametrize("wrong", ["zoe", "zoe:", ":secret", "zoe:abc", "zoe:with space"])
def test_a_password_that_is_none_is_one_line(wrong, capsys):
    assert main(["--auth", wrong]) == 2
    assert "a name, a colon and a password" in capsys.readouterr().err
    with pytest.raises(UserError, match="STUDIO_AUTH") as raised:
        StudioSettings().auth_of({"STUDIO_AUTH": wrong})
    assert wrong not in str(raised.value)
