"""LINE's Messaging API by line-bot-sdk, and what its answers mean for a delivery."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import urllib3
from linebot.v3.messaging import (
    ApiClient,
    Configuration,
    MessagingApi,
    MessagingApiBlob,
    PushMessageRequest,
    ReplyMessageRequest,
    ShowLoadingAnimationRequest,
)
from linebot.v3.messaging.exceptions import ApiException

from apps.line_bot.secret import Secret
from ldm.legible import legible

PATIENCE = (5.0, 20.0)  # seconds to connect, and to hear an answer
BRIEF = (2.0, 3.0)  # the same for what may as well fail
LOADING_SECONDS = 60  # the most that LINE takes

Answer = Literal["ok", "known", "refused", "later", "unheard", "unreached"]
"""What became of a call.

``ok``: done. ``known``: a repeated retry key, done before (409). ``refused``: never to be done.
``later``: not done, ask again (429). ``unheard``: perhaps done (a lost connection, 5xx).
``unreached``: LINE was not reached, so not done.
"""


@dataclass(frozen=True)
class Outcome:
    """What became of a call.

    Attributes:
        answer: The kind.
        reason: In one line, without secrets.
        value: What was asked for.
        wait: Seconds that LINE asks to wait, at least; 0 if it does not say.
        status: Of HTTP; 0 if there was no answer.
    """

    answer: Answer
    reason: str = ""
    value: Any = None
    wait: float = 0.0
    status: int = 0

    @property
    def done(self) -> bool:
        """Whether the call has had its effect, now or before."""
        return self.answer in ("ok", "known")

    @property
    def token_is_spent(self) -> bool:
        """Whether LINE says that the reply token is none: it was used, or it is too old."""
        return self.status == 400 and "reply token" in self.reason.lower()

    @property
    def month_is_over(self) -> bool:
        """Whether LINE says that this month's messages are used up."""
        return self.status == 429 and "monthly limit" in self.reason.lower()


class LineApi:
    """The calls that the bot makes.

    Args:
        token: The channel's access token.
        api: Where the Messaging API is.
        data: Where messages' contents are.
    """

    def __init__(self, token: Secret, api: str, data: str) -> None:
        self._api = MessagingApi(ApiClient(_configuration(token, api)))
        self._data = MessagingApiBlob(ApiClient(_configuration(token, data)))

    def reply(self, reply_token: str, messages: list[dict[str, Any]]) -> Outcome:
        """Answer an event, which is free and can be done once."""
        request = ReplyMessageRequest.from_dict({"replyToken": reply_token, "messages": messages})
        return _called(lambda: self._api.reply_message(request, _request_timeout=PATIENCE))

    def push(self, chat: str, messages: list[dict[str, Any]], retry_key: str) -> Outcome:
        """Send messages to a chat; those with the same retry key arrive once."""
        request = PushMessageRequest.from_dict({"to": chat, "messages": messages})
        return _called(
            lambda: self._api.push_message(
                request, x_line_retry_key=retry_key, _request_timeout=PATIENCE
            )
        )

    def pushes_left(self) -> Outcome:
        """Ask how many messages may still be pushed this month; the value None is any number."""

        def ask() -> int | None:
            quota = self._api.get_message_quota(_request_timeout=PATIENCE)
            if quota.value is None:
                return None
            used = self._api.get_message_quota_consumption(_request_timeout=PATIENCE)
            return max(0, quota.value - used.total_usage)

        return _called(ask)

    def show_loading(self, user: str) -> Outcome:
        """Show the animation of a bot that is at work, in a chat with one user."""
        request = ShowLoadingAnimationRequest(chatId=user, loadingSeconds=LOADING_SECONDS)
        return _called(lambda: self._api.show_loading_animation(request, _request_timeout=BRIEF))

    def language(self, user: str) -> Outcome:
        """Ask for a user's language, such as ``ja``; the value is empty if LINE does not tell."""
        return _called(lambda: self._api.get_profile(user, _request_timeout=BRIEF).language or "")

    def photo(self, message_id: str) -> Outcome:
        """Fetch the bytes of a photo that a user sent."""
        return _called(
            lambda: bytes(self._data.get_message_content(message_id, _request_timeout=PATIENCE))
        )


def _configuration(token: Secret, host: str) -> Configuration:
    configuration = Configuration(host=host, access_token=token.reveal())
    # urllib3 would repeat calls by itself, unseen: the outbox decides about that.
    configuration.retries = False
    return configuration


def _called(call: Callable[[], Any]) -> Outcome:
    try:
        return Outcome("ok", value=call())
    except ApiException as error:
        return _refusal(error)
    except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError):
        return Outcome("unreached", "LINE cannot be reached")
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:  # or an answer in no words
        return Outcome("unheard", f"no answer from LINE ({type(error).__name__})")


def _refusal(error: ApiException) -> Outcome:
    status = error.status or 0
    said = legible(_message(error.body), limit=200)
    reason = f"LINE answered {status}{f': {said}' if said else ''}"
    if status == 409:
        return Outcome("known", reason, status=status)
    if status in (408, 429):
        wait = _seconds((error.headers or {}).get("Retry-After"))
        return Outcome("later", reason, wait=wait, status=status)
    if status >= 500 or status == 0:
        return Outcome("unheard", reason, status=status)
    return Outcome("refused", reason, status=status)


def _message(body: Any) -> str:
    try:
        return str(json.loads(body)["message"])
    except (TypeError, ValueError, KeyError):
        return ""


def _seconds(text: str | None) -> float:
    return min(float(text), 3600.0) if text and text.isascii() and text.isdigit() else 0.0
