"""What LINE demands of messages: how many, how long, which addresses. No state, no network.

Limits: Messaging API reference, "Message objects" and "Quick reply". Each fault is a mapping of
"message" and "property", as in the details of LINE's own answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

MOST_MESSAGES = 5  # of one request
LONGEST_TEXT = 5000  # UTF-16 code units, which is how LINE counts
LONGEST_URL = 2000
MOST_QUICK_REPLIES = 13
LONGEST_LABEL = 20
LONGEST_DATA = 300  # a postback's data, and the text that a button says
LARGEST_PICTURE = 10 * 1024 * 1024  # bytes
LARGEST_PREVIEW = 1024 * 1024
PICTURE_TYPES = ("image/jpeg", "image/png")
LOADING_SECONDS = range(5, 61, 5)

# What a message of each kind must have beside its type.
_REQUIRED = {
    "text": ("text",),
    "textV2": ("text",),
    "image": ("originalContentUrl", "previewImageUrl"),
    "sticker": ("packageId", "stickerId"),
    "video": ("originalContentUrl", "previewImageUrl"),
    "audio": ("originalContentUrl", "duration"),
    "location": ("title", "address", "latitude", "longitude"),
    "template": ("altText", "template"),
    "flex": ("altText", "contents"),
    "imagemap": ("altText", "baseUrl", "baseSize", "actions"),
}
_ACTIONS = {
    "message": ("label", "text"),
    "postback": ("label", "data"),
    "uri": ("label", "uri"),
    "datetimepicker": ("label", "data", "mode"),
    "camera": ("label",),
    "cameraRoll": ("label",),
    "location": ("label",),
    "clipboard": ("label", "clipboardText"),
}
_LENGTHS = {"label": LONGEST_LABEL, "text": LONGEST_DATA, "data": LONGEST_DATA}
Fault = dict[str, str]


def length_of(text: str) -> int:
    """Return how long a text is to LINE.

    Example:
        >>> length_of("猫"), length_of("🐱")
        (1, 2)
    """
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def faults_of(messages: object) -> list[Fault]:
    """Return what LINE would not accept in a request's messages; nothing if they are in order."""
    if not isinstance(messages, list) or not 1 <= len(messages) <= MOST_MESSAGES:
        return [_fault("messages", f"Size must be between 1 and {MOST_MESSAGES}")]
    return [
        fault
        for index, message in enumerate(messages)
        for fault in _message_faults(message, f"messages[{index}]")
    ]


def _fault(where: str, message: str) -> Fault:
    return {"message": message, "property": where}


def _message_faults(message: Any, where: str) -> Iterator[Fault]:
    kind = message.get("type") if isinstance(message, dict) else None
    if kind not in _REQUIRED:
        expected = ", ".join(_REQUIRED)
        yield _fault(f"{where}.type", f"Must be one of the following values: [{expected}]")
        return
    yield from _missing(message, _REQUIRED[kind], where)
    if kind in ("text", "textV2") and message.get("text"):
        yield from _too_long(message["text"], LONGEST_TEXT, f"{where}.text")
    for name in ("originalContentUrl", "previewImageUrl"):
        if message.get(name):
            yield from _url_faults(message[name], f"{where}.{name}")
    if "quickReply" in message:
        yield from _quick_reply_faults(message["quickReply"], f"{where}.quickReply")


def _missing(given: dict[str, Any], names: tuple[str, ...], where: str) -> Iterator[Fault]:
    for name in names:
        if given.get(name) in (None, "", [], {}):
            yield _fault(f"{where}.{name}", "May not be empty")


def _too_long(text: object, most: int, where: str) -> Iterator[Fault]:
    if not isinstance(text, str):
        yield _fault(where, "Must be a string")
    elif length_of(text) > most:
        yield _fault(where, f"Length must be between 0 and {most}")


def _url_faults(url: object, where: str) -> Iterator[Fault]:
    yield from _too_long(url, LONGEST_URL, where)
    if isinstance(url, str) and (urlsplit(url).scheme != "https" or not urlsplit(url).netloc):
        yield _fault(where, "Must be a valid HTTPS URL")


def _quick_reply_faults(quick_reply: Any, where: str) -> Iterator[Fault]:
    items = quick_reply.get("items") if isinstance(quick_reply, dict) else None
    if not isinstance(items, list) or not 1 <= len(items) <= MOST_QUICK_REPLIES:
        yield _fault(f"{where}.items", f"Size must be between 1 and {MOST_QUICK_REPLIES}")
        return
    for index, item in enumerate(items):
        action = item.get("action") if isinstance(item, dict) else None
        yield from _action_faults(action, f"{where}.items[{index}].action")


def _action_faults(action: Any, where: str) -> Iterator[Fault]:
    kind = action.get("type") if isinstance(action, dict) else None
    if kind not in _ACTIONS:
        yield _fault(f"{where}.type", f"Must be one of the following values: {[*_ACTIONS]}")
        return
    yield from _missing(action, _ACTIONS[kind], where)
    for name in ("label", "text", "data", "displayText"):
        if action.get(name):
            yield from _too_long(action[name], _LENGTHS.get(name, LONGEST_DATA), f"{where}.{name}")
