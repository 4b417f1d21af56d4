"""The server as an ASGI application, put together of its parts.

Starlette itself, without FastAPI on top: input is checked by ``SPECS``, as everywhere in this
library, so that models of another kind for each route would say the same things twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import anyio.to_thread
from sqlalchemy.exc import OperationalError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from backprop.errors import (
    ArtefactError,
    BackpropError,
    InputError,
    MissingPackageError,
    NotFoundError,
)
from backprop.serve import hub_routes, model_routes, openai_routes, task_routes, web
from backprop.serve.access import methods_of, nearest
from backprop.serve.answers import to_json
from backprop.serve.auth import Guard, Sessions
from backprop.serve.batcher import Expired, Full
from backprop.serve.connection import Gone
from backprop.serve.exchange import FAULT
from backprop.serve.faults import HTTPFault
from backprop.serve.keys import Keys
from backprop.serve.metrics import Metrics
from backprop.serve.registry import Registry
from backprop.serve.services import Services
from backprop.serve.settings import Settings
from backprop.serve.store.hub import Hub
from backprop.serve.telling import Told
from backprop.serve.vetting import vet

__all__ = ["STATUSES", "create_app", "open_services"]

logger = logging.getLogger("backprop.serve")

STATUSES: Mapping[type[Exception], int] = {
    InputError: 400,
    NotFoundError: 404,
    ArtefactError: 422,
    MissingPackageError: 501,
}
"""Error class to HTTP status; its message is what the caller is told."""

UNAVAILABLE = "This can't be done now; the log says more under this answer's x-request-id."
NOTHING = "There is nothing at this address{hint}; GET /openapi.json lists what there is."
BUSY = "Too much waits for this model; try again in {seconds} s."
LATE = "The request waited too long and was dropped before it was computed; try again."
COLLECT_S = 3600.0
CLOSED = 499
"""What the log says of a client that has gone; nobody receives it."""


def open_services(settings: Settings) -> Services:
    """Return what a server needs, its database open; close it with ``services.hub.close()``."""
    hub = Hub(settings, vet=vet)
    keys = Keys(hub.engine)
    metrics = Metrics()
    registry = Registry(settings, hub, metrics)
    told = Told(registry)
    metrics.watch(told.depths)
    return Services(settings, registry, told, hub, keys, Sessions(keys), metrics)


def create_app(settings: Settings, services: Services | None = None) -> Guard:
    """Return the application.

    Args:
        settings: how it runs.
        services: opened already; by default opened now.
    """
    own = services or open_services(settings)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        collecting = asyncio.get_running_loop().create_task(_collect(own.hub))
        try:
            try:
                await own.registry.start()
            except Exception as error:
                own.failure = error
                raise
            own.is_ready = True
            yield
        finally:
            own.is_ready = False
            collecting.cancel()
            await own.registry.close()
            own.keys.close()
            own.hub.close()

    handlers = _handlers(own)
    app = Starlette(routes=_routes(own), lifespan=lifespan, exception_handlers=handlers)
    app.state.services = own
    lost = Starlette(exception_handlers=handlers)
    # One spelling of each address, whatever the key: what no rule lists is not redirected either.
    app.router.redirect_slashes = lost.router.redirect_slashes = False
    return Guard(
        web.FriendlyErrors(app),
        web.FriendlyErrors(lost),
        keys=own.keys,
        settings=settings,
        sessions=own.sessions,
    )


async def _collect(hub: Hub) -> None:
    """Delete what uploads left behind that were never ended, now and every hour."""
    while True:
        try:
            await anyio.to_thread.run_sync(hub.collect)
        except Exception as error:
            logger.error("failed", exc_info=error)
        await asyncio.sleep(COLLECT_S)


def _routes(services: Services) -> list[BaseRoute]:
    return [
        *task_routes.routes(services),
        *openai_routes.routes(services),
        *model_routes.routes(services),
        *hub_routes.routes(services.hub, services.settings),
        *web.routes(_pages(services)),
    ]


def _pages(services: Services) -> Any:
    """Return what the web pages ask of the server."""
    return SimpleNamespace(
        settings=services.settings,
        hub=services.hub,
        registry=services.told,
        sessions=services.sessions,
        keys=services.keys,
    )


def _handlers(services: Services) -> Mapping[Any, Any]:
    """Return what makes an answer of each error."""
    metrics = services.metrics

    async def told(request: Request, error: Exception) -> Response:
        status = next(code for kind, code in STATUSES.items() if isinstance(error, kind))
        metrics.reject(type(error).__name__)
        return _error(request, str(error), status)

    async def full(request: Request, error: Full) -> Response:
        metrics.reject("full")
        seconds = str(max(1, round(error.retry_s)))
        message = BUSY.format(seconds=seconds)
        return _error(request, message, 503, {"retry-after": seconds})

    async def expired(request: Request, error: Expired) -> Response:
        metrics.reject("expired")
        return _error(request, LATE, 503, {"retry-after": "1"})

    async def gone(request: Request, error: Gone) -> Response:
        metrics.reject("gone")
        return Response(status_code=CLOSED)

    async def fault(request: Request, error: HTTPFault) -> Response:
        return _error(request, str(error), error.status, error.headers)

    async def unavailable(request: Request, error: Exception) -> Response:
        _log(request, error)
        return _error(request, UNAVAILABLE, 503, {"retry-after": "10"})

    async def failed(request: Request, error: Exception) -> Response:
        _log(request, error)
        return _error(request, FAULT, 500)

    return {
        **dict.fromkeys(STATUSES, told),
        Full: full,
        Expired: expired,
        Gone: gone,
        HTTPFault: fault,
        HTTPException: _http,
        BackpropError: unavailable,
        OperationalError: unavailable,
        Exception: failed,
    }


async def _http(request: Request, error: HTTPException) -> Response:
    """Return the answer of an address that is none, or does not take the method."""
    if error.status_code not in (404, 405):
        return _error(request, error.detail, error.status_code, error.headers)
    path = request.scope["path"]
    methods = methods_of(path)
    if methods and request.method not in methods:
        allowed = ", ".join(methods)
        return _error(request, f"This address takes {allowed}.", 405, {"allow": allowed})
    meant = nearest(request.method, path)
    return _error(request, NOTHING.format(hint=f"; did you mean {meant}?" if meant else ""), 404)


def _error(
    request: Request, message: str, status: int, headers: Mapping[str, str] | None = None
) -> Response:
    """Return the answer of a request that failed; OpenAI's clients look for it in ``error``."""
    content: dict[str, Any] = {"message": message}
    if request.url.path.startswith("/v1/"):
        kind = "invalid_request_error" if status < 500 else "server_error"
        content["error"] = {"message": message, "type": kind, "param": None, "code": None}
    return to_json(content, status, headers)


def _log(request: Request, error: Exception) -> None:
    logger.error(
        "failed",
        exc_info=error,
        extra={"request_id": getattr(request.state, "request_id", "")},
    )
