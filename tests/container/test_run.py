"""The container's entry point starts every program by its name, and says which there are."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from container import run

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("txt2img", "img2img", "inpaint", "swap")


def started_as_programs() -> dict[str, Path]:
    """Return the files that do something when they are started, by a reading of their syntax."""
    found = {}
    for folder in ("scripts", "optimizedSD"):
        for path in (ROOT / folder).rglob("*.py"):
            last = ast.parse(path.read_text(encoding="utf-8")).body[-1]
            if isinstance(last, ast.If) and "__main__" in ast.unparse(last.test):
                found[path.stem.replace("_", "-")] = path
    return found


def test_every_program_of_the_project_has_a_name():
    assert run.programs() == {**started_as_programs(), "train": ROOT / "main.py"}


@pytest.mark.parametrize("name", sorted(run.programs()))
def test_a_name_starts_its_file_with_the_flags_as_they_were_given(name):
    flags = ["--prompt", "a b", "--x=1", "-y"]
    file, *rest = run.arguments([name, *flags])
    assert Path(file) == run.programs()[name]
    assert rest[-len(flags) :] == flags
    assert rest[: -len(flags)] == (["--host", "0.0.0.0"] if file.endswith("_gradio.py") else [])
    assert run.arguments([name.replace("-", "_"), *flags]) == [file, *rest]


def test_the_bot_listens_where_a_published_port_leads():
    assert run.arguments(["line-bot", "--port", "9000"]) == [
        *("-m", "apps.line_bot", "--host", "0.0.0.0", "--port", "9000")
    ]


def test_the_simulation_is_the_bot_with_a_port_that_can_be_published():
    given = run.arguments(["simulate", "--port", "9000"])
    assert given[:3] == ["-m", "apps.line_bot", "--simulate"]
    assert given[3:] == ["--port", "8000", "--host", "0.0.0.0", "--port", "9000"]


def test_the_studio_listens_where_a_published_port_leads():
    given = run.arguments(["studio", "--auth", "ada:lovelace"])
    assert given == ["-m", "apps.studio", "--listen", "--auth", "ada:lovelace"]


@pytest.mark.parametrize("page", PAGES)
def test_pages_starts_the_page_that_is_named(page):
    file = str(ROOT / "optimizedSD" / f"{page}_gradio.py")
    expected = [file, "--host", "0.0.0.0", "--port", "80"]
    assert run.arguments(["pages", page, "--port", "80"]) == expected
    if page == PAGES[0]:
        assert run.arguments(["pages", "--port", "80"]) == expected


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no program was named; expected one of batch, "),
        (["txt2imgs"], "there is no program 'txt2imgs'; did you mean txt2img?"),
        (["qqq", "--help"], "there is no program 'qqq'; expected one of batch, "),
        (["line-bott"], "did you mean line-bot?"),
        (["pages", "qqq"], "there is no page 'qqq'; expected one of img2img, inpaint, swap, txt2i"),
        (["../main"], "there is no program '../main'"),
        (["ddpm"], "there is no program 'ddpm'"),
    ],
)
def test_a_name_that_is_none_ends_with_one_line_and_code_2(words, said, capsys):
    assert run.main(words) == 2
    out, error = capsys.readouterr()
    assert not out
    assert said in error
    assert error.count("\n") == 1
    assert error.startswith("container: ")


def test_the_program_takes_the_place_of_the_process(monkeypatch):
    seen = []
    monkeypatch.setattr(os, "execv", lambda *given: seen.append(given))
    run.main(["txt2img", "--seed", "1"])
    file = str(ROOT / "scripts" / "txt2img.py")
    assert seen == [(sys.executable, [sys.executable, file, "--seed", "1"])]


@pytest.mark.parametrize("name", ["txt2img", "line-bot"])
def test_a_program_runs_from_any_folder_as_in_the_image(name, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, ROOT / "container" / "run.py", name, "--help"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: {name.replace('-', '_')} ")
