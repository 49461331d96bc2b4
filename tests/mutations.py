"""Break key lines of the library, one at a time, and see whether a test notices.

    python tests/mutations.py                # all; eight to twelve minutes on one core
    python tests/mutations.py --only ddim    # those with the word in their file, lines or tests
    python tests/mutations.py --list

A line that can be wrong without a failing test is a line that nobody checks. Everything happens in
a copy of the repository; the tree itself is left alone. The lines are in ``mutation_table.py``: one
that is gone, or is there twice, has to be brought up to date by whoever changed it.

Exit codes: 0 all caught; 1 a mutation survived; 2 the table or the tests are not in order.
"""

# ruff: noqa: T201 - a program

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mutation_table import TABLE

ROOT = Path(__file__).resolve().parents[1]
LONGEST = 300  # seconds that the tests of one mutation may take: a broken loop need not end


@dataclass(frozen=True)
class Mutation:
    """A line of the library and what it becomes.

    Attributes:
        path: The file, relative to the repository.
        tests: What guards it, with blanks between.
        old: Text that is in the file once.
        new: What stands there instead.
    """

    path: str
    tests: str
    old: str
    new: str

    def __str__(self) -> str:
        texts = (" ".join(text.split()) for text in (self.old, self.new))
        return " -> ".join(texts)

    def line(self, source: str) -> int:
        """Return the number of the line that changes."""
        return source[: source.index(self.old)].count("\n") + 1


@dataclass(frozen=True)
class Outcome:
    """What the tests made of a mutation.

    Attributes:
        code: Exit code of pytest: 1 is what is hoped for, 0 is a survivor.
        test: The test that failed.
        seconds: How long it took.
    """

    code: int
    test: str
    seconds: float


def mutations(only: str = "") -> list[Mutation]:
    """Return the table's mutations that have a word in their file, tests or lines."""
    every = [
        Mutation(path, tests, old, new)
        for (path, tests), rows in TABLE.items()
        for old, new in rows
    ]
    return [each for each in every if only.lower() in " ".join(vars(each).values()).lower()]


def stale(chosen: Sequence[Mutation], root: Path) -> Iterator[str]:
    """Yield what the table has wrong."""
    for each in chosen:
        file = root / each.path
        count = file.read_text(encoding="utf-8").count(each.old) if file.exists() else 0
        if count != 1:
            yield f"{each.path} has {count} times, expected once: {each.old!r}"


def copy_tree(folder: Path) -> None:
    """Copy what git would commit into ``folder``."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


def run_tests(folder: Path, tests: str, longest: int | None = None) -> tuple[Outcome, str]:
    """Run tests in a copy until the first fails; return what came of it and what they wrote."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    # No bytecode: a file changed and changed back within a second would be taken for its copy.
    own = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(folder)}
    options = {"cwd": folder, "env": os.environ | own, "capture_output": True, "text": True}
    began = time.monotonic()
    try:
        done = subprocess.run([*command, *tests.split()], timeout=longest, check=False, **options)
    except subprocess.TimeoutExpired:
        return Outcome(1, "out of time", time.monotonic() - began), ""
    failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", done.stdout, re.MULTILINE)
    seconds = time.monotonic() - began
    return Outcome(done.returncode, failed[1] if failed else "", seconds), done.stdout


def attempt(each: Mutation, folder: Path) -> Outcome:
    """Run a mutation's tests in a copy that has the mutation, and take it back."""
    file = folder / each.path
    source = file.read_text(encoding="utf-8")
    file.write_text(source.replace(each.old, each.new), encoding="utf-8")
    try:
        return run_tests(folder, each.tests, LONGEST)[0]
    finally:
        file.write_text(source, encoding="utf-8")


def try_all(chosen: Sequence[Mutation], folder: Path) -> int:
    """Print what becomes of each mutation; return the exit code."""
    codes = []
    for each in chosen:
        outcome = attempt(each, folder)
        number = each.line((folder / each.path).read_text(encoding="utf-8"))
        # Other codes: nothing was run, as the mutation cannot be imported or no test is so named.
        said = {0: "SURVIVED", 1: re.sub(r"^[^:]*/", "", outcome.test)}.get(outcome.code, "NOT RUN")
        print(f"{each.path}:{number} | {each} | {said} | {outcome.seconds:.0f} s", flush=True)
        codes.append(outcome.code)
    survived, broken = codes.count(0), sum(code not in (0, 1) for code in codes)
    print(f"{len(codes)} mutations: {codes.count(1)} caught, {survived} survived, {broken} not run")
    return 2 if broken else min(survived, 1)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", metavar="WORD", help="those that have this word")
    parser.add_argument("--list", action="store_true", help="list them and run nothing")
    options = parser.parse_args(argv)
    chosen = mutations(options.only)
    wrong = [*stale(chosen, ROOT)] if chosen else [f"no mutation has {options.only!r}"]
    if wrong:
        print("tests/mutation_table.py is stale:", *wrong, sep="\n", file=sys.stderr)
        return 2
    if options.list:
        print(*(f"{each.path}: {each}" for each in chosen), sep="\n")
        return 0
    with tempfile.TemporaryDirectory(prefix="mutations-") as name:
        folder = Path(name)
        copy_tree(folder)
        # A test that fails anyway would catch everything.
        clean, output = run_tests(folder, " ".join(dict.fromkeys(each.tests for each in chosen)))
        if clean.code:
            print("the tests fail without any mutation:", output[-2000:], sep="\n", file=sys.stderr)
            return 2
        return try_all(chosen, folder)


if __name__ == "__main__":
    sys.exit(main())
