"""What is written appears whole or not at all, and replaces only what it is to replace."""

from __future__ import annotations

import os

import pytest

from ldm.checkpoint.write import whole
from ldm.errors import UserError


def write_folder(out, text):
    with whole(out, 10) as part:
        (part / "inner").mkdir(parents=True)
        (part / "inner" / "a.txt").write_text(text)


def files(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_a_folder_takes_the_place_of_an_older_one_wholly(tmp_path):
    write_folder(tmp_path / "x" / "out", "first")
    (tmp_path / "x" / "out" / "stale").touch()
    write_folder(tmp_path / "x" / "out", "second")
    assert files(tmp_path) == {"x/out/inner/a.txt"}
    assert (tmp_path / "x" / "out" / "inner" / "a.txt").read_text() == "second"


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt(), ValueError("bug")])
def test_a_failure_leaves_what_was_there(error, tmp_path):
    write_folder(tmp_path / "out", "first")
    expected = UserError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected), whole(tmp_path / "out", 10) as part:
        part.mkdir()
        (part / "half").touch()
        raise error
    assert files(tmp_path) == {"out/inner/a.txt"}
    assert os.listdir(tmp_path) == ["out"]


def test_a_folder_that_cannot_be_put_in_place_leaves_the_older_one(tmp_path, monkeypatch):
    write_folder(tmp_path / "out", "first")
    replace = os.replace

    def refuse(source, target):
        if str(source).endswith(".part"):
            raise OSError("busy")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(UserError, match="busy"):
        write_folder(tmp_path / "out", "second")
    assert os.listdir(tmp_path) == ["out"]
    assert (tmp_path / "out" / "inner" / "a.txt").read_text() == "first"
