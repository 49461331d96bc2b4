"""What one of LINE's events says, as plain values: read by the SDK's own models.

A webhook's body holds several events. Those of kinds that are not known here, or that nobody can
answer, are read as None.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from linebot.v3.webhooks import (
    Event,
    FollowEvent,
    ImageMessageContent,
    JoinEvent,
    LeaveEvent,
    MessageEvent,
    PostbackEvent,
    TextMessageContent,
    UnfollowEvent,
    UnsendEvent,
)

from apps.line_bot.jobs import Origin

Kind = Literal["text", "photo", "other", "button", "met", "left", "unsent"]
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TOKEN = re.compile(r"[\x21-\x7e]{1,200}")
# Class -> the kind of event; a message's kind depends on what it holds.
_KINDS: dict[type, Kind] = {
    PostbackEvent: "button",
    FollowEvent: "met",
    JoinEvent: "met",
    UnfollowEvent: "left",
    LeaveEvent: "left",
    UnsendEvent: "unsent",
}


@dataclass(frozen=True)
class Incoming:
    """One event.

    Attributes:
        kind: What happened.
        origin: Where, when and by whom.
        alone: Whether the chat is with one user; otherwise it is a group or a room.
        addressed: Whether the bot is meant: always in a chat with one user, by mention elsewhere.
        text: A message's words, without the bot's name; or what a button carries.
    """

    kind: Kind
    origin: Origin
    alone: bool
    addressed: bool
    text: str = ""


def events_in(body: bytes) -> list[tuple[str, str]]:
    """Return the events of a webhook's body: an id for each, and its JSON in ASCII.

    Raises:
        ValueError: the body is none of LINE's.
    """
    try:
        events = json.loads(body.decode("utf-8"))["events"]
        if not isinstance(events, list) or not all(isinstance(each, dict) for each in events):
            raise ValueError("no list of events")
        return [(_name(each), json.dumps(each)) for each in events]
    except (TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"the body is none of LINE's: {type(error).__name__}") from None


def _name(event: dict[str, Any]) -> str:
    """Return an event's id; without a proper one, what it says itself tells it from others."""
    name = event.get("webhookEventId")
    if isinstance(name, str) and _ID.fullmatch(name):
        return name
    same = {key: value for key, value in event.items() if key != "deliveryContext"}
    return hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()


def read_event(name: str, body: str, received: float) -> Incoming | None:
    """Read one event; None if nobody can or need answer it.

    Args:
        name: Its id.
        body: Its JSON.
        received: When it came, in seconds since 1970: none was sent later than that.
    """
    try:
        event = Event.from_dict(json.loads(body))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    source = getattr(event, "source", None)
    if source is None or getattr(event, "mode", "active") != "active":
        return None  # another module of the account answers while this one stands by
    user = getattr(source, "user_id", None)
    chat = getattr(source, "group_id", None) or getattr(source, "room_id", None) or user
    user = user or chat  # a group's member may not be known
    if not all(isinstance(each, str) and _ID.fullmatch(each) for each in (user, chat)):
        return None
    return _read(event, name, user, chat, min(event.timestamp / 1000, received))


def _read(event: Any, name: str, user: str, chat: str, sent: float) -> Incoming | None:
    alone, content = user == chat, getattr(event, "message", None)
    token, message_id = getattr(event, "reply_token", None) or "", ""
    kind, text, addressed = _KINDS.get(type(event), "other"), "", alone
    if isinstance(event, MessageEvent):
        message_id = str(content.id)
        if isinstance(content, TextMessageContent):
            kind = "text"
            text, mentioned = without_name(content)
            addressed = alone or mentioned
        elif isinstance(content, ImageMessageContent):
            kind = "photo"
    elif type(event) not in _KINDS:
        return None
    if isinstance(event, PostbackEvent):
        text, addressed = event.postback.data, True
    if isinstance(event, UnsendEvent):
        message_id = event.unsend.message_id
    if message_id and not _ID.fullmatch(message_id):
        return None
    token = token if _TOKEN.fullmatch(token) else ""
    origin = Origin(name, user, chat, sent, token, message_id)
    return Incoming(kind, origin, alone, addressed, text)


def without_name(content: TextMessageContent) -> tuple[str, bool]:
    """Return a text without the mentions of the bot, and whether there were any.

    LINE counts places in a text in units of UTF-16, as JavaScript does.
    """
    units = content.text.encode("utf-16-le", "surrogatepass")
    found = [
        each
        for each in (content.mention.mentionees if content.mention else ())
        if getattr(each, "is_self", None)
    ]
    for each in sorted(found, key=lambda each: each.index, reverse=True):
        begin = 2 * max(each.index, 0)
        units = units[:begin] + units[begin + 2 * max(each.length, 0) :]
    return units.decode("utf-16-le", "replace").strip(), bool(found)
