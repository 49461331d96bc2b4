"""The routes of ``/v1/images`` and ``/v1/models``."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from apps.server.answers import key_of, outcome, read_json, release
from apps.server.front.drawing import Finished, finished, submitted
from apps.server.front.forms import read_form
from apps.server.front.values import Unfit
from apps.server.front.wish import Wish
from apps.server.openai_api.errors import NO_MODEL, OpenAiRoute
from apps.server.openai_api.wishes import Reply, read_edit, read_generation, read_variation
from apps.server.service import Service

Key = Annotated[str, Depends(key_of)]
Read = Callable[[Any, Any, Service], tuple[Wish, Reply]]


def router(service: Service) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/v1", route_class=OpenAiRoute)

    @routes.post("/images/generations")
    async def generations(http: Request, key: Key) -> JSONResponse:
        wish = await run_in_threadpool(read_generation, await read_json(http), service)
        return await _draw(service, http, key, *wish)

    @routes.post("/images/edits")
    async def edits(http: Request, key: Key) -> JSONResponse:
        return await _draw(service, http, key, *await _from_form(http, read_edit, service))

    @routes.post("/images/variations")
    async def variations(http: Request, key: Key) -> JSONResponse:
        return await _draw(service, http, key, *await _from_form(http, read_variation, service))

    @routes.get("/models", dependencies=[Depends(key_of)])
    def models() -> JSONResponse:
        return JSONResponse({"object": "list", "data": [_model(service)]})

    @routes.get("/models/{name}", dependencies=[Depends(key_of)])
    def model(name: str) -> JSONResponse:
        if name != service.choice.name:
            raise Unfit(f"there is no model {name!r} here; see /v1/models", "model", NO_MODEL)
        return JSONResponse(_model(service))

    return routes


def _model(service: Service) -> dict[str, Any]:
    return {"id": service.choice.name, "object": "model", "created": 0, "owned_by": "ldm"}


async def _from_form(http: Request, read: Read, service: Service) -> tuple[Wish, Reply]:
    """Read a form; nothing of it is kept but what the wish holds."""
    form = await read_form(http)
    return await http.app.state.holding.read(lambda: read(*form, service))


async def _draw(
    service: Service, http: Request, key: str, wish: Wish, reply: Reply
) -> JSONResponse:
    """Answer a request for pictures."""
    release(http)
    with http.app.state.holding.kept(wish.held):
        ticket = await submitted(service, wish, key)
        pictures = await finished(wish, await outcome(http, service, ticket))
    service.kept.remove(ticket)
    width, height = pictures[0].size
    told = {
        "created": int(time.time()),
        "data": [_sent(picture, reply) for picture in pictures],
        "output_format": reply.format,
        "size": f"{width}x{height}",
    }
    return JSONResponse(told)


def _sent(picture: Finished, reply: Reply) -> dict[str, Any]:
    text = base64.b64encode(picture.data).decode()
    if reply.as_address:
        return {"url": f"data:image/{reply.format};base64,{text}", "seed": picture.seed}
    return {"b64_json": text, "seed": picture.seed}
