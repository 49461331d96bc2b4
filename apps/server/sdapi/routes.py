"""The routes of ``/sdapi/v1``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from apps.server.answers import key_of, read_json, release
from apps.server.front.drawing import drawn_or_interrupted, finished, submitted
from apps.server.front.holding import Holding
from apps.server.front.wish import Wish
from apps.server.sdapi.answers import AsciiJson, answer, echo_of
from apps.server.sdapi.listings import (
    NOTHING,
    list_embeddings,
    list_loras,
    list_models,
    list_restorers,
    list_upscalers,
)
from apps.server.sdapi.options import Model, Options
from apps.server.sdapi.runs import Runs
from apps.server.sdapi.second_pass import list_latent_upscalers
from apps.server.sdapi.upscaling import read_info, upscaled
from apps.server.sdapi.walks import list_samplers, list_schedulers
from apps.server.sdapi.wishes import Setting, read_img2img, read_txt2img
from ldm.images.opening import most_pixels

if TYPE_CHECKING:
    from apps.server.service import Service

Read = Callable[[Mapping[str, Any], Setting], Wish]


class SdApi:
    """AUTOMATIC1111's API on a service.

    Args:
        service: What draws.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self.runs = Runs(service)
        self.enlarging = Holding()  # apart: pictures to be drawn do not wait for it
        self._options: dict[str, Options] = {}  # as many as there are keys

    def model(self) -> Model:
        """Return the model that is served; a wait for its hash, the first time."""
        choice = self.service.choice
        return Model(choice.name, choice.fingerprint.short, choice.ckpt_path.name)

    async def draw(self, http: Request, read: Read) -> Response:
        """Answer a request for pictures."""
        key = key_of(http)
        values = await read_json(http)
        model = await run_in_threadpool(self.model)
        setting = self._setting(key, model)
        holding: Holding = http.app.state.holding
        brings = any(values.get(name) for name in ("init_images", "mask"))
        reader = holding.read if brings else run_in_threadpool
        wish = await reader(lambda: read(values, setting))
        if not values.get("include_init_images"):  # else they are kept, and count
            release(http)
        values = await run_in_threadpool(echo_of, values)
        with holding.kept(wish.held):
            ticket = await submitted(self.service, wish, key)
            with self.runs.following(ticket, wish.settings.ddim_steps):
                drawn = await drawn_or_interrupted(self.service, ticket, http)
            pictures = await finished(wish, drawn)
        self.service.kept.remove(ticket)
        given = values, wish, pictures, ticket, model
        return await run_in_threadpool(lambda: AsciiJson(answer(*given)))

    def _setting(self, key: str, model: Model) -> Setting:
        choice = self.service.choice
        return Setting(
            model,
            choice.size,
            choice.multiple,
            self.service.limits,
            self._options.get(key, Options()),
            self.service.settings,
        )

    async def set_options(self, http: Request) -> None:
        """Keep options for the requests of a key."""
        key = key_of(http)
        values, model = await read_json(http), await run_in_threadpool(self.model)
        self._options[key] = Options.read(values, self._options.get(key, Options()), model)

    async def get_options(self, http: Request) -> dict[str, Any]:
        """Return the options of a key."""
        key = key_of(http)
        model = await run_in_threadpool(self.model)
        return self._options.get(key, Options()).shown(model)

    async def enlarge(self, http: Request) -> dict[str, Any]:
        """Make a picture larger."""
        key, values = key_of(http), await read_json(http)
        device = self.service.terms.device
        with self.enlarging.alone(key):
            text, image = await self.enlarging.read(lambda: upscaled(values, most_pixels(), device))
        return {"html_info": text, "image": image}

    async def info(self, http: Request) -> Response:
        """Read a picture's recipe."""
        key, values = key_of(http), await read_json(http)
        with self.enlarging.alone(key):
            return AsciiJson(await self.enlarging.read(lambda: read_info(values)))

    def interrupt(self, http: Request) -> dict[str, Any]:
        """Cancel what is drawn for a key."""
        self.runs.interrupt(key_of(http))
        return {}

    def progress(self, http: Request) -> dict[str, Any]:
        """Say how far it is."""
        return self.runs.progress(key_of(http))


def router(service: Service) -> APIRouter:
    """Return the routes.

    Args:
        service: What draws.
    """
    api, routes = SdApi(service), APIRouter(prefix="/sdapi/v1")

    @routes.post("/txt2img")
    async def txt2img(http: Request) -> Response:
        return await api.draw(http, read_txt2img)

    @routes.post("/img2img")
    async def img2img(http: Request) -> Response:
        return await api.draw(http, read_img2img)

    @routes.post("/interrupt")
    async def interrupt(http: Request) -> dict[str, Any]:
        return api.interrupt(http)

    @routes.get("/progress")
    async def progress(http: Request) -> dict[str, Any]:
        return api.progress(http)

    routes.post("/options")(api.set_options)
    routes.get("/options")(api.get_options)
    routes.post("/extra-single-image")(api.enlarge)
    routes.post("/png-info")(api.info)
    _add_lists(routes, api)
    return routes


def _add_lists(routes: APIRouter, api: SdApi) -> None:
    lists: dict[str, Callable[[], Any]] = {
        "samplers": list_samplers,
        "schedulers": list_schedulers,
        "sd-models": lambda: list_models(api.model()),
        "loras": list_loras,
        "embeddings": list_embeddings,
        "face-restorers": list_restorers,
        "upscalers": list_upscalers,
        "latent-upscale-modes": list_latent_upscalers,
        **{name: (lambda value=value: value) for name, value in NOTHING.items()},
    }

    def add(name: str, make: Callable[[], Any]) -> None:
        @routes.get(f"/{name}", name=name)
        def listing(http: Request) -> Response:
            key_of(http)
            return AsciiJson(make())

    for name, make in lists.items():
        add(name, make)
