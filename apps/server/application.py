"""The web application of a service: its routes behind the guard; it lives as long as it is served.

Another API is a function that takes the service and returns a router:

    def router(service: Service) -> APIRouter:
        made = APIRouter(prefix="/sdapi/v1")

        @made.post("/txt2img")
        async def txt2img(request: Request, key: Annotated[str, Depends(key_of)]) -> Response:
            fields = await read_json(request)                     # apps.server.answers
            settings = service.settings({"prompt": fields["prompt"]}, TextJob)   # .asking
            ticket = await run_in_threadpool(service.submit, settings, key)
            pictures = await outcome(request, service, ticket)    # or Refused; .png, .parameters

``service.submit`` takes ``image`` and ``mask`` (PIL) beside the settings; ``pictures.picture_in``
reads them from base64, ``pictures.picture_of`` from bytes, both within ``app.state.holding``. The
function is passed to ``make_application`` in ``apis``. What a route raises (``Refused``,
``UserError``) becomes ``{"error": one line}``; a router with another form of errors has a
``route_class`` that catches them and asks ``answers.in_one_line``.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

from fastapi import APIRouter, FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.middleware.cors import CORSMiddleware

from apps.server import health, native
from apps.server.answers import answer_errors
from apps.server.front.holding import Holding
from apps.server.guard import Guard
from apps.server.keys import Keys
from apps.server.openai_api import routes as openai_api
from apps.server.sdapi import routes as sdapi
from apps.server.service import Service
from optimizedSD.web.hosts import Hosts

Api = Callable[[Service], APIRouter]
APIS: tuple[Api, ...] = (health.router, native.router, sdapi.router, openai_api.router)
PATIENCE = 2.0  # seconds for the step that is computed when serving ends


def make_application(
    service: Service,
    keys: Keys | None = None,
    *,
    hosts: Hosts | None = None,
    cors: Sequence[str] = (),
    apis: Sequence[Api] = APIS,
) -> FastAPI:
    """Return the application; the service starts and ends with it.

    Args:
        service: What draws; not started yet.
        keys: Who may draw; without any, everybody.
        hosts: The names that it answers to; by default those of this machine alone.
        cors: Origins of web pages that may use it.
        apis: What makes its routes.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            await run_in_threadpool(service.close, PATIENCE)

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.state.keys, app.state.service = keys or Keys(), service
    app.state.holding = Holding()  # one for all routes: they share the memory
    answer_errors(app, service)
    for api in apis:
        app.include_router(api(service))
    if cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(cors),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key"],
            expose_headers=["Location", "Retry-After"],
        )
    app.add_middleware(
        Guard,
        hosts=hosts or Hosts("127.0.0.1"),
        metrics=service.metrics,
        most=service.limits.upload,
        origins=frozenset(cors),
    )
    return app
