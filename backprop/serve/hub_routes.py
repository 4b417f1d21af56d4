"""Routes of the hub: commit, list, read and delete versions of models, and name them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import anyio
import orjson
from anyio import CapacityLimiter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backprop import artefact
from backprop.errors import InputError, NotFoundError
from backprop.serve.answers import to_json
from backprop.serve.blob_routes import BlobRoutes
from backprop.serve.faults import HTTPFault
from backprop.serve.settings import Settings
from backprop.serve.store.checks import check_alias, check_number
from backprop.serve.store.hub import Hub
from backprop.serve.store.rows import Version

__all__ = ["routes"]

MAX_BODY_BYTES = 128 << 10
# Vetting runs in processes of its own; more at once than cores would only wait for each other.
COMMITS_AT_ONCE = 4

Result = TypeVar("Result")


def routes(hub: Hub, settings: Settings) -> list[Route]:
    """Return the hub's routes; who may use them is checked before they are reached.

    Args:
        hub: what they act on.
        settings: of the server.
    """
    versions = VersionRoutes(hub)
    blobs = BlobRoutes(hub.shelf, settings.upload_bytes)
    model = "/models/{name}"
    return [
        # First, for a route that reads would answer HEAD as well.
        Route("/blobs/{sha256}", blobs.head, methods=["HEAD"]),
        Route("/blobs/{sha256}", blobs.put, methods=["PUT"]),
        Route("/blobs/{sha256}", blobs.get, methods=["GET"]),
        Route(f"{model}/versions", versions.commit, methods=["POST"]),
        Route(f"{model}/versions", versions.index, methods=["GET"]),
        Route(f"{model}/versions/{{ref}}", versions.get, methods=["GET"]),
        Route(f"{model}/versions/{{ref}}", versions.delete, methods=["DELETE"]),
        Route(model, versions.delete_all, methods=["DELETE"]),
        Route(f"{model}/aliases/{{alias}}", versions.set_alias, methods=["PUT"]),
        Route(f"{model}/aliases/{{alias}}", versions.delete_alias, methods=["DELETE"]),
    ]


class VersionRoutes:
    """What is done with models and their versions.

    Args:
        hub: what the routes act on.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._commits = CapacityLimiter(COMMITS_AT_ONCE)

    async def commit(self, request: Request) -> Response:
        """Make uploaded files a new version: 201 with its number."""
        body = await _read_object(request, required={"files"}, optional={"description"})
        commit = partial(
            self._hub.commit,
            request.path_params["name"],
            body["files"],
            body.get("description", ""),
            _key_id(request),
        )
        version = await _in_thread(commit, limiter=self._commits)
        return to_json({"name": version.name, "version": version.number}, 201)

    async def index(self, request: Request) -> Response:
        """List the versions of a model, newest first."""
        name = _name(request)
        versions = await _in_thread(partial(self._hub.versions, name))
        return to_json({"name": name, "versions": [_line(each) for each in versions]})

    async def get(self, request: Request) -> Response:
        """Return all of a version: its files, what it is, and its card."""
        ref = request.path_params["ref"]
        version = await _in_thread(partial(self._hub.version, _name(request), ref))
        files = {path: vars(each) for path, each in version.files.items()}
        more = {"files": files, "meta": version.meta, "card": version.card}
        return to_json({"name": version.name, **_line(version), **more})

    async def delete(self, request: Request) -> Response:
        """Delete one version."""
        number = request.path_params["ref"]
        if not (number.isascii() and number.isdigit() and len(number) <= 10):
            raise InputError(f"A version is deleted by its number; received {number[:80]!r}.")
        await _in_thread(partial(self._hub.delete, _name(request), check_number(int(number))))
        return Response(status_code=204)

    async def delete_all(self, request: Request) -> Response:
        """Delete every version of a model."""
        await _in_thread(partial(self._hub.delete, _name(request)))
        return Response(status_code=204)

    async def set_alias(self, request: Request) -> Response:
        """Let an alias mean a version."""
        name, alias = _name(request), check_alias(request.path_params["alias"])
        body = await _read_object(request, required={"version"})
        number = check_number(body["version"])
        await _in_thread(partial(self._hub.set_alias, name, alias, number))
        return to_json({"name": name, "alias": alias, "version": number})

    async def delete_alias(self, request: Request) -> Response:
        """Delete an alias; the version stays."""
        name, alias = _name(request), check_alias(request.path_params["alias"])
        await _in_thread(partial(self._hub.delete_alias, name, alias))
        return Response(status_code=204)


async def _in_thread(work: Callable[[], Result], limiter: CapacityLimiter | None = None) -> Result:
    return await anyio.to_thread.run_sync(work, limiter=limiter)


def _name(request: Request) -> str:
    """Return the name in the path; what can't be one is a model there is not."""
    try:
        return artefact.check_name(request.path_params["name"])
    except InputError as error:
        raise NotFoundError(str(error)) from error


def _key_id(request: Request) -> str:
    key = request.scope.get("state", {}).get("key")
    return str(key.id) if key is not None else ""


async def _read_object(
    request: Request, *, required: set[str], optional: frozenset[str] | set[str] = frozenset()
) -> dict[str, Any]:
    """Return the body, a JSON object with these keys and no other."""
    try:
        body = orjson.loads(await _read(request))
    except orjson.JSONDecodeError as error:
        raise InputError(f"The body is not JSON ({error}).") from error
    if not isinstance(body, dict) or not required <= body.keys() <= required | optional:
        wanted = ", ".join(f'"{key}"' for key in sorted(required))
        further = "".join(f', if you like "{key}"' for key in sorted(optional))
        raise InputError(f"The body must be a JSON object with {wanted}{further}, and no more.")
    return body


async def _read(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise HTTPFault(413, f"The body is over {MAX_BODY_BYTES} bytes.")
    return bytes(body)


def _line(version: Version) -> dict[str, Any]:
    return {
        "version": version.number,
        "description": version.description,
        "created": version.created.isoformat(),
        "digest": version.digest,
        "size_bytes": version.size_bytes,
    }
