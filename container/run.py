"""Start a program by its name: the container's entry point.

    docker run IMAGE txt2img --prompt "a photo of a panda"
    docker run IMAGE line-bot

The program takes the place of this process, so that signals and exit codes are its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("scripts", "scripts/tests", "optimizedSD")
# What programs end with.
STARTS = tuple(f'if __name__ == "__main__":\n    {end}(main())' for end in ("sys.exit", "leave"))
PAGE = "_gradio"
# A port that is published leads to the container's own address, not to its 127.0.0.1.
EVERYWHERE = ("--host", "0.0.0.0")
BOT = ("-m", "apps.line_bot")
STUDIO = ("-m", "apps.studio", "--listen")
SIMULATION = (*BOT, "--simulate", "--port", "8000", *EVERYWHERE)


class UnknownName(Exception):
    """There is no program of that name; the message says which there are."""


def _is_program(code: str) -> bool:
    return any(start in code for start in STARTS)


def programs(root: Path = ROOT) -> dict[str, Path]:
    """Return the programs that are files, by name: words joined by hyphens.

    Args:
        root: The folder with the code.
    """
    files = [path for folder in FOLDERS for path in sorted((root / folder).glob("*.py"))]
    runs = [path for path in files if _is_program(path.read_text(encoding="utf-8"))]
    return {**{hyphened(path.stem): path for path in runs}, "train": root / "main.py"}


def hyphened(name: str) -> str:
    """Return a program's name with hyphens for underscores: either is accepted."""
    return name.replace("_", "-")


def arguments(words: Sequence[str], root: Path = ROOT) -> list[str]:
    """Return what Python is to be given for a program's name and its flags.

    Flags of the user come last, so they count where one is given twice.

    Args:
        words: As after ``docker run IMAGE``.
        root: The folder with the code.

    Raises:
        UnknownName: There is no such program, or none was named.
    """
    known = programs(root)
    name, rest = hyphened(words[0]) if words else "", list(words[1:])
    if name == "line-bot":
        return [*BOT, *EVERYWHERE, *rest]
    if name == "simulate":
        return [*SIMULATION, *rest]
    if name == "studio":
        return [*STUDIO, *rest]
    if name == "pages":
        asked = rest.pop(0) if rest and not rest[0].startswith("-") else "txt2img"
        name = hyphened(asked + PAGE)
        if name not in known:
            served = [path.stem.removesuffix(PAGE) for path in known.values() if _is_page(path)]
            raise UnknownName(f"there is no page {asked!r}; expected one of {', '.join(served)}")
    if name not in known:
        raise UnknownName(_fault(words, [*known, "line-bot", "simulate", "pages", "studio"]))
    added = EVERYWHERE if _is_page(known[name]) else ()
    return [str(known[name]), *added, *rest]


def _is_page(program: Path) -> bool:
    return program.stem.endswith(PAGE)


def _fault(words: Sequence[str], names: Sequence[str]) -> str:
    everything = f"expected one of {', '.join(sorted(names))}"
    if not words:
        return f"no program was named; {everything}"
    near = get_close_matches(hyphened(words[0]), names, n=1)
    hint = f"did you mean {near[0]}?" if near else everything
    return f"there is no program {words[0]!r}; {hint}"


def main(words: Sequence[str]) -> int:
    """Become the program; return 2 if there is none of that name."""
    try:
        given = arguments(words)
    except UnknownName as error:
        sys.stderr.write(f"container: {error}\n")
        return 2
    os.execv(sys.executable, [sys.executable, *given])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
