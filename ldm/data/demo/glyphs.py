"""Emoji glyphs from the Noto Color Emoji font, cropped, resized and cached.

Shapes: glyphs are (height, width, channel) in pixels. The font is the user's own (Debian package
fonts-noto-color-emoji); it is not part of this repository.
"""

from __future__ import annotations

import io
import os
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ldm.errors import UserError
from ldm.paths import at_home, is_file

FONT_VARIABLE = "LDM_EMOJI_FONT"
_FONT_FILE = "NotoColorEmoji.ttf"
_FONT_FOLDERS = (
    "/usr/share/fonts/truetype/noto",
    "/usr/share/fonts/noto",
    "/usr/share/fonts/google-noto-emoji",
    "/usr/share/fonts/google-noto-emoji-fonts",
    "/usr/share/fonts/google-noto-color-emoji-fonts",
    "/usr/local/share/fonts",
    "/opt/homebrew/share/fonts",
    "~/.local/share/fonts",
    "~/.fonts",
    "~/Library/Fonts",
)
# The font has bitmaps of this size only; FreeType refuses every other.
_BITMAP_SIZE = 109
# One glyph is 136 pixels wide; anything clearly wider is a sequence that was not joined.
_WIDEST_GLYPH = 150
_HOW_TO_INSTALL = (
    f"install it (apt-get install fonts-noto-color-emoji) or name the file in {FONT_VARIABLE}"
)


def find_font() -> Path:
    """Find the emoji font: the file that ``LDM_EMOJI_FONT`` names, else the usual font folders.

    Raises:
        UserError: there is no such file.
    """
    named = os.environ.get(FONT_VARIABLE)
    if named:
        if is_file(named):
            return Path(named)
        raise UserError(
            f"{FONT_VARIABLE}={named} is not a file; expected {_FONT_FILE}; {_HOW_TO_INSTALL}"
        )
    for folder in _FONT_FOLDERS:
        path = at_home(folder) / _FONT_FILE
        if is_file(path):
            return path
    raise UserError(
        f"the emoji font {_FONT_FILE} was not found; scenes are drawn with it; {_HOW_TO_INSTALL}"
    )


@lru_cache(maxsize=4)
def _load_font(path: Path) -> ImageFont.FreeTypeFont:
    try:
        # If Pillow cannot read a path, it silently uses a font of that name from the system.
        return ImageFont.truetype(io.BytesIO(path.read_bytes()), size=_BITMAP_SIZE)
    except OSError as error:
        raise UserError(
            f"the font {path} cannot be loaded at size {_BITMAP_SIZE} ({error}); expected the"
            f" bitmap (CBDT) form of Noto Color Emoji; {_HOW_TO_INSTALL}"
        ) from error


@lru_cache(maxsize=1024)
def glyph_image(emoji: str) -> Image.Image:
    """Draw an emoji at the font's own size and crop it to what is visible.

    Returns:
        RGBA image, up to 136 x 128 pixels, alpha not premultiplied.

    Raises:
        UserError: the font is missing, lacks this emoji, or cannot join its parts.
    """
    font = _load_font(find_font())
    if font.getlength(emoji) > _WIDEST_GLYPH:
        raise UserError(
            f"the emoji {emoji} was drawn as several glyphs; joining them needs Pillow with Raqm"
            " and FriBiDi; install them (apt-get install libfribidi0; pip install -U pillow)"
        )
    canvas = Image.new("RGBA", (2 * _WIDEST_GLYPH, 2 * _WIDEST_GLYPH))
    ImageDraw.Draw(canvas).text((50, 50), emoji, font=font, embedded_color=True)
    box = canvas.getchannel("A").point(lambda alpha: 255 * (alpha > 8)).getbbox()
    if box is None:
        raise UserError(f"the emoji font has no glyph for {emoji}; {_HOW_TO_INSTALL}")
    # Drawing on transparent black premultiplied the glyph by its alpha. Undo that here: resizing
    # premultiplies again, and doing it twice would darken the edges.
    return Image.frombytes("RGBa", canvas.size, canvas.tobytes()).convert("RGBA").crop(box)


def glyph_shape(emoji: str) -> tuple[float, float]:
    """Return (height, width) of a glyph relative to its longer side, each in (0, 1]."""
    width, height = glyph_image(emoji).size
    longer = max(width, height)
    return height / longer, width / longer


@lru_cache(maxsize=4096)
def resized_glyph(emoji: str, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Resize a glyph to a size in pixels; cached, so the arrays are read-only.

    Returns:
        colour (height, width, 3) float32 in [0, 1], premultiplied by alpha;
        transparency (height, width, 1) float32 in [0, 1] = 1 - alpha.
    """
    # Pillow premultiplies RGBA before it filters, so no outside colour bleeds into the edges.
    image = glyph_image(emoji).resize((width, height), Image.Resampling.LANCZOS)
    rgba = np.asarray(image, dtype=np.float32) / 255
    alpha = rgba[..., 3:]
    colour, transparency = rgba[..., :3] * alpha, 1 - alpha
    colour.setflags(write=False)
    transparency.setflags(write=False)
    return colour, transparency
