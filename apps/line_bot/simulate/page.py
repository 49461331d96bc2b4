"""The chat page's side of the stand-in: what the browser shows, and what its buttons do.

Only this machine may use it: other names in ``Host`` are turned away, and what changes something
must be JSON or a picture, which a stranger's page cannot send here without asking first.
"""

from __future__ import annotations

import asyncio
import math
import time
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from starlette.middleware.trustedhost import TrustedHostMiddleware

from apps.line_bot.simulate.channel import Channel
from apps.line_bot.simulate.ledger import Message
from apps.line_bot.simulate.people import Chat, Person
from apps.line_bot.simulate.pictures import Unfit
from apps.line_bot.simulate.refusals import Refusal
from apps.line_bot.simulate.rules import LARGEST_PICTURE
from apps.line_bot.simulate.webhooks import Delivery
from ldm.errors import UserError

STATIC = Path(__file__).parent / "static"
LONGEST_WAIT = 15.0  # seconds that a question for news is kept open
LOOK_EVERY = 0.05
CALLS_SHOWN = 30
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Said(BaseModel):
    """A text, typed by a user into a chat."""

    user: str
    chat: str
    text: str
    mention: bool = False


class Pressed(BaseModel):
    """A button's postback, pressed by a user in a chat."""

    user: str
    chat: str
    data: str
    shown: str | None = None


class Acted(BaseModel):
    """What a user does without words: "sticker", "follow", "unfollow" or "unsend"."""

    user: str
    chat: str
    act: str
    message: str = ""


def add_page(app: FastAPI, line: Channel) -> None:
    """Let an application show the chat page at "/"."""
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
    app.add_exception_handler(UserError, _mistaken)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")

    @app.get("/")
    def index() -> FileResponse:
        return FileResponse(STATIC / "index.html", headers=HEADERS)

    router = APIRouter(prefix="/page")
    _add_news(router, line)
    _add_pictures(router, line)
    _add_acts(router, line)
    app.include_router(router)


def _mistaken(_: Request, error: Exception) -> Response:
    return JSONResponse({"message": str(error)}, 400)


def _place(line: Channel, user: str, chat: str) -> tuple[Person, Chat]:
    """Return who acts where.

    Raises:
        Refusal: 404 if there is no such chat, or the user is not in it.
    """
    place = line.ledger.chats.get(chat)
    person = place and next((p for p in place.members if p.user_id == user), None)
    if place is None or person is None:
        raise Refusal(404, "no such user in this chat")
    return person, place


def _add_news(router: APIRouter, line: Channel) -> None:
    @router.get("/people")
    def people() -> dict[str, Any]:
        with line.ledger.lock:
            chats = [
                {
                    "id": chat.chat_id, "name": chat.name, "kind": chat.kind,
                    "members": [
                        {"id": p.user_id, "name": p.name, "language": p.language}
                        for p in chat.members
                    ],
                }
                for chat in line.ledger.chats.values()
            ]  # fmt: skip
        return {"bot": line.bot_name, "chats": chats}

    @router.get("/news")
    async def news(chat: str, version: int = -1) -> dict[str, Any]:
        """Answer when there is something newer than a version, or after a while."""
        late = time.monotonic() + LONGEST_WAIT
        while line.ledger.version == version and not line.ending and time.monotonic() < late:
            await asyncio.sleep(LOOK_EVERY)
        return _state(line, chat)

    @router.post("/switches")
    def switches(changes: dict[str, Any]) -> dict[str, Any]:
        if "down_for" in changes:
            seconds = changes.pop("down_for")
            if not isinstance(seconds, (int, float)) or not 0 <= seconds < math.inf:
                raise UserError(f"down_for cannot be {seconds!r}; expected seconds, 0 or more")
            changes["down_until"] = line.clock() + seconds
        with line.ledger.lock:
            line.switches.set(**changes)
            line.ledger.touch()
        return _switches(line)


