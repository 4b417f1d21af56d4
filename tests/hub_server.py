"""A server's hub on loopback, and a bad line to it, for tests of the client."""

from __future__ import annotations

import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from backprop import artefact
from backprop.errors import ArtefactError, InputError, NotFoundError
from backprop.serve.faults import HTTPFault
from backprop.serve.hub_routes import routes
from backprop.serve.settings import Settings
from backprop.serve.store.hub import Hub

__all__ = ["Running", "hub_server"]

Message = MutableMapping[str, Any]
Vet = Callable[[Path], dict[str, Any]]
STATUSES: dict[type[Exception], int] = {InputError: 400, NotFoundError: 404, ArtefactError: 422}


@dataclass
class Running:
    """A hub that runs.

    Args:
        hub: what it stores.
        url: straight to it.
        line_url: to it by the bad line.
        keys: every ``x-api-key`` it was sent.
        asked: (method, path, status) of each request.
        refusing: answers instead of the hub's, used up in turn: (method, status, headers).
        cuts: for each new connection of the bad line, whether it is cut and after how many bytes:
            ``("up", n)`` or ``("down", n)``.
    """

    hub: Hub
    url: str = ""
    line_url: str = ""
    keys: set[str] = field(default_factory=set)
    asked: list[tuple[str, str, int]] = field(default_factory=list)
    refusing: list[tuple[str, int, dict[str, str]]] = field(default_factory=list)
    cuts: list[tuple[str, int]] = field(default_factory=list)

    def count(self, method: str, part: str, status: int | None = None) -> int:
        """Return how many requests there were."""
        return sum(
            own_method == method and part in path and status in (None, own_status)
            for own_method, path, own_status in self.asked
        )


@contextmanager
def hub_server(data: Path, vet: Vet | None = None) -> Iterator[Running]:
    """Give a hub.

    Args:
        data: where its files are.
        vet: judges uploads; by default every saved model will do, since the server's own takes a
            process each time.
    """
    hub = Hub(Settings(data=data), vet=vet or _vet)
    running = Running(hub)
    app = Starlette(
        routes=routes(hub, Settings(data=data)),
        exception_handlers={HTTPFault: _fault, **dict.fromkeys(STATUSES, _told)},
    )
    config = uvicorn.Config(_watched(app, running), port=0, log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    line = _Line(port, running.cuts)
    running.url, running.line_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{line.port}"
    try:
        yield running
    finally:
        server.should_exit = server.force_exit = True
        thread.join()
        listening.close()
        line.close()
        hub.close()


def _vet(folder: Path) -> dict[str, Any]:
    return artefact.read(folder).meta


async def _told(request: Request, error: Exception) -> Response:
    return JSONResponse({"message": str(error)}, STATUSES[type(error)])


async def _fault(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPFault)
    return JSONResponse({"message": str(error)}, error.status, dict(error.headers))


def _watched(app: Starlette, running: Running) -> Callable[..., Awaitable[None]]:
    """Return the app, its requests noted and some of them refused."""

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope["headers"])
        running.keys.add(headers.get(b"x-api-key", b"").decode())

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                running.asked.append((scope["method"], scope["path"], message["status"]))
            await send(message)

        if running.refusing and running.refusing[0][0] == scope["method"]:
            _, status, more = running.refusing.pop(0)
            answer = JSONResponse({"message": "not now"}, status, more)
            await answer(scope, receive, noted)
            return
        await app(scope, receive, noted)

    return watched


class _Line:
    """Passes bytes on to a port, and is cut where ``cuts`` says."""

    def __init__(self, target: int, cuts: list[tuple[str, int]]) -> None:
        self.target, self.cuts = target, cuts
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listening.getsockname()[1]
        self.threads = [threading.Thread(target=self._accept)]
        self.threads[0].start()

    def close(self) -> None:
        with suppress(OSError):
            self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        for thread in self.threads:
            thread.join(20)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self.listening.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.target))
            way, size = self.cuts.pop(0) if self.cuts else ("", 0)
            for source, goal, name in ((near, far, "up"), (far, near, "down")):
                left = size if way == name else None
                thread = threading.Thread(target=self._pass, args=(source, goal, left), daemon=True)
                self.threads.append(thread)
                thread.start()

    @staticmethod
    def _pass(source: socket.socket, goal: socket.socket, left: int | None) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if left is not None:
                    data, left = data[:left], left - len(data)
                goal.sendall(data)
                if left is not None and left <= 0:
                    break
        for end in (source, goal):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        goal.close()
