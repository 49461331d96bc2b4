"""The server's own API: jobs with ids, progress as it happens, cancelling.

    POST   /v1/jobs                         {"prompt": ..., "ddim_steps": 30} -> 202 {"id": ...}
    GET    /v1/jobs/{id}                    how far it is
    GET    /v1/jobs/{id}/events             the same as server-sent events, to its end
    GET    /v1/jobs/{id}/pictures/{n}       a PNG with its recipe, n from 0
    DELETE /v1/jobs/{id}                    cancel it, or forget it
    GET    /v1/fields                       what a job may set, and the server's limits

A job belongs to the key that sent it; to others it is not there.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response, StreamingResponse

from apps.server.answers import check_form_is_whole, key_of, parse_object, read_json, release
from apps.server.asking import OPEN, MaskJob, PictureJob, TextJob
from apps.server.front.holding import Holding
from apps.server.pictures import picture_in, picture_of
from apps.server.refused import Refused
from apps.server.service import Service
from apps.server.tickets import Snapshot, Ticket
from ldm.errors import UserError
from ldm.legible import quoted
from ldm.settings.generation import GenerationSettings
from ldm.settings.option import Option, options_of

Key = Annotated[str, Depends(key_of)]
PICTURES = ("image", "mask")
KINDS = {TextJob: "text", PictureJob: "image", MaskJob: "mask"}
_PARTS = 3  # of a form: a job, an image, a mask


def router(service: Service) -> APIRouter:
    """Return the routes under /v1 but for those of other APIs."""
    made = APIRouter(prefix="/v1")

    @made.post("/jobs")
    async def begin(request: Request, key: Key) -> Response:
        settings, pictures = await _read(request, service, key)
        release(request)
        held = sum(each.width * each.height for each in pictures.values())
        with request.app.state.holding.kept(held):
            ticket = await run_in_threadpool(service.submit, settings, key, **pictures)
        place = f"/v1/jobs/{ticket.id}"
        return JSONResponse(told(service, ticket), 202, headers={"Location": place})

    @made.get("/jobs/{name}")
    def look(name: str, key: Key) -> Response:
        ticket = service.find(name, key)
        if ticket.snapshot().state == "handed back":
            ticket.check()
        return JSONResponse(told(service, ticket))

    @made.get("/jobs/{name}/pictures/{number}")
    def picture(name: str, number: int, key: Key) -> Response:
        ticket = service.find(name, key)
        drawn = ticket.picture(number)
        if drawn is None:
            ticket.check()
            raise Refused(404, f"the job has no picture {number} yet; expected one that is done")
        ticket.fetched.add(number)
        return Response(drawn.png, media_type="image/png")

    @made.get("/jobs/{name}/events")
    async def events(name: str, key: Key) -> Response:
        ticket = service.find(name, key)
        return StreamingResponse(_events(service, ticket), media_type="text/event-stream")

    @made.delete("/jobs/{name}")
    def cancel(name: str, key: Key) -> Response:
        ticket = service.find(name, key)
        if not service.cancel(ticket):
            service.kept.remove(ticket)
        return JSONResponse(told(service, ticket))

    @made.get("/fields")
    def fields(_: Key) -> Response:
        return JSONResponse(offered(service))

    return made


async def _read(
    request: Request, service: Service, key: str
) -> tuple[GenerationSettings, dict[str, Image.Image]]:
    """Return a job's settings and its pictures, which are decoded only if there is room for it."""
    fields, files = await _sent(request)
    sent = {name: fields.pop(name, None) for name in PICTURES} | files
    sent = {name: each for name, each in sent.items() if each is not None}
    settings = await run_in_threadpool(_settings, service, key, fields, sent)
    if not sent:
        return settings, {}
    holding: Holding = request.app.state.holding
    return settings, await holding.read(lambda: _decoded(sent))


async def _sent(request: Request) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return a request's fields, and the files of a form."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        return await read_json(request), {}
    await check_form_is_whole(request)
    try:
        async with request.form(max_files=_PARTS, max_fields=_PARTS) as form:
            return await _of_form(form)
    except HTTPException as error:
        if error.status_code != 400:
            raise
        raise Refused(
            400,
            f"the form cannot be read ({str(error.detail).rstrip('.')}); expected a part job, "
            "which is JSON, and the files image and mask",
        ) from error


