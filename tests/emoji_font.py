"""The mark of tests that draw scenes: they need the emoji font of the operating system."""

from __future__ import annotations

import pytest

from ldm.data.demo import glyphs
from ldm.errors import UserError


def _font_is_missing() -> bool:
    try:
        glyphs.find_font()
    except UserError:
        return True
    return False


needs_font = pytest.mark.skipif(
    _font_is_missing(),
    reason="Noto Color Emoji is not installed (apt-get install fonts-noto-color-emoji)",
)
