"""Logging in with a key, and out again."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from backprop.serve.web.rendering import page
from backprop.serve.web.services import PageServices

__all__ = ["LogIn"]

MOST_BYTES = 4096
"""Of the form: a key, and where to go next."""

WRONG = "That is not a key of this server, or it was revoked. Paste the whole key, from bp_ on."
FULL = "The form was larger than any key; paste the key alone."


class LogIn:
    """The form that takes a key, and what it does.

    Args:
        services: the server's parts.
    """

    def __init__(self, services: PageServices) -> None:
        self.services = services

    def form(self, request: Request) -> Response:
        """Return the empty form."""
        return self._page(request, inside(request.query_params.get("next", "")), "", 200)

    async def enter(self, request: Request) -> Response:
        """Check the key of the form; go on with a session, or back to the form with the reason."""
        fields = await _fields(request)
        if fields is None:
            return self._page(request, "/", FULL, 413)
        onward = inside(fields.get("next", ""))
        presented = fields.get("key", "").strip()
        key = await run_in_threadpool(self.services.keys.check, presented)
        if key is None:
            return self._page(request, onward, WRONG, 401)
        cookie = self.services.sessions.open(key, secure=request.url.scheme == "https")
        return RedirectResponse(onward, 303, {"set-cookie": cookie, "cache-control": "no-store"})

    def leave(self, request: Request) -> Response:
        """End the session."""
        cookie = self.services.sessions.close(request.headers)
        return RedirectResponse("/login", 303, {"set-cookie": cookie, "cache-control": "no-store"})

    def _page(self, request: Request, onward: str, error: str, status: int) -> Response:
        context = {"next": onward, "error": error, "is_open": not self.services.keys.any()}
        return page(request, "login.html", context, status=status)


def inside(address: str) -> str:
    r"""Return ``address`` if it is a page of ours, else the home page.

    Browsers read ``//host``, ``/\host`` and control characters in ways of their own.
    """
    parts = urlsplit(address) if address.isprintable() else None
    is_ours = (
        parts is not None
        and not parts.scheme
        and not parts.netloc
        and address.startswith("/")
        and not address.startswith("//")
        and "\\" not in address
    )
    return address if is_ours else "/"


async def _fields(request: Request) -> dict[str, str] | None:
    """Return the form's fields, or None where there is too much of it."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            return None
    try:
        text = body.decode("ascii")
        return {name: values[0] for name, values in parse_qs(text, max_num_fields=4).items()}
    except ValueError:
        return {}
