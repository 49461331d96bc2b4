"""Lines that the page tells: as HTML, with the role that has them read aloud."""

from __future__ import annotations

import html


def told(text: str) -> str:
    """Return a line on how things stand."""
    return f'<div role="status">{html.escape(text)}</div>'


def warned(text: str) -> str:
    """Return a line on what went wrong."""
    return f'<div class="warning" role="alert">{html.escape(text)}</div>'
