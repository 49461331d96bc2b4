"""Draw the example files of the README: run it after a change here, and commit what it writes.

    python assets/examples/make.py

Everything is drawn by the lines below, so that the files are as free as the code.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw

FOLDER = Path(__file__).resolve().parent
BLUE, WOOD, DARK, WHITE = (40, 75, 205), (120, 72, 38), (60, 36, 19), (244, 244, 244)
FINER = 4  # times the size, to be shrunk with smooth edges
Draw = ImageDraw.ImageDraw
PROMPTS = (
    "a photo of a panda on a red background",
    "a painting of a rocket on a blue background",
    "a robot next to a house on a purple background",
    "緑の背景の猫の写真",
)
JOBS = (
    "prompt,seed,n_samples",
    "a photo of a panda on a red background,7,2",
    "a robot next to a house on a purple background,8,1",
)
WILDCARDS = {
    "animals": ["panda", "cat", "dog", "fox", "penguin", "frog", "lion", "pig", "rabbit", "turtle"],
    "colours": ["red", "yellow", "green", "blue", "purple", "pink"],
}


def drawn(side: int, background: tuple[int, int, int], paint: Callable[[Draw], None]) -> Image:
    """Return a picture of ``side`` pixels; ``paint`` draws on one of 64 times FINER."""
    picture = Image.new("RGB", (64 * FINER, 64 * FINER), background)
    paint(ImageDraw.Draw(picture))
    return picture.resize((side, side), Image.Resampling.LANCZOS)


def scaled(*numbers: float) -> list[float]:
    """Return places in pixels of 64 as places where ``paint`` draws."""
    return [number * FINER for number in numbers]


def chair(draw: Draw) -> None:
    """Draw a chair: back, seat, legs."""
    draw.rectangle(scaled(21, 14, 26, 42), WOOD)
    draw.rectangle(scaled(21, 36, 44, 41), WOOD)
    for left in (22, 40):
        draw.rectangle(scaled(left, 41, left + 3, 54), DARK)


def around_chair(draw: Draw) -> None:
    """Mark the chair and some room around it."""
    draw.rectangle(scaled(12, 8, 52, 58), "white")


def balloon(draw: Draw) -> None:
    """Draw a balloon on its string."""
    draw.line(scaled(32, 36, 29, 60), WHITE, width=FINER)
    draw.ellipse(scaled(20, 6, 44, 38), (214, 40, 40))


def around_balloon(draw: Draw) -> None:
    """Mark the balloon and its string."""
    draw.ellipse(scaled(12, 2, 52, 62), "white")


def landscape(draw: Draw) -> None:
    """Draw a house on a hill under the sun."""
    draw.ellipse(scaled(46, 5, 58, 17), (250, 222, 60))
    draw.ellipse(scaled(-20, 38, 84, 110), (50, 160, 70))
    draw.rectangle(scaled(20, 26, 42, 46), WHITE)
    draw.polygon(scaled(16, 27, 31, 13, 46, 27), (214, 40, 40))
    draw.rectangle(scaled(28, 34, 35, 46), WOOD)
    draw.rectangle(scaled(22, 29, 27, 34), BLUE)


PICTURES = {
    "pictures/chair.png": (64, BLUE, chair),
    "pictures/chair_mask.png": (64, (0, 0, 0), around_chair),
    "pictures/balloon.png": (64, (50, 160, 70), balloon),
    "pictures/balloon_mask.png": (64, (0, 0, 0), around_balloon),
    "photo.png": (256, (125, 205, 245), landscape),
}


def main(folder: Path = FOLDER) -> int:
    """Write every file into a folder; return the exit code."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    for name, how in PICTURES.items():
        picture = drawn(*how)
        if name.endswith("_mask.png"):
            picture = picture.convert("L").point(lambda grey: 255 * (grey > 127))
        picture.save(folder / name, optimize=True)
    (folder / "wildcards").mkdir(exist_ok=True)
    lists = {f"wildcards/{name}.txt": lines for name, lines in WILDCARDS.items()}
    for name, lines in {"prompts.txt": PROMPTS, "jobs.csv": JOBS, **lists}.items():
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
