"""The tables of scale.py, from what it noted."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

FAULTS = ("lost", "doubled", "different", "strangers")
GOAL_SPEED, GOAL_RAY = 1.8, 0.05


def report(found: Mapping[str, Any]) -> tuple[list[str], bool]:
    """Return the lines of all that was measured, and whether every picture was as expected.

    Args:
        found: What ``scale.Bench`` kept.
    """
    chaos = {kind: value for kind, value in found.items() if kind.startswith("chaos ")}
    parts = [
        *(_compared(kind, found[kind]) for kind in ("speed", "ray") if kind in found),
        *([_disturbed(chaos)] if chaos else []),
        *([_faults(found["faults"])] if "faults" in found else []),
    ]
    runs = [
        run for kind in ("speed", "ray") for rows in found.get(kind, {}).values() for run in rows
    ]
    runs += chaos.values()
    pictures = not any(run[name] for run in runs for name in FAULTS)
    ended = not any(run["left"] for run in chaos.values())
    good = pictures and ended and all(row["good"] for row in found.get("faults", []))
    return [line for part in parts for line in (*part, "")], good


def _table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    lines = [f"| {' | '.join(map(str, row))} |" for row in (names, *rows)]
    return [lines[0], f"|{'---|' * len(names)}", *lines[1:]]


def _compared(kind: str, ways: Mapping[str, Sequence[Mapping[str, float]]]) -> list[str]:
    """Medians of timed runs, and their ratios to the first way's."""
    rows, first = [], None
    for way, runs in ways.items():
        wall, drawing = (
            statistics.median(run[name] for run in runs) for name in ("wall", "drawing")
        )
        first = first or (wall, drawing)
        wrong = [sum(int(run[name]) for run in runs) for name in FAULTS]
        ratios = f"{first[0] / wall:.2f}", f"{drawing / first[1]:.2f}" if first[1] else "-"
        rows.append((way, len(runs), f"{wall:.1f}", f"{drawing:.2f}", *ratios, *wrong))
    names = ("run", "turns", "wall, s", "pictures/s", "faster, all", "faster, drawing", *FAULTS)
    return [f"## {kind}", "", *_table(names, rows), "", _goal(kind, rows)]


def _goal(kind: str, rows: Sequence[Sequence[Any]]) -> str:
    ratio = float(rows[1][5]) if len(rows) > 1 and rows[1][5] != "-" else 0.0
    if kind == "speed":
        met = "met" if ratio >= GOAL_SPEED else "not met"
        return f"Goal: two workers draw at least {GOAL_SPEED} times as fast as one: {met}."
    met = "met" if ratio >= 1 - GOAL_RAY else "not met"
    return f"Goal: drawing under Ray is at most {GOAL_RAY:.0%} slower: {met}."


def _disturbed(chaos: Mapping[str, Mapping[str, Any]]) -> list[str]:
    rows = []
    for kind, run in chaos.items():
        kills = ", ".join(f"{count} {what}" for what, count in run["killed"].items()) or "none"
        times = f"{run['undisturbed']:.0f}", f"{run['wall']:.0f}"
        wrong = [run[name] for name in FAULTS]
        rows.append(
            (kind.removeprefix("chaos "), kills, run["starts"], *times, *wrong, run["left"])
        )
    names = ("run", "kill -9", "starts", "undisturbed, s", "all, s", *FAULTS, "processes left")
    return ["## chaos", "", *_table(names, rows)]


def _faults(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    cells = [
        (row["fault"], row["code"], row["message"], "yes" if row["good"] else "**no**")
        for row in rows
    ]
    names = ("fault", "exit code", "message", "then all is as undisturbed")
    return ["## faults", "", *_table(names, cells)]
