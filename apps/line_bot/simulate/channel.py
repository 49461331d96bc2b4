"""One channel of LINE: its secrets, what has happened in it, and users who do things."""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apps.line_bot.simulate import events as made
from apps.line_bot.simulate.events import Event
from apps.line_bot.simulate.ledger import Content, Ledger, Message
from apps.line_bot.simulate.people import Chat, Person, chat_of, group_of, new_id, usual_cast
from apps.line_bot.simulate.pictures import Pictures
from apps.line_bot.simulate.refusals import invalid_property
from apps.line_bot.simulate.rules import LARGEST_PICTURE, PICTURE_TYPES
from apps.line_bot.simulate.switches import Switches
from apps.line_bot.simulate.webhooks import PATIENCE, REDELIVER_AFTER, Delivery, Webhooks
from ldm.errors import UserError

CALLS_KEPT = 1000  # the newest, for the page and for tests
STICKER = ("446", "1988")  # package and sticker that every user of LINE has


@dataclass(frozen=True)
class Call:
    """A call of the API: its method and path, how it was answered, and when."""

    method: str
    path: str
    status: int
    time: float


class Channel:
    """LINE, as far as one bot and its users see it; `StandIn` puts it on a port.

    Args:
        secret: The channel's secret; None makes one.
        access_token: The channel's access token; None makes one.
        users: Who is there; None for one user of each language of the page.
        clock: Returns seconds since 1970; tests give their own.
        bot_name: Shown above the bot's messages, and what a mention calls it.
        patience: Seconds to wait for the bot to answer a webhook.
        redeliver_after: Seconds between the attempts to deliver a webhook.
    """

    def __init__(
        self,
        *,
        secret: str | None = None,
        access_token: str | None = None,
        users: Sequence[Person] | None = None,
        clock: Callable[[], float] = time.time,
        bot_name: str = "お絵かきBot",
        patience: float = PATIENCE,
        redeliver_after: Sequence[float] = REDELIVER_AFTER,
    ) -> None:
        self.secret = secret or secrets.token_hex(16)
        self.access_token = access_token or secrets.token_urlsafe(96)
        self.bot_name, self.bot_user_id, self.clock = bot_name, new_id("U"), clock
        self.switches = Switches()
        self.ledger = Ledger(list(usual_cast() if users is None else users), self.switches, clock)
        self.webhooks = Webhooks(
            self.secret, self.bot_user_id, self.switches, clock,
            patience=patience, redeliver_after=redeliver_after,
        )  # fmt: skip
        self.pictures = Pictures()
        self.calls: deque[Call] = deque(maxlen=CALLS_KEPT)
        self.ending = False

    def open(self) -> None:
        """Begin to redeliver webhooks."""
        self.webhooks.start()

    def close(self) -> None:
        """Redeliver no more; let those who wait for news go."""
        self.ending = True
        self.ledger.touch()
        self.webhooks.end()
        self.pictures.close()

    @property
    def users(self) -> list[Person]:
        """Everybody who is there."""
        return list(self.ledger.people.values())

    def connect(self, bot_url: str, places: Mapping[str, str] | None = None) -> None:
        """Say where the bot is.

        Args:
            bot_url: Where webhooks go.
            places: Public addresses of the bot's pictures -> local ones.
        """
        self.webhooks.bot_url = bot_url
        self.pictures.places = dict(places or {})

    def add_user(self, name: str, language: str | None = "en") -> Person:
        """Let one more user be there."""
        person = Person(name, language)
        self.ledger.add_chat(chat_of(person))
        return person

    def add_group(self, name: str, *members: Person, kind: str = "group") -> Chat:
        """Make a group, or a room, that the bot is in; it hears of that by `join`."""
        chat = group_of(name, *members, kind=kind)
        self.ledger.add_chat(chat)
        return chat

    def messages_of(self, place: Person | Chat) -> list[Message]:
        """Return what the bot has sent to a user or into a group or room, oldest first."""
        chat_id = _chat(place).chat_id
        with self.ledger.lock:
            return [m for m in self.ledger.messages if m.chat_id == chat_id and m.sender is None]

    def wait_for_messages(
        self, place: Person | Chat, count: int, timeout: float = 10.0
    ) -> list[Message]:
        """Wait until the bot has sent so many messages there; return them all.

        Args:
            place: A user, group or room.
            count: How many there must be, those of before included.
            timeout: Seconds of real time to wait.

        Raises:
            TimeoutError: There were fewer when the time was over.
        """
        with self.ledger.changed:
            arrived = self.ledger.changed.wait_for(
                lambda: len(self.messages_of(place)) >= count, timeout
            )
            sent = self.messages_of(place)
        if not arrived:
            raise TimeoutError(f"{len(sent)} messages of {count} came within {timeout} seconds")
        return sent

    def say(
        self, person: Person, text: str, chat: Chat | None = None, *, mention_bot: bool = False
    ) -> Delivery:
        """Let a user send a text, and post it to the bot.

        Args:
            person: The user.
            text: What is said.
            chat: The group or room; None for the chat with the bot alone.
            mention_bot: Whether "@" and the bot's name stand before the text.
        """
        return self.deliver(self.text_event(person, text, chat, mention_bot=mention_bot))

    def text_event(
        self, person: Person, text: str, chat: Chat | None = None, *, mention_bot: bool = False
    ) -> Event:
        """Let a user send a text, and return its event without posting it: see `deliver`."""
        mentions = []
        if mention_bot:
            mentions = [made.mention("", self.bot_name, self.bot_user_id, is_self=True)]
            text = f"@{self.bot_name} {text}"
        place = chat or chat_of(person)
        return self._message(
            person, place, lambda number: made.text_content(number, text, mentions)
        )

    def send_photo(
        self, person: Person, data: bytes, kind: str = "image/jpeg", chat: Chat | None = None
    ) -> Delivery:
        """Let a user send a photo, whose bytes the bot can then fetch.

        Args:
            person: The user.
            data: The file.
            kind: Its content type.
            chat: The group or room; None for the chat with the bot alone.

        Raises:
            UserError: It is no JPEG or PNG, or too large.
        """
        if kind not in PICTURE_TYPES or not 0 < len(data) <= LARGEST_PICTURE:
            raise UserError(
                f"a photo of {len(data)} bytes, {kind}, cannot be sent; expected JPEG or PNG of at "
                f"most {LARGEST_PICTURE} bytes"
            )
        with self.ledger.lock:
            event = self._message(person, chat or chat_of(person), made.image_content)
            self.ledger.photos[event["message"]["id"]] = data, kind
        return self.deliver(event)

    def send_sticker(self, person: Person, chat: Chat | None = None) -> Delivery:
        """Let a user send a sticker."""
        place = chat or chat_of(person)
        event = self._message(person, place, lambda number: made.sticker_content(number, *STICKER))
        return self.deliver(event)

    def press(
        self, person: Person, data: str, chat: Chat | None = None, *, shown: str | None = None
    ) -> Delivery:
        """Let a user press a button that posts something back.

        Args:
            person: The user.
            data: What the button's action carries.
            chat: The group or room; None for the chat with the bot alone.
            shown: What the user seems to say by it (``displayText``), which is no message event.
        """
        place = chat or chat_of(person)
        if shown:
            content = {"type": "text", "text": shown}
            self.ledger.add_message(place.chat_id, person, content, "postback")
        return self._happen("postback", place, person, postback={"data": data})

    def follow(self, person: Person) -> Delivery:
        """Let a user add the bot as a friend, or end a block."""
        again = person.user_id in self.ledger.blocked
        self.ledger.blocked.discard(person.user_id)
        return self._happen("follow", chat_of(person), person, follow={"isUnblocked": again})

    def unfollow(self, person: Person) -> Delivery:
        """Let a user block the bot: it is told, and its messages no longer arrive."""
        self.ledger.blocked.add(person.user_id)
        return self._happen("unfollow", chat_of(person), person, answerable=False)

    def join(self, chat: Chat) -> Delivery:
        """Let the bot be invited into a group or room."""
        return self._happen("join", chat, None)

    def unsend(self, person: Person, message_id: str) -> Delivery:
        """Let a user take a message back; its photo can no longer be fetched.

        Raises:
            UserError: It is not a message of this user.
        """
        message = self.ledger.message(message_id)
        if message is None or message.sender != person:
            raise UserError(f"{message_id} is no message of {person.name}: nothing to take back")
        message.unsent = True
        self.ledger.touch()
        place = self.ledger.chats[message.chat_id]
        unsend = {"messageId": message_id}
        return self._happen("unsend", place, person, answerable=False, unsend=unsend)

    def deliver(self, *events: Event) -> Delivery:
        """Post events in one webhook and wait for the bot's answer to the first attempt."""
        return self.webhooks.deliver(events)

    def fetch_picture(self, message: Message, *, preview: bool = False) -> tuple[bytes, str]:
        """Return the bytes and the content type of a picture that the bot sent.

        Args:
            message: One of the bot's, of type "image".
            preview: Whether the small one.

        Raises:
            Unfit: LINE's apps could not show it: see `Pictures.fetch`.
        """
        name = "previewImageUrl" if preview else "originalContentUrl"
        return self.pictures.fetch(message.content[name], preview=preview)

    def mark_as_read(self, token: object) -> None:
        """Mark the message that has this token as read.

        Raises:
            Refusal: 400 for a token of no message.
        """
        with self.ledger.lock:
            for message in self.ledger.messages:
                if token is not None and message.content.get("markAsReadToken") == token:
                    message.read = True
                    self.ledger.touch()
                    return
        raise invalid_property("markAsReadToken")

    def note_call(self, method: str, path: str, status: int) -> None:
        """Remember a call of the API."""
        self.calls.append(Call(method, path, status, self.clock()))
        self.ledger.touch()

    def _message(self, person: Person, chat: Chat, content: Callable[[str], Content]) -> Event:
        """Put a user's message into a chat and return its event; it carries the message's id."""
        with self.ledger.lock:
            message = self.ledger.add_message(chat.chat_id, person, {}, "say")
            message.content = content(message.message_id)
        return self._event("message", chat, person, message=message.content)

    def _event(
        self, kind: str, chat: Chat, person: Person | None, *, answerable: bool = True, **more: Any
    ) -> Event:
        token = self.ledger.issue_reply_token(chat.chat_id) if answerable else None
        source = made.source_of(chat, person)
        return made.event(kind, self.clock(), source, reply_token=token, **more)

    def _happen(self, kind: str, chat: Chat, person: Person | None, **more: Any) -> Delivery:
        return self.deliver(self._event(kind, chat, person, **more))


def _chat(place: Person | Chat) -> Chat:
    return chat_of(place) if isinstance(place, Person) else place
