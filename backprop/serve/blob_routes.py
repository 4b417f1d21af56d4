"""Routes of stored files: send one, in as many pieces as it takes, and read one of a version."""

from __future__ import annotations

import errno
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import BinaryIO

import anyio
from anyio import to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from backprop.errors import InputError
from backprop.serve.faults import HTTPFault
from backprop.serve.store.checks import check_sha256, check_size
from backprop.serve.store.parts import Part
from backprop.serve.store.shelf import Shelf

__all__ = ["BlobRoutes"]

CHUNK_BYTES = 1 << 20
TURN_S, PAUSE_S = 10.0, 0.05
DRAIN_BYTES, DRAIN_S = 8 << 20, 10.0
LENGTH = re.compile(r"[0-9]{1,15}")
RANGE = re.compile(r"bytes=(?:([0-9]{1,15})-([0-9]{0,15})|-([0-9]{1,15}))")


class BlobRoutes:
    """What is done with files by their sha256.

    Args:
        shelf: the stored files.
        upload_bytes: largest file that is taken.
    """

    def __init__(self, shelf: Shelf, upload_bytes: int) -> None:
        self._shelf = shelf
        self._upload_bytes = upload_bytes

    async def head(self, request: Request) -> Response:
        """Say whether a file is stored whole: 200, else 404 with how much of it is kept."""
        sha256 = check_sha256(request.path_params["sha256"])
        size_bytes = await to_thread.run_sync(self._shelf.size, sha256)
        if size_bytes is not None:
            return Response(headers={"content-length": str(size_bytes)})
        kept = await to_thread.run_sync(self._shelf.parts.kept, sha256)
        return Response(status_code=404, headers=_offset(kept))

    async def put(self, request: Request) -> Response:
        """Take a file or a piece of it: 201 when it is whole, 204 when more is to come."""
        sha256 = check_sha256(request.path_params["sha256"])
        offset = _number(request, "upload-offset", default=0)
        total = check_size(_number(request, "upload-length"), self._upload_bytes)
        _check_piece(request, offset, total)
        if await to_thread.run_sync(self._shelf.size, sha256) is not None:
            return await _already(request)
        async with self._turn(sha256) as part:
            # Another request may have brought the rest while this one waited.
            if await to_thread.run_sync(self._shelf.size, sha256) is not None:
                await to_thread.run_sync(part.discard)
                return await _already(request)
            await _check_offset(part, offset, total)
            await _receive(request, part, total)
            if part.size < total:
                return Response(status_code=204, headers=_offset(part.size))
            return await to_thread.run_sync(partial(self._store, part, sha256))

    async def get(self, request: Request) -> Response:
        """Return a file of some version, or the range of it that is asked for."""
        sha256 = check_sha256(request.path_params["sha256"])
        file, size_bytes = await to_thread.run_sync(self._shelf.open, sha256)
        try:
            start, end = _range(request.headers.get("range", ""), size_bytes)
            await to_thread.run_sync(file.seek, start)
        except BaseException:
            file.close()
            raise
        headers = {
            "accept-ranges": "bytes",
            "cache-control": "private, max-age=31536000, immutable",
            "content-disposition": "attachment",
            "content-length": str(end - start),
            "etag": f'"{sha256}"',
            "x-content-type-options": "nosniff",
        }
        whole = (start, end) == (0, size_bytes)
        if not whole:
            headers["content-range"] = f"bytes {start}-{end - 1}/{size_bytes}"
        return StreamingResponse(
            _read(file, end - start),
            status_code=200 if whole else 206,
            headers=headers,
            media_type="application/octet-stream",
        )

    @asynccontextmanager
    async def _turn(self, sha256: str) -> AsyncIterator[Part]:
        """Yield the part once no other request adds to it; 409 where one goes on for long."""
        deadline = anyio.current_time() + TURN_S
        while (part := await to_thread.run_sync(self._shelf.parts.claim, sha256)) is None:
            if anyio.current_time() > deadline:
                kept = await to_thread.run_sync(self._shelf.parts.kept, sha256)
                raise HTTPFault(
                    409,
                    "Another request sends this file; ask how much is kept, then go on from there.",
                    {**_offset(kept), "retry-after": "1"},
                )
            await anyio.sleep(PAUSE_S)
        try:
            yield part
        finally:
            part.close()

    def _store(self, part: Part, sha256: str) -> Response:
        found = part.finish()
        if found != sha256:
            part.discard()
            raise HTTPFault(
                422,
                f"The bytes have the sha256 {found}, not {sha256}; what was kept is deleted, send "
                "the file from its start.",
            )
        self._shelf.put(part, sha256)
        return Response(status_code=201)


