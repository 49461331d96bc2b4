"""Who is there: users with a language each, the chats that they and the bot meet in."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field

LANGUAGES = ("ja", "zh-Hant", "en")  # those that the chat page speaks; a user may have any
_ID = re.compile(r"[UCR][0-9a-f]{32}")


def new_id(kind: str) -> str:
    """Return an identifier as LINE gives them: "U" user, "C" group or "R" room, 32 hex digits."""
    return kind + secrets.token_hex(16)


def is_id(text: object) -> bool:
    """Return whether this has the form of a user's, group's or room's identifier.

    Example:
        >>> is_id(new_id("U")), is_id("somebody")
        (True, False)
    """
    return isinstance(text, str) and _ID.fullmatch(text) is not None


@dataclass(frozen=True)
class Person:
    """One of LINE's users.

    Args:
        name: Shown in chats and given by the profile.
        language: BCP 47 tag; None for one who has not agreed to tell it.
        user_id: "U" and 32 hex digits.
    """

    name: str
    language: str | None = "en"
    user_id: str = field(default_factory=lambda: new_id("U"))


@dataclass(frozen=True)
class Chat:
    """A place where messages stand: one user with the bot, or a group or room of several.

    Args:
        chat_id: What a push is sent to: the user's, group's or room's identifier.
        name: Shown above the chat.
        members: The users in it, the bot apart.
    """

    chat_id: str
    name: str
    members: tuple[Person, ...]

    @property
    def kind(self) -> str:
        """ "user", "group" or "room", as events call their source."""
        return {"U": "user", "C": "group", "R": "room"}[self.chat_id[0]]


def chat_of(person: Person) -> Chat:
    """Return the chat that a user has with the bot alone."""
    return Chat(person.user_id, person.name, (person,))


def group_of(name: str, *members: Person, kind: str = "group") -> Chat:
    """Return a new group, or a room, which is a group without a name of its own.

    Args:
        name: Shown above the chat.
        members: The users in it.
        kind: "group" or "room".
    """
    return Chat(new_id({"group": "C", "room": "R"}[kind]), name, members)


def usual_cast() -> list[Person]:
    """Return the users that a stand-in begins with: one of each language that the page speaks."""
    return [Person("あき", "ja"), Person("小美", "zh-Hant"), Person("Robin", "en")]
