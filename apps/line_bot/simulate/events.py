"""Webhook events as LINE sends them, and the signature of the body that carries them.

Shapes: Messaging API reference, "Webhook event objects". Pure functions of what they are given, but
for the random half of an event's id.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from typing import Any

from apps.line_bot.simulate.people import Chat, Person
from apps.line_bot.simulate.rules import length_of

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
Event = dict[str, Any]


def sign(secret: str, body: bytes) -> str:
    """Return the header X-Line-Signature of a body: base64 of its HMAC-SHA256 under the secret."""
    digest = hmac.new(secret.encode(), body, hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def new_ulid(now: float) -> str:
    """Return a ULID: 48 bits of time in milliseconds, 80 random bits, 26 letters that sort by time.

    Args:
        now: Seconds since 1970.
    """
    number = (int(now * 1000) & (2**48 - 1)) << 80 | secrets.randbits(80)
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


def payload(destination: str, events: Sequence[Event]) -> bytes:
    """Return the body of a webhook: the bot's user id and the events, in UTF-8."""
    body = {"destination": destination, "events": list(events)}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(
        "utf-8", "surrogatepass"
    )


def source_of(chat: Chat, person: Person | None) -> dict[str, str]:
    """Return where an event comes from: a user, or a group or room with the user who acted."""
    source = {"type": chat.kind}
    if chat.kind != "user":
        source[f"{chat.kind}Id"] = chat.chat_id
    if person is not None:
        source["userId"] = person.user_id
    return source


def event(
    kind: str, now: float, source: dict[str, str], *, reply_token: str | None = None, **more: Any
) -> Event:
    """Return an event.

    Args:
        kind: "message", "postback", "follow", ...
        now: Seconds since 1970; events carry milliseconds.
        source: See `source_of`.
        reply_token: For events that can be answered.
        more: What this kind has beside that.
    """
    made: Event = {
        "type": kind,
        "mode": "active",
        "timestamp": int(now * 1000),
        "source": source,
        "webhookEventId": new_ulid(now),
        "deliveryContext": {"isRedelivery": False},
        **more,
    }
    if reply_token is not None:
        made["replyToken"] = reply_token
    return made


def redelivered(events: Sequence[Event]) -> list[Event]:
    """Return the same events as LINE sends them again: all is as it was, but for the context."""
    return [{**each, "deliveryContext": {"isRedelivery": True}} for each in events]


def text_content(message_id: str, text: str, mentions: Sequence[Event] = ()) -> Event:
    """Return the message of a text.

    Args:
        message_id: Digits.
        text: As it was typed.
        mentions: See `mention`.
    """
    content: Event = {"type": "text", "id": message_id, "text": text, **_tokens()}
    if mentions:
        content["mention"] = {"mentionees": list(mentions)}
    return content


def mention(before: str, name: str, user_id: str, *, is_self: bool) -> Event:
    """Return the object that says where in a text somebody is mentioned.

    Args:
        before: The text before the "@".
        name: Of whoever is mentioned, without "@".
        user_id: Of the same.
        is_self: Whether it is the bot.
    """
    index, length = length_of(before), length_of(f"@{name}")
    return {
        "index": index, "length": length, "type": "user", "userId": user_id, "isSelf": is_self,
    }  # fmt: skip


def image_content(message_id: str) -> Event:
    """Return the message of a photo; its bytes are fetched by the id."""
    provider = {"contentProvider": {"type": "line"}}
    return {"type": "image", "id": message_id, **provider, **_tokens()}


def sticker_content(message_id: str, package_id: str, sticker_id: str) -> Event:
    """Return the message of a sticker."""
    named = {"packageId": package_id, "stickerId": sticker_id, "stickerResourceType": "STATIC"}
    return {"type": "sticker", "id": message_id, **named, **_tokens()}


def _tokens() -> dict[str, str]:
    """Return the tokens with which a message is quoted, and marked as read."""
    return {"quoteToken": secrets.token_urlsafe(24), "markAsReadToken": secrets.token_urlsafe(24)}
