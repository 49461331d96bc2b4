"""Whether the server lives, whether it takes jobs, and what it has counted: open to everybody."""

from __future__ import annotations

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse, Response

from apps.server.service import Service


def router(service: Service) -> APIRouter:
    """Return the routes /healthz, /readyz and /metrics."""
    made = APIRouter()

    # Not in the threads of other routes: while all are busy, the server would seem dead.
    @made.get("/healthz")
    async def healthz() -> Response:
        return JSONResponse({"ok": service.healthy}, 200 if service.healthy else 503)

    @made.get("/readyz")
    async def readyz() -> Response:
        obstacle = service.obstacle
        told = {"ready": not obstacle, **({"why": obstacle} if obstacle else {})}
        return JSONResponse(told, 503 if obstacle else 200)

    @made.get("/metrics")
    def metrics() -> Response:
        return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return made
