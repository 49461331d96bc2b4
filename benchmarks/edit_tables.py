"""The tables of attention_edit.py, as lines of Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.edit_measures import SwapScore, falls, mean

ENOUGH_MASS = 0.7


def swap_table(scores: Mapping[str, SwapScore]) -> list[str]:
    """Show a line for each way of drawing the new prompt, and the goals."""
    lines = [
        "| way | new noun | old noun | background kept | IoU of boxes | change outside |",
        "|---|---|---|---|---|---|",
        "| goal | 90 % | | 98 % | 0.70 | |",
    ]
    for name, score in scores.items():
        lines.append(
            f"| {name} | {percent(score.drawn)} | {percent(score.old)} "
            f"| {percent(score.background)} | {score.iou:.3f} | {score.outside:.1f} |"
        )
    return lines


def grid_table(scores: Mapping[tuple[float, float], SwapScore]) -> list[str]:
    """Show new noun drawn, background kept and IoU for each pair of windows, cross and self."""
    columns = sorted({own for _, own in scores})
    lines = [
        "| cross \\ self | " + " | ".join(f"{own:g}" for own in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for cross in sorted({cross for cross, _ in scores}):
        cells = (scores[cross, own] for own in columns)
        shown = (f"{percent(s.drawn)}, {percent(s.background)}, {s.iou:.2f}" for s in cells)
        lines.append(f"| {cross:g} | " + " | ".join(shown) + " |")
    return lines


def weight_table(distances: Mapping[float, Sequence[float]]) -> list[str]:
    """Show the distances to the named colour at rising weights, and how often they fall.

    Args:
        distances: For each weight, rising, one for each prompt, in RGB of 0..255.
    """
    weights = list(distances)
    lines = ["| weight | mean distance | median | largest |", "|---|---|---|---|"]
    for weight, values in distances.items():
        middle = sorted(values)[len(values) // 2]
        lines.append(f"| {weight:g} | {mean(values):.1f} | {middle:.1f} | {max(values):.1f} |")
    lines += ["", "| weights | the distance falls |", "|---|---|"]
    spans = [*zip(weights, weights[1:], strict=False), tuple(weights)]
    for span in spans:
        rows = zip(*(distances[weight] for weight in span), strict=True)
        goal = " (goal 90 %)" if len(span) == len(weights) else ""
        steps = " to ".join(f"{weight:g}" for weight in span)
        lines.append(f"| {steps} | {percent(mean(falls(row) for row in rows))}{goal} |")
    return lines


def map_table(shares: Mapping[str, Sequence[float]], uniform: Sequence[float]) -> list[str]:
    """Show how much of a noun's map lies in the thing's box, and of a uniform map.

    Args:
        shares: For each way of taking the map one for each prompt, the plain way first.
        uniform: Those of the uniform map.
    """
    lines = [
        "| map | mass in the box, mean | prompts with 70 % or more |",
        "|---|---|---|",
        "| goal | 70 % | |",
    ]
    for name, values in {**shares, "uniform": uniform}.items():
        enough = mean(value >= ENOUGH_MASS for value in values)
        lines.append(f"| {name} | {percent(mean(values))} | {percent(enough)} |")
    return lines


def reader_table(shares: Mapping[str, float]) -> list[str]:
    """Show which share of the attention each kind of token has."""
    titles, values = zip(*shares.items(), strict=True)
    return [
        f"| {' | '.join(titles)} |",
        "|---" * len(titles) + "|",
        f"| {' | '.join(map(percent, values))} |",
    ]


def percent(share: float) -> str:
    """Show a share of 0..1."""
    return f"{100 * share:.1f} %"
