"""A hub to test: artefacts to upload, an app of its routes, and the services it may stand on."""

from __future__ import annotations

import functools
import hashlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from backprop import artefact, manifest
from backprop.errors import ArtefactError, InputError, NotFoundError
from backprop.manifest import Digest
from backprop.serve.faults import HTTPFault
from backprop.serve.hub_routes import routes
from backprop.serve.settings import Settings
from backprop.serve.store import Hub

UNPRIVILEGED = ("postgres", "nobody")
STATUS = {NotFoundError: 404, ArtefactError: 422, InputError: 400}

Files = Mapping[str, bytes]


def vet(folder: Path) -> dict[str, Any]:
    """Accept each artefact that is whole, save those whose class is "Refused"."""
    meta = artefact.read(folder).meta
    if meta["class"] == "Refused":
        raise ArtefactError("The class 'Refused' is not served; use another one.")
    return meta


@functools.cache
def saved(word: str = "one", *, kind: str = "Tiny", few: bool = False) -> Files:
    """Return the files of a small artefact whose weights say ``word``."""
    with tempfile.TemporaryDirectory() as place:

        def build(folder: Path) -> None:
            (folder / "weights.safetensors").write_bytes(word.encode().ljust(1000, b"."))
            if few:
                return
            (folder / "config.json").write_text("{}")
            (folder / "1_Pooling").mkdir()
            (folder / "1_Pooling" / "config.json").write_text("[]")
            (folder / "README.md").write_text(f"# A model that says {word}")

        folder = artefact.write(Path(place, "model"), build, {"class": kind, "name": word})
        files = {name: (folder / name).read_bytes() for name in manifest.describe(folder)}
        return MappingProxyType(files)


def digests(files: Files) -> dict[str, Digest]:
    return {path: Digest(sha256(content), len(content)) for path, content in files.items()}


def listed(files: Files) -> dict[str, dict[str, Any]]:
    """Return what a client sends of ``files`` when it commits them."""
    return {path: vars(each) for path, each in digests(files).items()}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def put(hub: Hub, content: bytes) -> str:
    """Store ``content`` as an upload does; return its sha256."""
    name = sha256(content)
    while (part := hub.shelf.parts.claim(name)) is None:
        time.sleep(0.01)  # another thread of the test sends the same
    with part:
        part.append(content)
        assert part.finish() == name
        hub.shelf.put(part, name)
    return name


def put_all(hub: Hub, files: Files) -> dict[str, Digest]:
    for content in files.values():
        put(hub, content)
    return digests(files)


def app_of(hub: Hub, settings: Settings) -> Starlette:
    """Return an app of the hub's routes and no more; its errors answer as the server's do."""

    async def answer(_: Request, error: Exception) -> Response:
        status, headers = 500, {}
        if isinstance(error, HTTPFault):
            status, headers = error.status, dict(error.headers)
        else:
            status = next(code for kind, code in STATUS.items() if isinstance(error, kind))
        body = orjson.dumps({"message": str(error)})
        return Response(body, status, headers, media_type="application/json")

    handlers: Any = {kind: answer for kind in (HTTPFault, *STATUS)}
    return Starlette(routes=routes(hub, settings), exception_handlers=handlers)


# --- Services ----------------------------------------------------------------------------


def postgresql_programs() -> Path | None:
    """Return the folder of PostgreSQL's newest programs, as Debian installs them."""
    found = [each.parent for each in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    return max(found, key=lambda each: int(each.parent.name), default=None)


@contextmanager
def quick_folder() -> Iterator[Path]:
    """Yield a new folder, in memory where the system has that: a hub syncs each file it takes."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as place:
        yield Path(place)


@contextmanager
def postgresql(programs: Path) -> Iterator[str]:
    """Yield the URL of a new server, reached by a socket in a folder of its own."""
    # It refuses to run as root.
    user = _unprivileged() if os.getuid() == 0 else None
    with quick_folder() as place:
        if user is not None:
            shutil.chown(place, user)

        def run(program: str, *arguments: str) -> None:
            command = [str(programs / program), "-D", str(place / "data"), *arguments]
            log = place / "log"
            with log.open("ab") as output:
                done = subprocess.run(
                    command, user=user, cwd=place, stdout=output, stderr=output, timeout=60
                )
            assert done.returncode == 0, log.read_text()

        run("initdb", "-U", "hub", "--auth=trust", "--no-sync")
        settings = f"-c listen_addresses='' -c unix_socket_directories={place} -c fsync=off"
        run("pg_ctl", "-w", "-o", settings, "-l", str(place / "server.log"), "start")
        try:
            yield f"postgresql://hub@/postgres?host={place}"
        finally:
            run("pg_ctl", "-w", "-m", "immediate", "stop")


@contextmanager
def object_store() -> Iterator[str]:
    """Yield the address of a new server that speaks S3."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    server = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    assert server.stderr is not None
    try:
        for line in server.stderr:
            if "Running on " in line:
                break
        else:
            raise AssertionError("the object store did not start")
        # It logs each request, and would wait for a reader once the pipe is full.
        reader = threading.Thread(target=server.stderr.read)
        reader.start()
        try:
            yield line.split("Running on ")[1].split()[0]
        finally:
            server.kill()
            reader.join()
    finally:
        server.kill()
        server.wait()
        server.stderr.close()


def _unprivileged() -> str:
    names = {each.pw_name for each in pwd.getpwall()}
    return next(name for name in UNPRIVILEGED if name in names)
