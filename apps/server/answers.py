"""Requests read, answers written: JSON within limits, whose a request is, one line for each error.

What front ends share: ``key_of`` says whose a request is, ``read_json`` reads its body, ``outcome``
waits for a job as long as the client does. They may raise ``Refused``, ``UserError`` and FastAPI's
own errors; a front end with another form of errors catches them in a ``route_class`` of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Mapping
from typing import Any, NoReturn

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from apps.server.refused import Refused, for_strangers
from apps.server.service import Service
from apps.server.tickets import Drawn, Ticket
from ldm.budgets import JSON_DEPTH, JSON_PARTS
from ldm.errors import UserError, in_words

logger = logging.getLogger(__name__)
INVALID = 422
RELEASE = "ldm.release"  # in a request's scope: the guard counts its body no longer
FAULT = "the server made a mistake, which is in its log; it is not the request's fault"
_IN_WORDS = {
    404: "there is no such address",
    405: "this address does not take that method",
}


def key_of(request: Request) -> str:
    """Return the name of the key that a request brings: a dependency of every route that draws.

    Raises:
        Refused: It brings none that is known.
    """
    return request.app.state.keys.who(request.headers)


async def read_json(request: Request) -> dict[str, Any]:
    """Return the object that a request's body is.

    Raises:
        Refused: It is no JSON, no object, too deep, has too many parts, or holds a number that is
            none.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(415, "the body is not marked as JSON; expected application/json")
    return await run_in_threadpool(parse_object, await request.body())


def release(request: Request) -> None:
    """Let go of a request's body: neither it nor what was read from it is needed any more.

    Until a request is answered, its bytes count among those of all requests that are open. A route
    that waits long for its pictures calls this once it has decoded what came with the request.
    """
    request.__dict__.pop("_body", None)  # where Starlette keeps them
    request._form = None
    request.scope.get(RELEASE, lambda: None)()


def parse_object(text: bytes | str) -> dict[str, Any]:
    """Return the JSON object that a text is; raises ``Refused`` as ``read_json``.

    For a thread: it may take a second.
    """
    marks = (b",", b"[", b"{") if isinstance(text, bytes) else (",", "[", "{")
    if sum(map(text.count, marks)) > JSON_PARTS:  # those within prompts are few
        raise Refused(
            413, f"the body has more parts than are read; expected at most {JSON_PARTS} values"
        )
    try:
        found = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise Refused(400, "the body is no JSON that can be read; expected an object") from error
    if not isinstance(found, dict):
        raise Refused(400, "the body is no JSON object; expected one, with names and values")
    if _is_deeper(found, JSON_DEPTH):
        raise Refused(400, f"the body is more than {JSON_DEPTH} levels deep; make it flatter")
    return found


async def check_form_is_whole(request: Request) -> None:
    """Check that a form's body has its end; without it the parser drops a part without a word.

    Raises:
        Refused: It is cut off, or its boundary is not told.
    """
    _, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    whole = (await request.body()).rstrip().endswith(b"--" + boundary + b"--")
    if not (boundary and whole):
        raise Refused(400, "the form has no end; expected all of its parts; send it again")


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _is_deeper(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most):
        level = [inner for each in level for inner in _inner(each)]
        if not level:
            return False
    return True


def _inner(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


async def outcome(request: Request, service: Service, ticket: Ticket) -> list[Drawn]:
    """Wait for a job's pictures; a client that goes away cancels it.

    Args:
        request: Its body has been read.
        service: Where the job is.
        ticket: The job.

    Raises:
        Refused: It failed, was cancelled, or was handed back.
    """
    finished = asyncio.ensure_future(ticket.finished())
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({finished, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not finished.done():
            service.cancel(ticket)
        pictures = await finished
        ticket.fetched.update(range(ticket.total))
        return pictures
    finally:
        service.cancel(ticket)  # where this handler itself was cancelled
        for task in (finished, gone):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Refused):
                await task


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def error_answer(status: int, text: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return an error as clients read it: ``{"error": one line}``."""
    return JSONResponse({"error": text}, status, headers=dict(headers or {}))


def in_one_line(error: Exception, service: Service) -> tuple[int, str, dict[str, str]]:
    """Return an error's status, its line for strangers, and its headers; 500 for our own faults.

    Args:
        error: What a route has raised.
        service: Whose model's files are not named.
    """
    if isinstance(error, Refused):
        return error.status, str(error), error.headers
    if isinstance(error, UserError):
        return INVALID, for_strangers(str(error), service.hidden), {}
    if isinstance(error, RequestValidationError):
        return INVALID, _first_of(error), {}
    if isinstance(error, HTTPException):
        told = _IN_WORDS.get(error.status_code, str(error.detail))
        return error.status_code, for_strangers(told), dict(error.headers or {})
    return our_fault(error)


def our_fault(error: Exception) -> tuple[int, str, dict[str, str]]:
    """Return what is answered for an error of the server's own, which is written to its log."""
    logger.error("a request could not be answered: %s", in_words(error), exc_info=error)
    return 500, FAULT, {}


def _first_of(error: RequestValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part not in ("body", "path", "query"))
    return for_strangers(f"{where or 'the body'}: {first['msg']}; change it")


def answer_errors(app: FastAPI, service: Service) -> None:
    """Let an application answer each error by one line; faults of ours are the guard's."""

    async def answer(_: Request, error: Exception) -> JSONResponse:
        return error_answer(*in_one_line(error, service))

    for kind in (Refused, UserError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, answer)