def _state(line: Channel, chat_id: str) -> dict[str, Any]:
    """Return all that the page shows beside the list of chats."""
    ledger = line.ledger
    with ledger.lock:
        failed = [d for d in line.webhooks.deliveries if not d.arrived]
        return {
            "version": ledger.version,
            "messages": [_shown(m) for m in ledger.messages if m.chat_id == chat_id],
            "last": {m.chat_id: m.number for m in ledger.messages},
            "loading": ledger.loading_left(chat_id),
            "blocked": chat_id in ledger.blocked,
            "pushed": ledger.pushed,
            "switches": _switches(line),
            "undelivered": len(failed),
            "calls": [
                {"method": c.method, "path": c.path, "status": c.status, "time": c.time}
                for c in list(line.calls)[-CALLS_SHOWN:]
            ],
        }


def _switches(line: Channel) -> dict[str, Any]:
    known = vars(line.switches).copy()
    known["down_for"] = max(0.0, known.pop("down_until") - line.clock())
    return known


def _shown(message: Message) -> dict[str, Any]:
    content = message.content
    return {
        "number": message.number,
        "id": message.message_id,
        "from": message.sender.user_id if message.sender else None,
        "name": message.sender.name if message.sender else None,
        "way": message.way,
        "time": message.time,
        "unsent": message.unsent,
        "read": message.read,
        "type": content["type"],
        "text": content.get("text") or content.get("altText") or "",
        "quickReply": content.get("quickReply", {}).get("items", []),
    }


def _add_pictures(router: APIRouter, line: Channel) -> None:
    @router.get("/picture/{message_id}/{size}")
    def picture(message_id: str, size: str) -> Response:
        message = line.ledger.message(message_id)
        if message is None or message.content["type"] != "image" or message.unsent:
            raise Refusal(404, "no such picture")
        if message.sender is not None:
            data, kind = line.ledger.photos[message_id]
        else:
            try:
                data, kind = line.fetch_picture(message, preview=size == "preview")
            except Unfit as error:
                raise Refusal(502, str(error)) from error
        return Response(data, media_type=kind, headers=HEADERS)


def _add_acts(router: APIRouter, line: Channel) -> None:
    @router.post("/say")
    def say(said: Said) -> dict[str, Any]:
        person, chat = _place(line, said.user, said.chat)
        if not said.text.strip():
            raise UserError("an empty text cannot be sent; type something first")
        return _became(line.say(person, said.text, chat, mention_bot=said.mention))

    @router.post("/press")
    def press(pressed: Pressed) -> dict[str, Any]:
        person, chat = _place(line, pressed.user, pressed.chat)
        return _became(line.press(person, pressed.data, chat, shown=pressed.shown))

    @router.post("/photo")
    async def photo(request: Request, user: str, chat: str) -> dict[str, Any]:
        person, place = _place(line, user, chat)
        data = b""
        async for part in request.stream():
            data += part
            if len(data) > LARGEST_PICTURE:
                break  # `send_photo` says what is wrong
        kind = request.headers.get("content-type", "no content type")
        return _became(await asyncio.to_thread(line.send_photo, person, data, kind, place))

    @router.post("/act")
    def act(acted: Acted) -> dict[str, Any]:
        person, chat = _place(line, acted.user, acted.chat)
        acts = {
            "sticker": lambda: line.send_sticker(person, chat),
            "follow": lambda: line.follow(person),
            "unfollow": lambda: line.unfollow(person),
            "unsend": lambda: line.unsend(person, acted.message),
        }
        if acted.act not in acts:
            raise UserError(f"a user cannot {acted.act!r}; expected one of {[*acts]}")
        return _became(acts[acted.act]())


def _became(delivery: Delivery) -> dict[str, Any]:
    """Return what the page says of a webhook: whether the bot took it, and why not."""
    return {"arrived": delivery.arrived, "fault": delivery.attempts[-1].fault}
