"""Errors as pages, for those who came with a browser."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

from backprop.serve.web.rendering import page

__all__ = ["error_page", "wants_page"]

TITLES = {
    401: "Please log in",
    403: "Not with this key",
    404: "Nothing on the map here",
    405: "That is not how this page is used",
    413: "That was too much at once",
    429: "One moment, please",
    503: "Busy just now",
}
"""Status to what a person is told; the message says the rest."""


def wants_page(headers: Headers, method: str = "GET") -> bool:
    """Return whether a request comes from someone reading pages rather than from a program."""
    return method in ("GET", "HEAD") and "text/html" in headers.get("accept", "")


def error_page(
    request: Request, status: int, message: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Return the error as a page.

    Args:
        request: that failed.
        status: HTTP status.
        message: for people; no path, key or traceback.
        headers: further ones of the answer.
    """
    context = {
        "status": status,
        "heading": TITLES.get(status, "Something went wrong here" if status >= 500 else "No"),
        "message": message,
    }
    response = page(request, "error.html", context, status=status)
    response.headers.update(headers or {})
    return response
