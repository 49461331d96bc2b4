"""Bring the `--help` texts in README.md and docs/ up to date.

    python docs/refresh_help.py

A text lies between `<!-- help: scripts/NAME.py -->` and `<!-- /help -->`; what is between them is
replaced. tests/test_readme.py fails while one is out of date.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(<!-- help: (?P<program>\S+) -->\n).*?(<!-- /help -->)", re.DOTALL)
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


def refreshed(text: str) -> str:
    """Return a page with every help text as the programs give it now."""

    def block(match: re.Match) -> str:
        return f"{match[1]}\n```text\n{help_text(match['program'])}\n```\n\n{match[3]}"

    return BLOCK.sub(block, text)


def main() -> None:
    """Rewrite the pages that are out of date."""
    for page in PAGES:
        old = page.read_text(encoding="utf-8")
        new = refreshed(old)
        if new != old:
            page.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
