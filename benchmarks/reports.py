"""A benchmark's report: shown line by line as it is found, and kept among the results if asked."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"


def tell(lines: Iterable[str], title: str, save: str | None) -> None:
    """Print a report's lines; keep them as a page of Markdown.

    Args:
        lines: Printed as they come.
        title: The page's heading.
        save: The page is results/SAVE.md; None keeps none.
    """
    found = []
    for line in lines:
        print(line, flush=True)
        found.append(line)
    if save is not None:
        RESULTS.mkdir(exist_ok=True)
        text = "\n".join([f"# {title}", "", *found, ""])
        (RESULTS / f"{save}.md").write_text(text, encoding="utf-8")