async def _of_form(form: FormData) -> tuple[dict[str, Any], dict[str, bytes]]:
    files: dict[str, bytes] = {}
    fields: dict[str, Any] = {}
    for name in form:
        if len(form.getlist(name)) > 1:
            raise UserError(f"the form's part {quoted(name, 40)} is there twice; expected it once")
    for name, part in form.items():
        if name in PICTURES and isinstance(part, UploadFile):
            files[name] = await part.read()
        elif name == "job":
            text = part if isinstance(part, str) else await part.read()
            fields = await run_in_threadpool(parse_object, text)
        else:
            raise UserError(
                f"the form's part {quoted(name, 40)} is unknown; expected job, which is JSON, and "
                "the files image and mask; leave it out"
            )
    return fields, files


def _settings(
    service: Service, key: str, fields: Mapping[str, Any], sent: Collection[str]
) -> GenerationSettings:
    """Return a job's settings, once it is known that it may wait; ``sent`` names its pictures."""
    service.check_taking()
    if "mask" in sent and "image" not in sent:
        raise UserError("mask was given without image; expected the picture that it is of; add it")
    around = "image" in sent and fields.get("outpaint") is not None  # which needs no mask
    schema = MaskJob if "mask" in sent or around else PictureJob if sent else TextJob
    settings = service.settings(fields, schema)
    service.check_room(settings, key)
    return settings


def _decoded(sent: Mapping[str, Any]) -> dict[str, Image.Image]:
    """Return pictures by name, of files or of texts in base64."""
    return {
        name: picture_of(each, name) if isinstance(each, bytes) else picture_in(each, name)
        for name, each in sent.items()
    }


def told(service: Service, ticket: Ticket, snapshot: Snapshot | None = None) -> dict[str, Any]:
    """Return what is said of a job."""
    seen = snapshot or ticket.snapshot()
    found = {
        "id": ticket.id,
        "state": seen.state,
        "done": seen.done,
        "total": seen.total,
        "fraction": round(seen.fraction, 4),
        "ahead": service.ahead(ticket) if seen.state == "queued" else 0,
        "waited": None if ticket.waited is None else round(ticket.waited, 3),
        "notices": seen.notices,
        "pictures": [_listed(ticket, number) for number in ticket.finished_numbers],
    }
    return {**found, "error": seen.error} if seen.error else found


def _listed(ticket: Ticket, number: int) -> dict[str, Any]:
    drawn = ticket.picture(number)
    return {
        "number": number,
        "href": f"/v1/jobs/{ticket.id}/pictures/{number}",
        "prompt": drawn.prompt,
        "seed": drawn.seed,
        "width": drawn.size[0],
        "height": drawn.size[1],
        "flagged": drawn.flagged,
    }


async def _events(service: Service, ticket: Ticket) -> AsyncIterator[bytes]:
    async for snapshot in ticket.changes():
        if snapshot is None:
            yield b": still there\n\n"
            continue
        data = json.dumps(told(service, ticket, snapshot))
        yield f"event: {snapshot.state}\ndata: {data}\n\n".encode()


def offered(service: Service) -> dict[str, Any]:
    """Return what jobs may set, by kind, with the model's name and the server's limits."""
    choice, limits, terms = service.choice, service.limits, service.terms
    return {
        "model": {
            "name": choice.name,
            "size": choice.size,
            "multiple": choice.multiple,
            "languages": list(choice.languages),
        },
        "limits": {
            "side": limits.side,
            "pictures": limits.pictures,
            "steps": limits.steps,
            "prompt": limits.prompt,
            "request": limits.upload,
            "waiting_of_key": terms.queued_of_key,
        },
        "fields": {
            kind: {
                each.name: _described(each, job) for each in options_of(job) if each.name in OPEN
            }
            for job, kind in KINDS.items()
        },
    }


def _described(each: Option, job: type) -> dict[str, Any]:
    default = job.__dataclass_fields__[each.name].default
    about = {
        "help": each.help,
        "kind": each.kind.__name__,
        "several": bool(each.several) or None,
        "default": list(default) if isinstance(default, tuple) else default,
        "choices": list(each.offered) or None,
        "minimum": each.minimum,
        "maximum": each.maximum,
    }
    return {key: value for key, value in about.items() if value is not None}
