"""The program feedback as a user meets it."""

from __future__ import annotations

import numpy as np
import pytest
from running import help_imports_torch, load_program

from ldm.images.io import save_picture

SCRIPT = "scripts/feedback.py"
RECIPE = "a red cat\nSteps: 5, Sampler: DDIM, Seed: 3, Size: 8x8"


@pytest.fixture
def feedback(tmp_path, monkeypatch, capsys):
    """Run the program in this process; return exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    program = load_program(SCRIPT)

    def run(*arguments):
        code = program.main(list(map(str, arguments)))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_pictures_are_judged_and_the_good_ones_exported(feedback, tmp_path):
    for k in range(3):
        save_picture(np.full((8, 8, 3), k, np.uint8), tmp_path / f"{k}.png", metadata=RECIPE)
    code, out, _ = feedback("0.png", "1.png", "--stars", 5, "--note", "so red", "--person", "Ada")
    assert (code, out) == (0, "Kept in outputs/feedback.sqlite: 2 judged.\n")
    assert feedback("2.png", "--thumb", "down")[0] == 0
    (tmp_path / "1.png").unlink()
    code, out, err = feedback("--csv", "all.csv", "--folder", "good")
    assert code == 0, err
    assert "all.csv, 3 opinions" in out and "good, 1 captioned" in out
    assert "good pictures that are gone or changed: 1, such as" in err
    (text,) = (tmp_path / "good").glob("*.txt")
    assert text.read_text(encoding="utf-8") == "a red cat\n"


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ((), "nothing was asked for"),
        (("x.png",), "without a judgement"),
        (("--stars", 3), "without pictures"),
        (("x.png", "--stars", 6), "from 0 to 5"),
        (("x.png", "--thumb", "sideways"), "expected up, down or none"),
        (("x.png", "--stars", 3), "does not exist"),
        (("--folder", "good"), "--db outputs/feedback.sqlite does not exist"),
        (("--csv", "table.csv"), "--db outputs/feedback.sqlite does not exist"),
        (("--csv", "cat.png"), "--csv cat.png was given; expected a file name that ends in .csv"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(feedback, tmp_path, arguments, hint):
    code, _, err = feedback(*arguments)
    assert code == 2 and hint in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_nothing_is_kept_where_one_of_the_files_is_no_picture(feedback, tmp_path):
    save_picture(np.zeros((8, 8, 3), np.uint8), tmp_path / "0.png", metadata=RECIPE)
    (tmp_path / "text.png").write_text("no picture")
    code, _, err = feedback("0.png", "text.png", "--stars", 5)
    assert code == 2 and "image text.png cannot be read" in err and err.count("\n") == 1
    assert not (tmp_path / "outputs").exists()


def test_a_table_takes_no_folders_place(feedback, tmp_path):
    save_picture(np.zeros((8, 8, 3), np.uint8), tmp_path / "0.png", metadata=RECIPE)
    assert feedback("0.png", "--stars", 5)[0] == 0
    (tmp_path / "mine.csv").mkdir()
    code, _, err = feedback("--csv", "mine.csv")
    assert code == 2 and "mine.csv cannot be written" in err and (tmp_path / "mine.csv").is_dir()


def test_help_imports_no_torch():
    assert not help_imports_torch(SCRIPT)
