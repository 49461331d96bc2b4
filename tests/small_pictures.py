"""Tiny picture files, whole and broken in every way that data sets meet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def noise(height: int = 20, width: int = 30, seed: int = 0) -> np.ndarray:
    """Return random pixels, uint8 (H, W, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def save(path: Path, pixels: np.ndarray | None = None, *, seed: int = 0, **options) -> Path:
    """Save a picture, by default noise; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(seed=seed) if pixels is None else pixels).save(path, **options)
    return path


def flat(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (30, 20)) -> Path:
    """Save a picture of one colour; ``size`` is (width, height)."""
    return save(path, np.full((size[1], size[0], 3), colour, np.uint8))


def break_files(folder: Path) -> list[Path]:
    """Make a file of each kind that cannot be read."""
    whole = save(folder / "whole.jpg", noise(64, 64)).read_bytes()
    (folder / "whole.jpg").unlink()
    contents = {
        "empty.jpg": b"",
        "truncated.jpg": whole[: len(whole) // 2],
        "text.png": b"<html>404 not found</html>",
        "header_only.png": b"\x89PNG\r\n\x1a\n",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "dangling.webp").symlink_to(folder / "nowhere.webp")
    return sorted(folder / name for name in (*contents, "dangling.webp"))


def captioned_folder(folder: Path, count: int = 4) -> Path:
    """Make pictures 0.png, 1.png, ... with captions "picture 0", ..."""
    for k in range(count):
        save(folder / f"{k}.png", seed=k)
        (folder / f"{k}.txt").write_text(f"picture {k}\n", encoding="utf-8")
    return folder
