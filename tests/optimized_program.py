"""Run the programs for small devices as a user would, in this process, with the tiny model."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image
from running import load_program


class Program:
    """A program with the tiny model, and what it has written.

    Args:
        path: Of the program.
        folder: The current folder.
        capsys: pytest's.
        base: Arguments that every run begins with.
    """

    def __init__(self, path: str, folder: Path, capsys, base: list[str]):
        self.folder, self.base = folder, base
        self._main, self._capsys = load_program(path).main, capsys

    def __call__(self, *arguments, base: list[str] | None = None) -> tuple[int, str, str]:
        """Return exit code, stdout and stderr."""
        given = [*(self.base if base is None else base), *arguments]
        code = self._main([str(argument) for argument in given])
        captured = self._capsys.readouterr()
        return code, captured.out, captured.err

    def files(self, folder: str = ".") -> list[str]:
        """Return the names of all files below a folder."""
        top = self.folder / folder
        return sorted(p.relative_to(top).as_posix() for p in top.rglob("*") if p.is_file())

    def pixels(self, folder: str) -> list[np.ndarray]:
        """Return a folder's single pictures, in the order of their numbers."""
        paths = (self.folder / folder).rglob("*_0*.png")
        ordered = sorted(paths, key=lambda path: path.stem.split("_")[-1])
        return [np.asarray(Image.open(path)) for path in ordered]

    def log(self, name: str) -> list[dict[str, str]]:
        """Return the rows of a table of runs."""
        with open(self.folder / "logs" / name, encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))


def assert_one_error(result: tuple[int, str, str], program: str, *hints: str) -> None:
    """Exit code 2, and one line on stderr that says what to do."""
    code, _, err = result
    lines = [line for line in err.splitlines() if line and not line.startswith("warning:")]
    lines = [line for line in lines if "step/s" not in line]
    assert code == 2, err
    assert len(lines) == 1 and lines[0].startswith(f"{program}: error: "), err
    for hint in hints:
        assert hint in lines[0]