async def _receive(request: Request, part: Part, total: int) -> None:
    """Add the body to ``part``; what came before a client went away is kept."""
    pending = bytearray()
    try:
        async for chunk in request.stream():
            if part.size + len(pending) + len(chunk) > total:
                await to_thread.run_sync(part.discard)
                raise InputError(f"More than the {total} bytes of upload-length were sent.")
            pending += chunk
            if len(pending) >= CHUNK_BYTES:
                await _append(part, pending)
                pending = bytearray()
    except ClientDisconnect:
        pass  # nobody reads the answer; the rest may come with another request
    await _append(part, pending)


async def _append(part: Part, data: bytearray) -> None:
    try:
        await to_thread.run_sync(part.append, bytes(data))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise HTTPFault(507, "The server has no room left for this file.") from error


async def _already(request: Request) -> Response:
    """Answer 200 for a file that is stored, after a body that is short; a long one is cut off."""
    taken = 0
    with anyio.move_on_after(DRAIN_S):
        async for chunk in request.stream():
            taken += len(chunk)
            if taken > DRAIN_BYTES:
                break
    return Response()


async def _check_offset(part: Part, offset: int, total: int) -> None:
    if part.size > total:  # of someone who gave another length: one of the two is wrong
        await to_thread.run_sync(part.discard)
        raise _wrong_offset(offset, kept=0)
    if part.size != offset:
        raise _wrong_offset(offset, kept=part.size)


def _wrong_offset(offset: int, kept: int) -> HTTPFault:
    message = f"{kept} bytes are kept, so go on from there; received upload-offset {offset}."
    return HTTPFault(409, message, _offset(kept))


def _check_piece(request: Request, offset: int, total: int) -> None:
    length = request.headers.get("content-length", "0")
    if LENGTH.fullmatch(length) and offset + int(length) > total:
        raise InputError(
            f"{length} bytes from {offset} on are more than the upload-length of {total}."
        )


def _number(request: Request, header: str, default: int | None = None) -> int:
    value = request.headers.get(header)
    if value is None and default is not None:
        return default
    if value is None or not LENGTH.fullmatch(value):
        raise InputError(
            f"The header {header} must be a whole number of bytes; received "
            f"{value[:80] if value else value!r}."
        )
    return int(value)


def _offset(kept: int) -> dict[str, str]:
    return {"upload-offset": str(kept)}


def _range(value: str, size_bytes: int) -> tuple[int, int]:
    """Return first and past-the-last byte; a header that is not understood asks for all.

    Source: RFC 9110, section 14.
    """
    found = RANGE.fullmatch(value.strip())
    if found is None:
        return 0, size_bytes
    first, last, suffix = found.groups()
    if suffix is not None:
        start, end = max(0, size_bytes - int(suffix)), size_bytes
    else:
        start, end = int(first), min(int(last) + 1, size_bytes) if last else size_bytes
        if last and int(last) < int(first):
            return 0, size_bytes
    if start >= size_bytes:
        raise HTTPFault(
            416,
            f"The file has {size_bytes} bytes; received the range {value[:80]!r}.",
            {"content-range": f"bytes */{size_bytes}"},
        )
    return start, end


async def _read(file: BinaryIO, left: int) -> AsyncIterator[bytes]:
    try:
        while left > 0:
            chunk = await to_thread.run_sync(file.read, min(CHUNK_BYTES, left))
            if not chunk:
                raise OSError("a stored file ended early")
            left -= len(chunk)
            yield chunk
    finally:
        file.close()
