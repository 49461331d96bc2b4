"""Bring the generated parts of README.md and docs/ up to date.

    python docs/refresh.py

A generated part lies between two comments, and is replaced as a whole:

    <!-- help: scripts/NAME.py --> ... <!-- /help -->     what a program answers to --help
    <!-- rooms: FOLDER ... --> ... <!-- /rooms -->         a table of each folder and its subfolders

tests/test_readme.py fails while a part is out of date.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HELP = re.compile(r"(<!-- help: (?P<program>\S+) -->\n).*?(<!-- /help -->)", re.DOTALL)
ROOMS = re.compile(r"(<!-- rooms: (?P<folders>.+?) -->\n).*?(<!-- /rooms -->)", re.DOTALL)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@cache
def help_text(program: str) -> str:
    """Return what a program answers to `--help`, as wide as a page and without colours.

    Raises:
        subprocess.CalledProcessError: the program does not end well.
    """
    done = subprocess.run(
        [sys.executable, ROOT / program, "--help"],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "PYTHON_COLORS": "0"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    return done.stdout.strip()


def first_line(path: Path) -> str:
    """Return the first line of a file's docstring as Markdown; empty where there is none."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    # A bar would end the table's cell; reStructuredText doubles the backticks of code.
    return text.partition("\n")[0].replace("``", "`").replace("|", r"\|")


def room(folder: Path) -> str:
    """Return a folder as a heading, the line of its `__init__.py` and a table of its files."""
    files = sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")
    introduction = first_line(folder / "__init__.py") if (folder / "__init__.py").exists() else ""
    table = [f"| `{path.name}` | {first_line(path)} |" for path in files]
    parts = [f"### {folder.relative_to(ROOT).as_posix()}"]
    parts += [introduction] if introduction else []
    parts += ["\n".join(["| file | what it holds |", "|---|---|", *table])] if table else []
    return "\n\n".join(parts)


def rooms(*folders: str) -> str:
    """Return every folder of Python files in and under `folders`, relative to the root."""
    inside = [{path.parent for path in (ROOT / folder).rglob("*.py")} for folder in folders]
    ordered = [path for paths in inside for path in sorted(paths)]
    return "\n\n".join(map(room, ordered))


def refreshed(text: str) -> str:
    """Return a page with its generated parts as the code gives them now."""

    def help_block(match: re.Match) -> str:
        return f"{match[1]}\n```text\n{help_text(match['program'])}\n```\n\n{match[3]}"

    def room_block(match: re.Match) -> str:
        return f"{match[1]}\n{rooms(*match['folders'].split())}\n\n{match[3]}"

    return ROOMS.sub(room_block, HELP.sub(help_block, text))


def main() -> None:
    """Rewrite the pages that are out of date."""
    for page in PAGES:
        old = page.read_text(encoding="utf-8")
        new = refreshed(old)
        if new != old:
            page.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
