"""A tiny bot that answers with what it hears: the stand-in can be seen and tested without ours."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.background import BackgroundTask

from apps.line_bot.simulate.places import BotPlace

_log = logging.getLogger(__name__)
ANSWERED = ("message", "postback", "follow")
LOADING_SECONDS = 20
# What the echo bot says: its greeting and its two buttons, by the user's language.
WORDS = {
    "ja": ("こんにちは！なにか書いてください。", "もう一度", "ボタン"),
    "zh-Hant": ("你好！請輸入文字。", "再一次", "按鈕"),
    "en": ("Hello! Write me something.", "again", "button"),
}


def make_echo_bot(place: BotPlace) -> FastAPI:
    """Return a bot made with LINE's own SDK: texts come back, with two quick replies under them.

    Args:
        place: Where LINE is, and the channel's secrets.
    """
    from linebot.v3 import WebhookParser
    from linebot.v3.exceptions import InvalidSignatureError

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    parser = WebhookParser(place.channel_secret)

    @app.post("/callback")
    async def callback(request: Request) -> Response:
        body = await request.body()
        try:
            events = parser.parse(body.decode(), request.headers.get("x-line-signature", ""))
        except (InvalidSignatureError, UnicodeDecodeError, json.JSONDecodeError):
            return JSONResponse({"message": "forged or malformed"}, 400)
        # LINE waits one second for the 200; the answer itself may take longer.
        return JSONResponse({}, background=BackgroundTask(_answer_all, place, events))

    return app


async def _answer_all(place: BotPlace, events: Sequence[Any]) -> None:
    from linebot.v3.messaging import ApiException

    for event in events:
        if event.type in ANSWERED:
            try:
                await _answer(place, event)
            except ApiException as error:
                _log.warning("not answered: LINE said %s %s", error.status, error.body)


async def _answer(place: BotPlace, event: Any) -> None:
    from linebot.v3.messaging import (
        AsyncApiClient,
        AsyncMessagingApi,
        Configuration,
        ReplyMessageRequest,
        ShowLoadingAnimationRequest,
    )

    configuration = Configuration(host=place.line_url, access_token=place.access_token)
    async with AsyncApiClient(configuration) as client:
        api = AsyncMessagingApi(client)
        if event.source.type == "user":
            await api.show_loading_animation(
                ShowLoadingAnimationRequest(
                    chat_id=event.source.user_id, loading_seconds=LOADING_SECONDS
                )
            )
        language = await _language(api, event.source)
        answer = ReplyMessageRequest(
            reply_token=event.reply_token, messages=[_message(event, language)]
        )
        await api.reply_message(answer)


async def _language(api: Any, source: Any) -> str:
    """Return the language to answer in: a group's members do not tell theirs."""
    if source.type != "user":
        return "en"
    profile = await api.get_profile(source.user_id)
    return profile.language if profile.language in WORDS else "en"


def _message(event: Any, language: str) -> Any:
    from linebot.v3.messaging import (
        MessageAction,
        PostbackAction,
        QuickReply,
        QuickReplyItem,
        TextMessage,
    )

    _, again, button = WORDS[language]
    heard = _heard(event, language)
    actions = [
        # A button says 300 letters at most, a text may have 5,000.
        MessageAction(label=again, text=heard[:100]),
        PostbackAction(label=button, data="pressed", display_text=button),
    ]
    items = [QuickReplyItem(action=action) for action in actions]
    return TextMessage(text=heard, quick_reply=QuickReply(items=items))


def _heard(event: Any, language: str) -> str:
    if event.type == "follow":
        return WORDS[language][0]
    if event.type == "postback":
        return f"postback: {event.postback.data}"
    return event.message.text if event.message.type == "text" else f"[{event.message.type}]"
