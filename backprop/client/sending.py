"""A saved model's files, sent to a server's hub: what it has is skipped, what broke goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from backprop.client import exchange
from backprop.client.address import Server
from backprop.client.exchange import Answer, Request
from backprop.errors import RemoteError
from backprop.manifest import Digest
from backprop.progress import progress

__all__ = ["Uploaded", "send_folder"]

CHUNK_BYTES = 1 << 20
PART_BYTES = 8 << 20
"""Of one request: what a connection that breaks can lose."""
TIMEOUT_S = 300.0
"""Of one part with all its tries."""
MAX_DETOURS = 20
"""Answers in a row that ask for another part of a file, before it is given up."""


@dataclass(frozen=True)
class Uploaded:
    """A version of a model on a server.

    Args:
        name: of the model there.
        version: its number, counted from 1.
        url: where the server tells of it.
    """

    name: str
    version: int
    url: str

    def __str__(self) -> str:
        """Return the name by which exactly this version is asked for, such as ``mine@3``."""
        return f"{self.name}@{self.version}"


def send_folder(
    server: Server,
    name: str,
    folder: Path,
    files: Mapping[str, Digest],
    *,
    description: str = "",
) -> Uploaded:
    """Return the version that a server made of a folder's files.

    Args:
        server: where to.
        name: of the model there.
        folder: where the files are.
        files: what each must be, by path; the server checks every byte.
        description: of the version.

    Raises:
        RemoteError: the server could not be reached, or refused.
    """
    blobs = {facts: folder / path for path, facts in files.items()}
    sent = _Sent()
    with progress(
        f"Sending {name} to {server.shown}",
        measure=lambda: sent.size_bytes,
        size_bytes=sum(facts.size_bytes for facts in blobs),
    ):
        for facts, path in blobs.items():
            _send_blob(server, path, facts, sent)
    return _commit(server, name, files, description)


class _Sent:
    """Bytes the server has of files that are done, and of the one on its way."""

    def __init__(self) -> None:
        self.done_bytes = self.part_bytes = 0

    @property
    def size_bytes(self) -> int:
        return self.done_bytes + self.part_bytes

    def finish(self, size_bytes: int) -> None:
        self.done_bytes, self.part_bytes = self.done_bytes + size_bytes, 0


def _send_blob(server: Server, path: Path, facts: Digest, sent: _Sent) -> None:
    """Return once the server has a whole file.

    Raises:
        RemoteError: it refused, or could not be reached.
    """
    offset, detours = _offset(server, facts), 0
    while offset is not None:
        sent.part_bytes = offset
        part = _part(path, facts, offset, sent)
        # Where a connection broke midway, the same part is refused and the right place told.
        answer = exchange.send(server, part, timeout_s=TIMEOUT_S)
        if answer.status in (200, 201):
            break
        kept = _kept(server, answer, facts)
        detours = 0 if kept > offset else detours + 1
        if detours > MAX_DETOURS:
            raise RemoteError(
                f"{server.shown} keeps no more than {kept:,} of {facts.size_bytes:,} bytes of "
                f"{path.name}; its disk may be full, or another client sends the same file.",
                status=answer.status,
            )
        offset = kept
    sent.finish(facts.size_bytes)


def _route(facts: Digest) -> str:
    return f"blobs/{facts.sha256}"


def _offset(server: Server, facts: Digest) -> int | None:
    """Return how many bytes of a file the server kept; None when it has all of them."""
    answer = exchange.send(server, Request("HEAD", _route(facts)), timeout_s=TIMEOUT_S)
    if answer.is_success:
        return None
    if answer.status != 404:
        raise exchange.refusal(server, answer.status, answer.headers, answer.content)
    return _number(answer.headers.get("upload-offset"), facts) or 0


def _kept(server: Server, answer: Answer, facts: Digest) -> int:
    """Return the place to go on from, as the answer to a part says.

    Raises:
        RemoteError: the server refused the part.
    """
    place = _number(answer.headers.get("upload-offset"), facts)
    if answer.status not in (204, 409) or place is None:
        raise exchange.refusal(server, answer.status, answer.headers, answer.content)
    return place


def _number(header: str | None, facts: Digest) -> int | None:
    is_number = header is not None and header.isascii() and header.isdigit() and len(header) < 20
    return min(int(header), facts.size_bytes) if is_number and header else None


def _part(path: Path, facts: Digest, offset: int, sent: _Sent) -> Request:
    length = min(PART_BYTES, facts.size_bytes - offset)
    headers = {
        "content-type": "application/octet-stream",
        "content-length": str(length),
        "upload-offset": str(offset),
        "upload-length": str(facts.size_bytes),
    }

    def chunks() -> Iterator[bytes]:
        sent.part_bytes = offset
        return _chunks(path, offset, length, sent)

    return Request("PUT", _route(facts), chunks, headers)


def _chunks(path: Path, offset: int, length: int, sent: _Sent) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(offset)
        while length and (chunk := file.read(min(CHUNK_BYTES, length))):
            yield chunk
            length -= len(chunk)
            sent.part_bytes += len(chunk)


def _commit(server: Server, name: str, files: Mapping[str, Digest], description: str) -> Uploaded:
    """Return the version that now has the files.

    An answer that got lost must not make a second version, so the newest one is looked at before
    the same is asked again.

    Raises:
        RemoteError: the server refused, or could not be reached.
    """
    route = f"models/{name}/versions"
    listed = {path: asdict(facts) for path, facts in sorted(files.items())}
    said = "".join(each if each.isprintable() or each in "\n\t" else " " for each in description)
    content = json.dumps({"files": listed, "description": said[:MAX_DESCRIPTION]}).encode()
    headers = {"content-type": "application/json"}
    asking = Request("POST", route, content, headers, is_repeatable=False)
    for left in reversed(range(COMMITS)):
        try:
            answer = exchange.send(server, asking, timeout_s=TIMEOUT_S)
            if answer.status not in LOST or not left:
                return _uploaded(server, route, exchange.read(server, answer))
        except RemoteError as error:
            if error.status is not None or not left:
                raise
        newest = exchange.send(server, Request("GET", f"{route}/latest"), timeout_s=TIMEOUT_S)
        found = newest.json()
        if newest.is_success and isinstance(found, dict) and found.get("files") == listed:
            return _uploaded(server, route, found)
    raise AssertionError("the last round returns or raises")


COMMITS = 3
MAX_DESCRIPTION = 2000
LOST = frozenset({502, 504})
"""Answers of a proxy, which does not say whether the server has acted."""


def _uploaded(server: Server, route: str, found: Any) -> Uploaded:
    """Return what the server says it made.

    Raises:
        RemoteError: it says something else.
    """
    name, number = (found.get("name"), found.get("version")) if isinstance(found, dict) else (0, 0)
    if not isinstance(name, str) or type(number) is not int:
        raise RemoteError(f"{server.shown} took the model but gave it no version; upgrade it.")
    return Uploaded(name, number, f"{server.shown}/{route}/{number}")
