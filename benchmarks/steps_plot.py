"""Draw what steps.py measures: PSNR, and what the oracle sees, against calls of the model."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw, ImageFont

from benchmarks.steps_tables import Mean, Means, is_noisy

PANEL, MARGIN, LEGEND, LINE = (560, 420), 60, 300, 17  # pixels
INK, GRID = (40, 40, 40), (225, 225, 225)


def plot(means: Means, runs: Sequence[str], calls: Sequence[int]) -> Image.Image:
    """Draw two panels, PSNR of the runs without noise and the share explained of all, in RGB."""
    height = max(PANEL[1] + 2 * MARGIN, 2 * MARGIN + LINE * len(runs))
    image = Image.new("RGB", (2 * (PANEL[0] + MARGIN) + MARGIN + LEGEND, height), "white")
    draw = ImageDraw.Draw(image)
    plain = [run for run in runs if not is_noisy(run)]
    panels: list[tuple[str, Sequence[str], Callable[[Mean], float]]] = [
        ("PSNR to the limit, dB (without noise)", plain, lambda mean: mean.psnr),
        ("explained by the glyphs found, %", runs, lambda mean: 100 * mean.explained),
    ]
    colours = {run: _colour(k, len(runs)) for k, run in enumerate(runs)}
    for k, (title, shown, value) in enumerate(panels):
        curves = {run: [value(means[f"{run} {c}"]) for c in calls] for run in shown}
        _panel(draw, MARGIN + k * (PANEL[0] + MARGIN), title, curves, colours, calls)
    left = 2 * (PANEL[0] + MARGIN) + MARGIN // 2 + 10
    for k, run in enumerate(runs):
        y = MARGIN + LINE * k
        _dashed(draw, [(left, y + 7), (left + 30, y + 7)], colours[run], is_noisy(run))
        draw.text((left + 38, y), run, fill=INK, font=_font())
    return image


def _panel(
    draw: ImageDraw.ImageDraw,
    left: int,
    title: str,
    curves: dict[str, list[float]],
    colours: dict[str, tuple[int, int, int]],
    calls: Sequence[int],
) -> None:
    """Draw one panel with its axes; calls stand on a logarithmic one."""
    width, height = PANEL
    values = [value for curve in curves.values() for value in curve]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    high = high if high > low else low + 1.0
    first, last = math.log(calls[0]), math.log(calls[-1])

    def at(count: int, value: float) -> tuple[float, float]:
        along = (math.log(count) - first) / (last - first) if last > first else 0.5
        return left + along * (width - 30), MARGIN + height * (1 - (value - low) / (high - low))

    draw.text((left, MARGIN - 28), title, fill=INK, font=_font())
    for k in range(6):
        value = low + k * (high - low) / 5
        y = at(calls[0], value)[1]
        draw.line([(left, y), (left + width - 30, y)], fill=GRID)
        draw.text((left - 34, y - 7), f"{value:.0f}", fill=INK, font=_font())
    for count in calls:
        x = at(count, low)[0]
        draw.line([(x, MARGIN), (x, MARGIN + height)], fill=GRID)
        draw.text((x - 20, MARGIN + height + 6), f"{count} calls", fill=INK, font=_font())
    for run, curve in curves.items():
        points = [at(count, value) for count, value in zip(calls, curve, strict=True)]
        _dashed(draw, points, colours[run], is_noisy(run))


def _dashed(
    draw: ImageDraw.ImageDraw,
    points: Sequence[tuple[float, float]],
    colour: tuple[int, int, int],
    dashed: bool,
) -> None:
    """Draw a line through points, with gaps for samplers that add noise."""
    for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
        pieces = max(round(math.hypot(x1 - x0, y1 - y0) / 5), 1) if dashed else 1
        for k in range(0, pieces, 2):
            a, b = k / pieces, min((k + 1) / pieces, 1)
            ends = [(x0 + u * (x1 - x0), y0 + u * (y1 - y0)) for u in (a, b)]
            draw.line(ends, fill=colour, width=2)


def _colour(k: int, count: int) -> tuple[int, int, int]:
    # Neighbours in the list are far apart on the circle of hues.
    hue = (k * 0.381966) % 1.0
    light = 0.35 + 0.2 * (k / max(count - 1, 1))
    return tuple(round(255 * part) for part in colorsys.hls_to_rgb(hue, light, 0.8))


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(13)
