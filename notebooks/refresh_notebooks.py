"""Write activity.ipynb, the solved notebook with blanks, and strip the outputs of all notebooks.

    python notebooks/refresh_notebooks.py

In a code cell of activity_solved.ipynb the lines between `# BLANK: what to do` and `# END` are the
solution; the activity has `# TODO: what to do` and `...` in their place. Cells whose id begins with
`solved-` are not in the activity.
"""

from __future__ import annotations

import copy
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ldm.arguments import ArgumentParser
from ldm.atomic import replacing
from ldm.errors import UserError
from ldm.programs.console import Console, exit_codes
from ldm.programs.start import leave

HERE = Path(__file__).resolve().parent
SOLVED, ACTIVITY = HERE / "activity_solved.ipynb", HERE / "activity.ipynb"
SOLUTION = re.compile(r"^( *)# BLANK: (.*)\n(?:.*\n)*?\1# END *$", re.MULTILINE)
MARK = re.compile(r"# (?:BLANK|END)\b")
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
Notebook = dict[str, Any]


def stripped(notebook: Notebook) -> Notebook:
    """Return a notebook without outputs, numbers of runs, and what editors add."""
    made = {"cells": [], "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}
    for cell in notebook["cells"]:
        kept = {key: cell[key] for key in ("cell_type", "id")} | {"metadata": {}}
        if cell["cell_type"] == "code":
            kept |= {"execution_count": None, "outputs": []}
        made["cells"].append(kept | {"source": "".join(cell["source"]).splitlines(keepends=True)})
    return made


def blanked(solved: Notebook) -> Notebook:
    """Return the activity: a solved notebook whose solutions are blanks.

    Raises:
        UserError: A solution's begin or end is missing.
    """
    made = stripped(copy.deepcopy(solved))
    made["cells"] = [cell for cell in made["cells"] if not cell["id"].startswith("solved-")]
    for cell in made["cells"]:
        text = SOLUTION.sub(r"\1# TODO: \2\n\1...", "".join(cell["source"]))
        if cell["cell_type"] == "code" and MARK.search(text):
            raise UserError(
                f"cell {cell['id']} has `# BLANK: ...` without `# END`, or the other way round; "
                "expected both, indented alike; add what is missing"
            )
        cell["source"] = text.splitlines(keepends=True)
    return made


def read(path: Path) -> Notebook:
    """Read a notebook.

    Raises:
        UserError: It cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read as a notebook ({error}); expected Jupyter's JSON; "
            "check the file"
        ) from error


def as_text(notebook: Notebook) -> str:
    """Return a notebook as its file has it."""
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def refresh() -> list[Path]:
    """Write what differs and return it."""
    wanted = {path: stripped(read(path)) for path in sorted(HERE.glob("*.ipynb"))}
    wanted[ACTIVITY] = blanked(wanted[SOLVED])
    changed = []
    for path, notebook in wanted.items():
        if not path.exists() or path.read_text(encoding="utf-8") != as_text(notebook):
            with replacing(path) as part:
                part.write_text(as_text(notebook), encoding="utf-8")
            changed.append(path)
    return changed


def main(argv: Sequence[str] | None = None) -> int:
    """Write what differs, and say what that is."""
    console = Console("refresh_notebooks", sys.stdout, sys.stderr)
    with exit_codes(console) as outcome:
        ArgumentParser(description=__doc__.partition("\n")[0]).parse_args(argv)
        for path in refresh():
            console.say(f"Written: {path.relative_to(HERE.parent)}")
    return outcome.code


if __name__ == "__main__":
    leave(main())
