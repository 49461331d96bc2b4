"""The program train_searcher as a user meets it, with a stand-in for CLIP."""

from __future__ import annotations

import numpy as np
import pytest
from running import load_program
from tiny_rdm import COLOURS, StubPictures

from ldm.data.retrieval import RetrievalDatabase
from ldm.images.io import save_picture
from ldm.retrieval.searcher import load_searcher

SCRIPT = "scripts/train_searcher.py"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    program = load_program(SCRIPT)
    monkeypatch.setattr(program, "make_encoder", lambda options: StubPictures())

    def run(*arguments):
        code = program.main([*map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def images(tmp_path):
    for name, colour in COLOURS.items():
        save_picture(np.full((9, 9, 3), colour, np.uint8), tmp_path / f"images/{name}.png")
    (tmp_path / "images/bad.jpg").write_bytes(b"no picture")
    return tmp_path / "images"


def test_a_folder_becomes_a_searchable_database(run, images, tmp_path):
    code, out, err = run("--database", "mine", "--images", images, "--knn", 2)
    assert code == 0 and "1 picture was left out" in err and err.count("\n") == 1
    assert "4 pictures embedded, 0 were there before" in out
    assert "finds 100.0% of 2 neighbours. Written: data/rdm/searchers/mine" in out
    database = RetrievalDatabase.read(tmp_path / "data/rdm/retrieval_databases/mine")
    searcher = load_searcher(tmp_path / "data/rdm/searchers/mine", database)
    rows = searcher.search(database.embeddings, 1)[0][:, 0]
    assert rows.tolist() == [0, 1, 2, 3]  # each is its own nearest neighbour
    assert (
        "0 pictures embedded, 4 were there before"
        in run("-d", "mine", "--images", images, "-k", 2)[1]
    )


def test_a_given_database_is_only_searched(run, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "own.npz", embedding=rng.normal(size=(400, 8)).astype(np.float32))
    code, out, _ = run(
        "-d", tmp_path / "own.npz", "-t", tmp_path / "s", "-k", 5, "--index", "exact"
    )
    assert code == 0 and "exact search by" in out and "in 400 embeddings" in out
    assert (tmp_path / "s/searcher.json").is_file()


@pytest.mark.parametrize(
    ("flags", "hint"),
    [
        (("-d", "none"), "does not exist"),
        (("-d", "none", "--images", "nowhere"), "--images nowhere does not exist"),
        (("-k", "0"), "--knn 0 was given"),
        (("-k", "many"), "--knn many was given; expected a whole number, 1 or more"),
        (("--index", "tree"), "--index tree was given; expected exact, ivf or ivfpq"),
        (("--batch_size", "0", "--images", "."), "--batch_size 0 was given"),
    ],
)
def test_what_cannot_be_done_is_one_line(run, flags, hint, tmp_path):
    code, out, err = run(*flags)
    assert code == 2 and out == "" and hint in err and err.count("\n") == 1
    assert not (tmp_path / "data").exists()
