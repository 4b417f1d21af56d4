"""Styles, scripts and pictures of the pages: a fixed set of files, read once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from backprop.errors import NotFoundError
from backprop.serve.web.errors import error_page

__all__ = ["static"]

KINDS = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".jpg": "image/jpeg",
}
FOLDERS = (Path(__file__).with_name("static"), Path(__file__).parents[2] / "examples")
"""Ours, and the pictures that ship as examples."""


@dataclass(frozen=True)
class Asset:
    """One file.

    Args:
        body: its bytes.
        kind: media type.
        tag: changes with the bytes.
    """

    body: bytes
    kind: str
    tag: str


def static(request: Request) -> Response:
    """Return a file by its name, or 304 where the browser has it."""
    asset = _assets().get(request.path_params["file"])
    if asset is None:
        return error_page(request, 404, str(NotFoundError("There is no such file.")))
    # Asked for again each time, which costs little and never shows an old script on a new page.
    headers = {"etag": asset.tag, "cache-control": "no-cache", "x-content-type-options": "nosniff"}
    if asset.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(asset.body, media_type=asset.kind, headers=headers)


@cache
def _assets() -> dict[str, Asset]:
    return {
        path.name: _read(path)
        for folder in FOLDERS
        for path in sorted(folder.iterdir())
        if path.suffix in KINDS
    }


def _read(path: Path) -> Asset:
    body = path.read_bytes()
    tag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
    return Asset(body, KINDS[path.suffix], tag)
