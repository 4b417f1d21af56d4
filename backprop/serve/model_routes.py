"""What is served, and how the server does: models, health, metrics, OpenAPI."""

from __future__ import annotations

from functools import partial

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backprop.serve.answers import to_json
from backprop.serve.openapi import document
from backprop.serve.services import Services

__all__ = ["routes"]

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def routes(services: Services) -> list[Route]:
    """Return the routes that only tell."""
    return [
        Route("/models", partial(_models, services), methods=["GET"]),
        Route("/models/{name}", partial(_model, services), methods=["GET"]),
        Route("/livez", _alive, methods=["GET"]),
        Route("/readyz", partial(_ready, services), methods=["GET"]),
        Route("/metrics", partial(_metrics, services), methods=["GET"]),
        Route("/stats.json", partial(_stats, services), methods=["GET"]),
        Route("/openapi.json", partial(_openapi, services), methods=["GET"]),
    ]


async def _models(services: Services, request: Request) -> Response:
    found = await anyio.to_thread.run_sync(services.told.models)
    return to_json({"models": found})


async def _model(services: Services, request: Request) -> Response:
    name = request.path_params["name"]
    return to_json(await anyio.to_thread.run_sync(services.told.model, name))


async def _alive(request: Request) -> Response:
    return to_json({"status": "alive"})


async def _ready(services: Services, request: Request) -> Response:
    if services.is_ready:
        return to_json({"status": "ready"})
    return to_json({"message": "The server is starting or stopping."}, 503, {"retry-after": "1"})


async def _metrics(services: Services, request: Request) -> Response:
    return Response(services.metrics.text(), media_type=PROMETHEUS)


async def _stats(services: Services, request: Request) -> Response:
    return to_json(services.told.stats())


async def _openapi(services: Services, request: Request) -> Response:
    return to_json(document(services.settings))
