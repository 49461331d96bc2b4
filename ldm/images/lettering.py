"""Write a text of any script as a picture, with whichever font at hand has all its characters.

Pillow's own font has Latin letters. Others come from the machine's fonts or from the one inside
OpenCV 5, which has Japanese, Chinese and Korean. Nothing is downloaded.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Files that systems and their packages have, Japanese forms of characters first. Pillow looks for
# them in the places where the system keeps its fonts.
_FILES = (
    "DejaVuSans.ttf",
    "NotoSansCJK-Regular.ttc",  # Debian: fonts-noto-cjk
    "NotoSansJP-Regular.otf",
    "ipaexg.ttf",
    "ipag.ttf",
    "TakaoGothic.ttf",
    "VL-Gothic-Regular.ttf",
    "ヒラギノ角ゴシック W3.ttc",  # macOS
    "Arial Unicode.ttf",
    "YuGothM.ttc",  # Windows
    "msgothic.ttc",
    "DroidSansFallbackFull.ttf",
    "wqy-microhei.ttc",
)
_NOWHERE = "\U0010ffff"  # no character: fonts show it as one that they lack
_UNSEEN = ("Zs", "Cc", "Cf", "Mn", "Me")  # blanks, joiners, and marks that sit on other letters
_PROBE = 24  # pixels
HOW_TO_INSTALL = (
    "install a font that has them, such as Noto Sans CJK (Debian: apt-get install fonts-noto-cjk), "
    "or OpenCV 5 (pip install -U opencv-python)"
)


class _Font(Protocol):
    def draw(self, text: str, size: int) -> np.ndarray:
        """Return coverage, uint8 (2 size, any, 0..255); the baseline is 1.5 sizes from the top."""


class _PillowFont:
    def __init__(self, file: str | None) -> None:
        self.file = file
        _pillows(file, _PROBE)

    def draw(self, text: str, size: int) -> np.ndarray:
        font = _pillows(self.file, size)
        canvas = Image.new("L", (int(font.getlength(text)) + size, 2 * size))
        ImageDraw.Draw(canvas).text((size // 2, 3 * size // 2), text, 255, font=font, anchor="ls")
        return np.asarray(canvas)


@lru_cache(maxsize=64)
def _pillows(file: str | None, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.truetype(file, size) if file else ImageFont.load_default(size)


class _OpenCVFont:
    def __init__(self) -> None:
        import cv2

        self._cv2, self._face = cv2, cv2.FontFace("uni")

    def draw(self, text: str, size: int) -> np.ndarray:
        canvas = np.zeros((2 * size, (len(text) + 1) * 2 * size), np.uint8)
        place, white = (size // 2, 3 * size // 2), (255, 255, 255)
        self._cv2.putText(canvas, text, place, white, self._face, size, 400)
        return canvas


def draw_text(text: str, size: int) -> np.ndarray | None:
    """Return a text in one line.

    Args:
        text: In any script.
        size: Of the font, in pixels.

    Returns:
        How much of each pixel is covered, uint8 (2 size, as wide as the text) in 0..255; None
        where no font at hand has all its characters.
    """
    for font in _fonts():
        if _has(font, text):
            canvas = font.draw(text, size)
            columns = np.flatnonzero(canvas.any(0))
            return canvas[:, columns[0] : columns[-1] + 1] if len(columns) else canvas[:, :size]
    return None


def _fonts() -> Iterator[_Font]:
    """Yield the fonts at hand; each is looked for when those before it will not do."""
    found = (_found(number) for number in range(len(_FILES) + 2))
    return (font for font in found if font is not None)


@lru_cache(maxsize=32)
def _found(number: int) -> _Font | None:
    try:
        return _OpenCVFont() if number > len(_FILES) else _PillowFont((None, *_FILES)[number])
    except (OSError, ImportError, AttributeError):  # absent; an older OpenCV has no such class
        return None


def _has(font: _Font, text: str) -> bool:
    return all(_has_character(font, character) for character in set(text))


@lru_cache(maxsize=4096)
def _has_character(font: Any, character: str) -> bool:
    if unicodedata.category(character) in _UNSEEN:
        return True
    drawn, lacking = font.draw(character, _PROBE), font.draw(_NOWHERE, _PROBE)
    return bool(drawn.any()) and not np.array_equal(drawn, lacking)
