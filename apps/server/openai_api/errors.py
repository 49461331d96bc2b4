"""Errors as OpenAI's clients read them: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from apps.server.answers import INVALID, in_one_line
from apps.server.front.values import Unfit

NO_MODEL = "model_not_found"
_CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded"}


class OpenAiRoute(APIRoute):
    """A route whose errors have OpenAI's form."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except ClientDisconnect:
                raise
            except Exception as error:
                return error_answer(error, request)

        return answer


def error_answer(error: Exception, request: Request) -> JSONResponse:
    """Return the answer to a request that raised an error."""
    status, text, headers = in_one_line(error, request.app.state.service)
    field, code = (error.field, error.code) if isinstance(error, Unfit) else (None, None)
    if status == INVALID:  # OpenAI's word for it
        status = 404 if code == NO_MODEL else 400
    told = {
        "message": text,
        "type": "invalid_request_error" if status < 500 else "server_error",
        "param": field,
        "code": code or _CODES.get(status),
    }
    return JSONResponse({"error": told}, status, headers=headers)
