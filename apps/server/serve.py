"""The server by Ray Serve: one front for all, and models on as many machines as there are.

    serve deploy apps/server/serve.yaml

The front is the application of ``python -m apps.server``: it checks requests, keeps the lanes, and
knows every job, so turns and limits hold for all machines together. Its batches go to ``Painter``s,
each with a model; Ray places them, starts lost ones anew, and says when one is lost, whose batch
another one then draws.
"""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.handle import DeploymentHandle

from apps.server.__main__ import make_service
from apps.server.application import make_application
from apps.server.drawing import Drawer, load_drawer, model_for
from apps.server.keys import VARIABLE, Keys, read_keys
from apps.server.remote import Event, RemoteDrawer, relayed, told
from apps.server.settings import ServerSettings
from ldm.errors import UserError
from ldm.pipelines.progress import log_events
from ldm.pipelines.request import Request
from ldm.settings.option import options_of
from optimizedSD.web.hosts import Hosts

MOST_OPEN = 10_000  # requests of the front; its guard has a lower limit
ENDING = 5.0  # seconds beyond the grace, for the step that is computed then
PROXIES = ("host", "port")  # what Ray's proxies have in place of the server


@serve.deployment(max_ongoing_requests=1)
class Painter:
    """A replica with a model, which draws one batch at a time.

    Args:
        settings: The server's.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.drawer: Drawer = load_drawer(model_for(settings), settings, log_events)
        self._alone = threading.Lock()  # Ray may count a batch as ended before it is

    async def draw(self, requests: list[Request]) -> AsyncIterator[Event]:
        """Draw a batch, and tell of it as it goes."""
        async with aclosing(relayed(told(self.drawer, requests, self._alone))) as events:
            async for event in events:
                yield event


@serve.deployment(max_ongoing_requests=MOST_OPEN)
@serve.ingress()
class Front:
    """The replica that answers: the application, with painters in place of a model.

    Args:
        settings: The server's.
        keys: Who may draw.
        painters: How many there are.
        painter: Reaches them.
    """

    def __init__(
        self, settings: ServerSettings, keys: Keys, painters: int, painter: DeploymentHandle
    ) -> None:
        self.draw = painter.options(stream=True).draw
        choice = model_for(settings)
        service = make_service(
            settings,
            load=lambda: RemoteDrawer(choice, painters, self._send, (RayActorError,)),
        )
        hosts = Hosts("0.0.0.0", settings.allowed_hosts)
        self.application = make_application(service, keys, hosts=hosts, cors=settings.cors)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return what answers requests."""
        return self.application

    def _send(self, requests: list[Request]) -> Iterator[Event]:
        response = self.draw.remote(requests)
        try:
            yield from response
        finally:
            response.cancel()


def build(args: Mapping[str, Any]) -> serve.Application:
    """Return the application of a YAML file.

    Args:
        args: Flags of ``python -m apps.server`` by their names, and ``painters``, the number of
            replicas with a model.

    Raises:
        UserError: An argument is unknown or wrong, or there are no keys.
    """
    values = dict(args)
    painters = values.pop("painters", 1)
    if type(painters) is not int or painters < 1:
        raise UserError(f"painters {painters!r} was given; expected a whole number, 1 or more")
    settings = settings_of(values)
    keys = read_keys(settings.keys, os.environ)
    if not keys:
        raise UserError(
            f"no keys were given, and Ray's proxies may listen on any address; expected keys; add "
            f"args.keys FILE, or set {VARIABLE}"
        )
    # Ray lets a replica finish the requests that are under way, and then sends it no others.
    ending = {"graceful_shutdown_timeout_s": settings.grace + ENDING}
    painter = Painter.options(num_replicas=painters, **ending).bind(settings)
    return Front.options(**ending).bind(settings, keys, painters, painter)


def settings_of(values: Mapping[str, Any]) -> ServerSettings:
    """Return the settings that a YAML file's arguments say; raises UserError."""
    options = {each.name: each for each in options_of(ServerSettings)}
    for name in values:
        if name in PROXIES:
            raise UserError(
                f"args.{name} was given; expected it among http_options, as Ray's proxies listen; "
                "move it there"
            )
        if name not in options:
            raise UserError(f"args.{name} is unknown; expected a flag of python -m apps.server")
    given = {k: tuple(v) if options[k].several else v for k, v in values.items()}
    settings = ServerSettings(**given)
    settings.validate()
    return settings
