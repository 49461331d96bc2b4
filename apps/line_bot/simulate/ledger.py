"""What the stand-in remembers: chats and messages, reply tokens, retry keys, the month's quota.

No network. One lock guards it all: answers are made by several threads at a time.
"""

from __future__ import annotations

import secrets
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from apps.line_bot.simulate.people import Chat, Person, chat_of, is_id
from apps.line_bot.simulate.refusals import (
    ACCEPTED_BEFORE,
    INVALID_REPLY_TOKEN,
    MONTHLY_LIMIT,
    Refusal,
    faulty_body,
    invalid_property,
)
from apps.line_bot.simulate.rules import LOADING_SECONDS, faults_of
from apps.line_bot.simulate.switches import Switches

RETRY_KEY_LIFETIME = 24 * 3600.0  # seconds
Content = dict[str, Any]  # of a message, as in LINE's requests and events


@dataclass
class Message:
    """A message in a chat.

    Args:
        number: 1, 2, ... over all chats, in the order they arrived.
        message_id: As LINE's: digits.
        chat_id: Where it stands.
        sender: The user who wrote it, or None for the bot.
        content: The message object: "type" and what belongs to it.
        way: "reply" or "push" for the bot's; "say" for users' and "postback" for what a button
            shows.
        time: Of the stand-in's clock, in seconds.
        unsent: Whether its user took it back.
        read: Whether the bot marked it as read.
    """

    number: int
    message_id: str
    chat_id: str
    sender: Person | None
    content: Content
    way: str
    time: float
    unsent: bool = False
    read: bool = False


@dataclass
class _ReplyToken:
    chat_id: str
    issued: float
    used: bool = False


@dataclass(frozen=True)
class _Accepted:
    """A push that was accepted under a retry key."""

    request_id: str
    sent: list[dict[str, str]]
    time: float


