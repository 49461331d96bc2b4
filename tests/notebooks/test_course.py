"""The course: notebooks that run from top to bottom offline, blanks whose checks say what is wrong.

They run as in Jupyter, each in a process of its own; ``EFFORT`` makes them short.
"""

from __future__ import annotations

import json
import re
from functools import cache

import pytest
from running import ROOT, load_program

from ldm.errors import UserError

FOLDER = ROOT / "notebooks"
NAMES = ("activity", "activity_solved", "how_diffusion_works")
REFRESH = load_program("notebooks/refresh_notebooks.py")


def notebook(name: str) -> dict:
    return json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))


def source(name: str) -> str:
    return "\n".join("".join(cell["source"]) for cell in notebook(name)["cells"])


@cache
def executed(name: str, effort: float) -> dict[str, list]:
    """Run a notebook, errors and all, and return each code cell's outputs by its id."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    text, count = re.subn(r"EFFORT = 1\.0", f"EFFORT = {effort}", json.dumps(notebook(name)))
    assert count == 1
    made = nbformat.reads(text, as_version=4)
    place = {"metadata": {"path": str(FOLDER)}}
    nbclient.NotebookClient(
        made, timeout=300, kernel_name="python3", allow_errors=True, resources=place
    ).execute()
    return {cell.id: cell.outputs for cell in made.cells if cell.cell_type == "code"}


def errors(outputs: dict[str, list]) -> dict[str, str]:
    return {
        name: f"{out.ename}: {out.evalue}"
        for name, outs in outputs.items()
        for out in outs
        if out.output_type == "error"
    }


def said(outputs: dict[str, list]) -> str:
    """Return what went to stdout and stderr: warnings, for the notebooks print nothing."""
    return "".join(o.text for outs in outputs.values() for o in outs if o.output_type == "stream")


def texts(outputs: dict[str, list], name: str) -> str:
    return "".join(out.get("data", {}).get("text/plain", "") for out in outputs[name])


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_stripped_of_outputs_and_its_cells_have_names(name):
    path = FOLDER / f"{name}.ipynb"
    stripped = REFRESH.as_text(REFRESH.stripped(notebook(name)))
    assert path.read_text(encoding="utf-8") == stripped, "run python notebooks/refresh_notebooks.py"
    ids = [cell["id"] for cell in notebook(name)["cells"]]
    assert len(set(ids)) == len(ids) and all(re.fullmatch(r"[a-z0-9-]{1,64}", i) for i in ids)


def test_the_activity_is_the_solved_one_with_blanks():
    assert notebook("activity") == REFRESH.blanked(notebook("activity_solved")), (
        "change activity_solved.ipynb and run python notebooks/refresh_notebooks.py"
    )
    assert source("activity").count("# TODO: ") == source("activity_solved").count("# BLANK: ") == 8
    assert "# BLANK: " not in source("activity")


@pytest.mark.parametrize("name", NAMES)
def test_every_lesson_has_a_japanese_note(name):
    for cell in notebook(name)["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            assert "日本語: " in text, cell["id"]


@pytest.mark.parametrize("wrong", ["# BLANK: no end\n1", "1\n# END", "# BLANK: a\n  # END"])
def test_a_solution_without_its_end_is_told(wrong):
    solved = {"cells": [{"cell_type": "code", "id": "it", "source": wrong}]}
    with pytest.raises(UserError, match="cell it has `# BLANK"):
        REFRESH.blanked(solved)


def test_refreshing_writes_what_differs_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(REFRESH, "HERE", tmp_path)
    monkeypatch.setattr(REFRESH, "SOLVED", tmp_path / "activity_solved.ipynb")
    monkeypatch.setattr(REFRESH, "ACTIVITY", tmp_path / "activity.ipynb")
    cells = notebook("activity_solved")["cells"]
    cells[-2]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["shown"]}]
    REFRESH.SOLVED.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    assert set(REFRESH.refresh()) == {REFRESH.ACTIVITY, REFRESH.SOLVED}
    assert "shown" not in REFRESH.SOLVED.read_text(encoding="utf-8")
    assert json.loads(REFRESH.ACTIVITY.read_text(encoding="utf-8")) == notebook("activity")
    assert REFRESH.refresh() == []
    REFRESH.SOLVED.write_text("{", encoding="utf-8")
    assert REFRESH.main([]) == 2
    assert "cannot be read as a notebook" in capsys.readouterr().err
    assert REFRESH.main(["--chek"]) == 2
    assert "--chek" in capsys.readouterr().err


def test_how_diffusion_works_runs_and_plots_every_part():
    outputs = executed("how_diffusion_works", 0.02)
    assert errors(outputs) == {}
    plots = [
        name
        for name, outs in outputs.items()
        if any("image/png" in o.get("data", {}) for o in outs)
    ]
    assert len(plots) == 11, plots
    assert "the largest difference is" in texts(outputs, "ddim-code")
    assert said(outputs) == ""


def test_the_solved_activity_runs_and_every_check_says_that_it_is_right():
    outputs = executed("activity_solved", 0.05)
    assert errors(outputs) == {}
    checks = {name: texts(outputs, name) for name in outputs if name.endswith("-check")}
    assert len(checks) == 8 and all("✓" in text for text in checks.values()), checks
    assert said(outputs) == ""
    assert "'seed 1 and seed 1': 0" in texts(outputs, "seeds-compare")
    assert texts(outputs, "feedback-train").startswith("(2, 'a photo of a cat on a red background'")


def test_each_blank_of_the_activity_is_told_by_its_check():
    outputs = executed("activity", 0.05)
    found = errors(outputs)
    told = {name: text for name, text in found.items() if name.endswith("-check")}
    assert len(told) == 8
    for name, text in told.items():
        assert text.startswith("NotYet: ") and "is still blank" in text, (name, text)
    assert "one-picture" not in found and "imports" not in found
