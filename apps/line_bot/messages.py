"""Messages as LINE's API takes them: words, pictures, and the buttons under them."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from apps.line_bot.texts import STYLES, say
from ldm.legible import legible

LONGEST_TEXT = 4900  # letters; LINE takes 5000
BUTTONS = ("again", "variation", "larger", "style", "stop")


def words(text: str) -> dict[str, Any]:
    """Return a message of words."""
    return {"type": "text", "text": legible(text, LONGEST_TEXT)}


def styles(job: str, language: str) -> dict[str, Any]:
    """Return the question in which style to draw a job's picture, with a button for each."""
    buttons = [
        _button(say(style, language), {"do": "style", "job": job, "style": style})
        for style in STYLES
    ]
    return {**words(say("which_style", language)), "quickReply": {"items": buttons}}


def pictures(addresses: list[tuple[str, str]], job: str, language: str) -> list[dict[str, Any]]:
    """Return a message for each picture, with buttons under the last.

    Args:
        addresses: Of each picture and its preview; https alone.
        job: The job's name.
        language: Of the buttons.

    Raises:
        ValueError: an address is not https, which LINE's SDK would let pass and LINE refuses.
    """
    if not all(url.startswith("https://") for pair in addresses for url in pair):
        raise ValueError("LINE takes https addresses only")
    found: list[dict[str, Any]] = [
        {"type": "image", "originalContentUrl": url, "previewImageUrl": preview}
        for url, preview in addresses
    ]
    buttons = [_button(say(each, language), {"do": each, "job": job}) for each in BUTTONS]
    found[-1]["quickReply"] = {"items": buttons}
    return found


def _button(label: str, values: dict[str, str]) -> dict[str, Any]:
    action = {"type": "postback", "label": label, "data": urlencode(values), "displayText": label}
    return {"type": "action", "action": action}