class Ledger:
    """The state behind LINE's API.

    Args:
        people: The users; more may be added.
        switches: Lifetimes and the quota are read there at each use.
        clock: Returns seconds.
    """

    def __init__(
        self, people: list[Person], switches: Switches, clock: Callable[[], float]
    ) -> None:
        self.switches, self.clock = switches, clock
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.version = 0  # grows with everything that a chat page shows
        self.people = {person.user_id: person for person in people}
        self.chats = {person.user_id: chat_of(person) for person in people}
        self.blocked: set[str] = set()  # users who blocked the bot
        self.messages: list[Message] = []
        self.photos: dict[str, tuple[bytes, str]] = {}  # by message id: bytes and content type
        self.pushed = 0  # this month
        self._tokens: dict[str, _ReplyToken] = {}
        self._keys: dict[str, _Accepted] = {}
        self._loading: dict[str, float] = {}  # by chat: when the animation ends
        self._next_id = 500_000_000_000_000_001

    def touch(self) -> None:
        """Wake up those who wait for a change."""
        with self.changed:
            self.version += 1
            self.changed.notify_all()

    def add_chat(self, chat: Chat) -> None:
        """Let a user, group or room be there, its members too."""
        with self.lock:
            for person in chat.members:
                self.people.setdefault(person.user_id, person)
                self.chats.setdefault(person.user_id, chat_of(person))
            self.chats[chat.chat_id] = chat
            self.touch()

    def add_message(
        self, chat_id: str, sender: Person | None, content: Content, way: str
    ) -> Message:
        """Put a message into a chat and return it; one of the bot's ends the loading animation."""
        with self.lock:
            message = Message(
                len(self.messages) + 1, self.new_message_id(), chat_id, sender, content, way,
                self.clock(),
            )  # fmt: skip
            self.messages.append(message)
            if sender is None:
                self._loading.pop(chat_id, None)
            self.touch()
            return message

    def new_message_id(self) -> str:
        """Return the next number; requests and messages share them."""
        with self.lock:
            self._next_id += 1
            return str(self._next_id)

    def message(self, message_id: str) -> Message | None:
        """Return the message of this id, if there is one."""
        with self.lock:
            return next((m for m in self.messages if m.message_id == message_id), None)

    def issue_reply_token(self, chat_id: str) -> str:
        """Return a token with which the bot can answer once, for as long as the switches say."""
        token = secrets.token_hex(16)
        with self.lock:
            self._tokens[token] = _ReplyToken(chat_id, self.clock())
        return token

    def reply(self, token: object, messages: list[Content]) -> list[dict[str, str]]:
        """Send the answer that a reply token stands for.

        Returns:
            An "id" and a "quoteToken" for each message.

        Raises:
            Refusal: 400 for messages that break the rules, or a token that is unknown, used or old.
        """
        check_messages(messages)
        with self.lock:
            known = self._tokens.get(token) if isinstance(token, str) else None
            if known is None or known.used or self._expired(known):
                raise Refusal(400, INVALID_REPLY_TOKEN)
            known.used = True
            return self._send(known.chat_id, messages, "reply")

    def push(
        self, to: object, messages: list[Content], request_id: str, retry_key: str | None = None
    ) -> list[dict[str, str]]:
        """Send messages that nobody asked for; they count against the quota, once for each reader.

        Args:
            to: A user's, group's or room's identifier.
            messages: The message objects.
            request_id: Of this request; told to whoever repeats its key.
            retry_key: A UUID, or None. A request is carried out once for each key.

        Raises:
            Refusal: 400 for a faulty request, 409 for a key accepted before, 429 after the quota.
        """
        check_retry_key(retry_key)
        check_messages(messages)
        with self.lock:
            self._refuse_repetition(retry_key)
            chat = self._reachable(to)
            readers = sum(person.user_id not in self.blocked for person in chat.members)
            quota = self.switches.quota
            if quota is not None and self.pushed + readers > quota:
                raise Refusal(429, MONTHLY_LIMIT)
            self.pushed += readers
            sent = self._send(chat.chat_id, messages, "push")
            if retry_key is not None:
                self._keys[retry_key.lower()] = _Accepted(request_id, sent, self.clock())
            return sent

    def start_loading(self, chat_id: object, seconds: object) -> None:
        """Show the loading animation in a user's chat.

        Raises:
            Refusal: 400 for another chat than a user's, or seconds other than 5, 10, ... 60.
        """
        if seconds not in LOADING_SECONDS or isinstance(seconds, bool):
            raise invalid_property("loadingSeconds")
        with self.lock:
            if not isinstance(chat_id, str) or chat_id not in self.people:
                raise invalid_property("chatId")
            self._loading[chat_id] = self.clock() + seconds
            self.touch()

    def loading_left(self, chat_id: str) -> float:
        """Return for how many seconds a chat still shows the loading animation, or 0."""
        with self.lock:
            return max(0.0, self._loading.get(chat_id, 0.0) - self.clock())

    def profile(self, user_id: str, chat_id: str | None = None) -> Person:
        """Return a user whose profile the bot may see.

        Args:
            user_id: The user's.
            chat_id: A group or room that must have this member; None asks for a friend.

        Raises:
            Refusal: 404 where there is no such friend or member.
        """
        with self.lock:
            chat = self.chats.get(chat_id or user_id)
            member = chat and next((p for p in chat.members if p.user_id == user_id), None)
            if not member or (chat_id is None and user_id in self.blocked):
                raise Refusal(404, "Not found")
            return member

    def _expired(self, token: _ReplyToken) -> bool:
        return self.clock() - token.issued > self.switches.token_lifetime

    def _refuse_repetition(self, retry_key: str | None) -> None:
        known = self._keys.get(retry_key.lower()) if retry_key else None
        if known and self.clock() - known.time < RETRY_KEY_LIFETIME:
            raise Refusal(
                409,
                ACCEPTED_BEFORE,
                headers={"x-line-accepted-request-id": known.request_id},
                more={"sentMessages": known.sent},
            )

    def _reachable(self, to: object) -> Chat:
        if not is_id(to):
            raise invalid_property("to")
        if to not in self.chats:
            raise Refusal(400, "Failed to send messages")
        return self.chats[to]

    def _send(self, chat_id: str, messages: list[Content], way: str) -> list[dict[str, str]]:
        # LINE accepts what a user who blocked the bot will never see.
        if chat_id in self.blocked:
            ids = [self.new_message_id() for _ in messages]
        else:
            ids = [self.add_message(chat_id, None, each, way).message_id for each in messages]
        return [{"id": each, "quoteToken": secrets.token_urlsafe(16)} for each in ids]


def check_messages(messages: object) -> None:
    """Raise LINE's refusal of a request's messages, if there is something wrong with them."""
    if faults := faults_of(messages):
        raise faulty_body(faults)


def check_retry_key(retry_key: str | None) -> None:
    """Raise the refusal of a retry key that is no UUID in hexadecimal."""
    if retry_key is None:
        return
    try:
        well_formed = str(uuid.UUID(retry_key)) == retry_key.lower()
    except ValueError:
        well_formed = False
    if not well_formed:
        raise Refusal(400, "The value for the 'X-Line-Retry-Key' header is invalid")
