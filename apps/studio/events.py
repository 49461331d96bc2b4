"""How the page calls the server, past gradio's queue; and what a browser kept for it."""

from __future__ import annotations

import json
from typing import Any, TypeVar

Kept = TypeVar("Kept", dict, list)

QUIET = {
    "queue": False,
    "show_progress": "hidden",
    "api_visibility": "private",
    "preprocess": False,
    "trigger_mode": "always_last",
}
"""What answers at once; its values are read by the project, not by gradio."""
IN_BROWSER = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""What a browser does by itself."""


def kept_json(kept: Any, longest: int, kind: type[Kept]) -> Kept:
    """Return what a browser kept as JSON; an empty ``kind`` where it is none, or too long.

    Args:
        kept: What it sent.
        longest: The most characters that are read.
        kind: ``dict`` or ``list``.
    """
    if not isinstance(kept, str) or not 0 < len(kept) <= longest:
        return kind()
    try:
        values = json.loads(kept)
    except (ValueError, RecursionError):
        return kind()
    return values if isinstance(values, kind) else kind()
