"""Run the server until it is told to stop, and then end what was accepted."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import socket
import sys
import time
from contextlib import suppress
from types import FrameType
from typing import Any

import uvicorn

from backprop.engines.threads import read_by
from backprop.errors import InputError
from backprop.serve.app import create_app, open_services
from backprop.serve.auth import Guard, check_startup
from backprop.serve.bounded import BoundedProtocol
from backprop.serve.children import end_all
from backprop.serve.images import bound_decoders
from backprop.serve.logs import setup
from backprop.serve.services import Services
from backprop.serve.settings import Settings

__all__ = ["run"]

logger = logging.getLogger("backprop.serve")

QUIET_S = 0.3
"""Connections are still accepted for so long, and what is open is closed when quiet for so long."""
TICK_S = 0.02
SWITCH_S = 0.0005
"""So long a thread that computes in Python keeps the event loop waiting; 5 ms by default."""
KEEP_ALIVE_S = 75
M_ARENA_MAX, ARENAS = -8, 2
BACKLOG = 2048


def run(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises:
        InputError: it may not, or can't, listen where it should.
        BackpropError: a model that was to be loaded can't be.
    """
    _bound_arenas()
    _use_threads(settings.threads)
    sys.setswitchinterval(SWITCH_S)
    setup()
    bound_decoders()
    services = open_services(settings)
    try:
        check_startup(settings, services.keys)
        listener = _listen(settings)
    except BaseException:
        services.hub.close()
        raise
    app = create_app(settings, services)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=1,  # what was accepted has had its time before
        backlog=BACKLOG,
        http=BoundedProtocol,
        lifespan="on",
    )
    host, port = listener.getsockname()[:2]
    logger.info("listening", extra={"host": host, "port": port, "data": str(settings.data)})
    if sys.stderr.isatty():
        name = f"[{host}]" if ":" in host else host
        who = "with a key" if services.keys.any() else "for this machine"
        sys.stderr.write(f"\nhttp://{name}:{port}  web page and API, {who}; Ctrl-C ends it\n\n")
    # What is there now stays: the collector, which runs at each unload, need not look at it again.
    gc.collect()
    gc.freeze()
    try:
        _Server(config, app, services).run(sockets=[listener])
    except SystemExit:
        if services.failure is not None:
            raise services.failure from None
        raise


def _bound_arenas() -> None:
    """Have all threads share a few of glibc's arenas; before there are any threads.

    By default there are eight a core, each model that is loaded has threads of its own, and what an
    unloaded one leaves in many arenas is in too small pieces to be given back.
    """
    with suppress(OSError, AttributeError, TypeError):  # glibc only
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS)


def _use_threads(threads: int) -> None:
    """Say how many cores engines compute with; before the first of them is loaded."""
    if threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    read_by(1)  # the registry runs a batch a core


def _listen(settings: Settings) -> socket.socket:
    """Return a socket that listens, so that a port in use is known before models are loaded."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host.strip("[]"), settings.port))
    except OSError as error:
        listener.close()
        raise InputError(
            f"The server can't listen on {settings.host}:{settings.port} ({error.strerror or error}"
            "); choose another --port or --host."
        ) from error
    return listener


class _Server(uvicorn.Server):
    """Uvicorn's server, which at the first signal lets what was accepted end.

    Load balancers learn from ``/readyz`` at once that it takes no more. For a moment connections
    are still accepted, for one may be on its way; what comes on those that are open is answered,
    and told that the connection closes. When nothing runs, or the time of grace is over, it ends;
    at the second signal it ends now.
    """

    def __init__(self, config: uvicorn.Config, app: Guard, services: Services) -> None:
        super().__init__(config)
        self._app = app
        self._services = services
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: Any = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and remember the loop that signals are told to."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        logger.info("ready")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; a second signal ends at once, as does one before it is ready."""
        if self._loop is None or not self.started:
            end_all()
            os._exit(0)  # nothing was accepted, and loading a model can't be broken off
        if self._draining is not None:
            self.should_exit = self.force_exit = True
            return
        self._draining = sig  # kept from uvicorn, which would die of it in the end
        self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        self._services.is_ready = False
        self._app.closing = True
        logger.info("stopping", extra={"running": self._app.running})
        self._draining = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        end = time.monotonic() + self._services.settings.grace_s
        await asyncio.sleep(min(QUIET_S, self._services.settings.grace_s))
        for server in self.servers:
            server.close()
        while time.monotonic() < end:
            idle_s = time.monotonic() - self._app.last_request
            if not self._app.running and idle_s > QUIET_S:
                break
            await asyncio.sleep(TICK_S)
        self.should_exit = True
