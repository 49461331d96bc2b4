"""LINE's HTTP API on this machine: the part of it that the bot's SDK calls.

Answers and their words follow the Messaging API reference; an address that is not there is a 404 as
LINE's are, so that a call nobody thought of is noticed.
"""

from __future__ import annotations

import json
import time
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from apps.line_bot.simulate.channel import Channel
from apps.line_bot.simulate.ledger import check_messages
from apps.line_bot.simulate.people import Person
from apps.line_bot.simulate.refusals import UNAUTHORIZED, Refusal

LARGEST_BODY = 2 * 1024 * 1024  # bytes
RETRY_KEY, REQUEST_ID = "x-line-retry-key", "x-line-request-id"


def add_api(app: FastAPI, line: Channel) -> None:
    """Let an application answer as api.line.me and api-data.line.me do."""

    def admit(request: Request) -> str:
        """Let a call pass the token and the switches; return its id."""
        time.sleep(line.switches.latency)
        if request.headers.get("authorization") != f"Bearer {line.access_token}":
            raise Refusal(401, UNAUTHORIZED)
        with line.ledger.lock:
            line.switches.refuse_if_asked(line.clock())
        if RETRY_KEY in request.headers and not request.url.path.endswith("/message/push"):
            raise Refusal(400, "The 'X-Line-Retry-Key' header is not supported by this endpoint")
        return request.state.request_id

    router = APIRouter(prefix="/v2/bot", dependencies=[Depends(admit)])
    _add_sending(router, line)
    _add_quota(router, line)
    _add_people(router, line)
    _add_content(router, line)
    app.include_router(router)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _as_line_says)

    @app.middleware("http")
    async def number(request: Request, call_next: Any) -> Response:
        request.state.request_id = str(uuid.uuid4())
        answer = await call_next(request)
        answer.headers[REQUEST_ID] = request.state.request_id
        if request.url.path.startswith("/v2/"):
            line.note_call(request.method, request.url.path, answer.status_code)
        return answer


def _refused(_: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refusal)
    return JSONResponse(refusal.body, refusal.status, refusal.headers)


def _as_line_says(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"message": str(error.detail)}, error.status_code)


async def _body(request: Request) -> dict[str, Any]:
    """Return the JSON object that a request carries."""
    raw = b""
    async for part in request.stream():
        raw += part
        if len(raw) > LARGEST_BODY:
            raise Refusal(413, "Request Entity Too Large")
    try:
        body = json.loads(raw)
    except ValueError as error:
        raise Refusal(400, "The request body could not be parsed as JSON") from error
    if not isinstance(body, dict):
        raise Refusal(400, "The request body could not be parsed as JSON")
    return body


Body = Annotated[dict[str, Any], Depends(_body)]


def _add_sending(router: APIRouter, line: Channel) -> None:
    ledger = line.ledger

    def answer(sent: list[dict[str, str]]) -> dict[str, Any]:
        with ledger.lock:
            if line.switches.lose_answer():
                raise Refusal(500, "Internal server error")
        return {"sentMessages": sent}

    @router.post("/message/reply")
    def reply(body: Body) -> dict[str, Any]:
        return answer(ledger.reply(body.get("replyToken"), body.get("messages")))

    @router.post("/message/push")
    def push(request: Request, body: Body) -> dict[str, Any]:
        key = request.headers.get(RETRY_KEY)
        sent = ledger.push(body.get("to"), body.get("messages"), request.state.request_id, key)
        return answer(sent)

    @router.post("/message/validate/{way}")
    def validate(way: str, body: Body) -> dict[str, Any]:
        if way not in ("reply", "push"):
            raise Refusal(404, "Not found")
        check_messages(body.get("messages"))
        return {}

    @router.post("/chat/loading/start", status_code=202)
    def loading(body: Body) -> dict[str, Any]:
        ledger.start_loading(body.get("chatId"), body.get("loadingSeconds", 20))
        return {}

    @router.post("/chat/markAsRead")
    def mark_as_read(body: Body) -> dict[str, Any]:
        line.mark_as_read(body.get("markAsReadToken"))
        return {}


def _add_quota(router: APIRouter, line: Channel) -> None:
    @router.get("/message/quota")
    def quota() -> dict[str, Any]:
        most = line.switches.quota
        return {"type": "none"} if most is None else {"type": "limited", "value": most}

    @router.get("/message/quota/consumption")
    def consumption() -> dict[str, int]:
        return {"totalUsage": line.ledger.pushed}


def _profile(person: Person, *, of_friend: bool) -> dict[str, str]:
    shown = {"userId": person.user_id, "displayName": person.name}
    # A member of a group has agreed to less than a friend has.
    if of_friend and person.language is not None:
        shown["language"] = person.language
    return shown


def _add_people(router: APIRouter, line: Channel) -> None:
    @router.get("/profile/{user_id}")
    def profile(user_id: str) -> dict[str, str]:
        return _profile(line.ledger.profile(user_id), of_friend=True)

    @router.get("/{kind}/{chat_id}/member/{user_id}")
    def member(kind: str, chat_id: str, user_id: str) -> dict[str, str]:
        _meeting(line, kind, chat_id)
        return _profile(line.ledger.profile(user_id, chat_id), of_friend=False)

    @router.get("/group/{chat_id}/summary")
    def summary(chat_id: str) -> dict[str, str]:
        _meeting(line, "group", chat_id)
        return {"groupId": chat_id, "groupName": line.ledger.chats[chat_id].name}

    @router.get("/info")
    def info() -> dict[str, str]:
        return {
            "userId": line.bot_user_id,
            "basicId": "@000stand",
            "displayName": line.bot_name,
            "chatMode": "bot",
            "markAsReadMode": "manual",
        }


def _meeting(line: Channel, kind: str, chat_id: str) -> None:
    """Raise the refusal of a group or room that is not there."""
    chat = line.ledger.chats.get(chat_id)
    if kind not in ("group", "room") or chat is None or chat.kind != kind:
        raise Refusal(404, "Not found")


def _add_content(router: APIRouter, line: Channel) -> None:
    @router.get("/message/{message_id}/content")
    def content(message_id: str) -> Response:
        message = line.ledger.message(message_id)
        photo = line.ledger.photos.get(message_id)
        if message is None or photo is None or message.unsent:
            raise Refusal(404, "Not found")
        return Response(photo[0], media_type=photo[1])
