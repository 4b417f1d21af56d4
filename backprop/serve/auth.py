"""The door of the server: every request passes here, and reaches a route if a rule lets it.

It is the outermost layer, plain ASGI. In order: is the server meant (``Host``), does another site's
page ask (``Origin``, ``Sec-Fetch-Site``), whose key is it and may that key do this (``access.py``),
has it asked too often, is the body of the right kind and size. Whatever happens, the answer has a
request id and the headers that browsers heed, and one line goes to the log.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import quote

from backprop.errors import InputError
from backprop.serve import logs
from backprop.serve.access import PUBLIC, UNLISTED, Rule, rule_of
from backprop.serve.exchange import TOO_LARGE, Exchange, request_id_of
from backprop.serve.faults import HTTPFault
from backprop.serve.hosts import Hosts, is_cross_site
from backprop.serve.keys import Key, Keys
from backprop.serve.limits import MAX_BODY_BYTES
from backprop.serve.ratelimit import Buckets, network_of
from backprop.serve.sessions import Sessions
from backprop.serve.settings import LOOPBACK_NAMES, Settings

__all__ = ["Guard", "Sessions", "check_startup"]

logger = logging.getLogger("backprop.serve")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = dict[bytes, bytes]

FAILURES_PER_MINUTE = 30
MAX_FORM_BYTES = 16 << 10

HARMLESS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing, so that other sites may link here."""

ONCE = frozenset(
    (
        *(b"host", b"origin", b"sec-fetch-site", b"x-api-key", b"authorization"),
        *(b"content-type", b"content-length", b"transfer-encoding"),
    )
)
"""Headers that decide, so that two of them, of which others may read the other, are refused."""
FORWARDED = (b"forwarded", b"x-forwarded-for", b"x-real-ip")
"""Headers by which a proxy says who asked it."""

READ = ONCE.union((b"cookie", b"accept", b"x-request-id"), FORWARDED)
MOST_RETURN = 2000
"""Characters of an address to go back to after logging in."""

UNAUTHORISED = (
    "This needs a key of this server: send it as the header 'x-api-key: KEY' or "
    "'authorization: Bearer KEY'. Whoever runs the server makes one with: backprop keys create "
    "--scope infer (with the server's --data or --database)"
)
"""The same for a key that is missing, unknown, wrong or revoked."""


class Guard:
    """ASGI middleware that lets in who may come in.

    ``scope["state"]`` then has ``key`` (None on public routes and in open mode), ``open`` (whether
    all is allowed: no key was ever made and the server is on loopback), and ``request_id``. What a
    handler puts there as ``facts`` is logged too.

    Args:
        app: what is guarded.
        lost: answers keys below ``admin`` where no rule lists a route: one that was left out of
            the table of rules is not open to them.
        keys: who may come in.
        settings: of the server.
        sessions: of the web page; by default new ones.
        failures_per_minute: wrong keys that a client may present before it must wait.
        clock: seconds that only go up.
    """

    def __init__(
        self,
        app: App,
        lost: App,
        *,
        keys: Keys,
        settings: Settings,
        sessions: Sessions | None = None,
        failures_per_minute: int = FAILURES_PER_MINUTE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.app = app
        self.lost = lost
        self.keys = keys
        self.sessions = Sessions(keys) if sessions is None else sessions
        self.running = 0
        """Requests that are being answered."""
        self.last_request = clock()
        """When one came last, by the clock."""
        self.closing = False
        """Set it to have connections closed after their next answer."""
        self._is_local = settings.is_local
        self._hosts = Hosts(settings)
        self._loopback = Hosts(Settings())
        self._limits = {
            "json": MAX_BODY_BYTES,
            "bytes": settings.upload_bytes,
            "form": MAX_FORM_BYTES,
        }
        rate = settings.rate_per_minute
        self._rates = Buckets(rate, clock=clock) if rate else None
        self._failures = Buckets(failures_per_minute, clock=clock)
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have the app answer it."""
        if scope["type"] == "http":
            await self._request(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        else:
            # There are no web sockets here, so whoever opens one has lost the way.
            await send({"type": "websocket.close", "code": 1008})

    def _is_closing(self) -> bool:
        return self.closing

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = time.perf_counter()
        self.last_request = self._clock()
        found, repeated = _read(scope["headers"])
        rule = rule_of(scope["method"], scope["path"])
        request_id = request_id_of(found.get(b"x-request-id"))
        exchange = Exchange(receive, send, request_id, self._is_closing)
        state = scope.setdefault("state", {})
        state.update(request_id=exchange.request_id, key=None, open=False)
        self.running += 1
        try:
            app = self._let_in(scope, rule, found, repeated)
            exchange.limit = self._limits[rule.body]
            await app(scope, exchange.receive, exchange.send)
        except HTTPFault as fault:
            await exchange.refuse(fault.status, fault.message, fault.headers)
        except Exception as error:
            await exchange.fail(error)
        finally:
            self.running -= 1
            if exchange.status == 401 and rule.body == "form":
                # A wrong key in the web page's form counts as one in a header does.
                self._failures.take(_client(scope))
            _log(scope, rule, exchange, start)

    def _let_in(self, scope: Scope, rule: Rule, found: Headers, repeated: bytes) -> App:
        """Return what answers the request, if it may pass.

        Raises:
            HTTPFault: it may not.
        """
        if repeated:
            raise HTTPFault(400, f"The header {repeated.decode()} came twice; send it once.")
        host = found.get(b"host", b"")
        if not self._hosts.allows(host):
            raise HTTPFault(
                400,
                "The Host header is not a name of this server. Use the address it was started "
                "with, or start it with: --host-name NAME",
            )
        changes = scope["method"] not in HARMLESS
        if changes and is_cross_site(host, found.get(b"origin"), found.get(b"sec-fetch-site")):
            raise HTTPFault(403, "Pages of other sites may not send requests to this server.")
        app = self._authorise(scope, rule, found)
        self._check_body(rule, found, changes)
        return app

    def _authorise(self, scope: Scope, rule: Rule, found: Headers) -> App:
        """Return what answers, if the key of the request, or of its session, may do this.

        Raises:
            HTTPFault: it may not, or not so often.
        """
        if rule.scope == PUBLIC:
            self._admit_public(scope, rule, found)
            return self.app
        presented = _presented(found)
        key = self.keys.check(presented) if presented else self._session(found)
        if key is None:
            if not self._is_open(found):
                raise self._unauthorised(scope, rule, found, presented)
            scope["state"]["open"] = True
            return self.app
        scope["state"]["key"] = key
        seconds = self._rates.take(key.id) if self._rates is not None else 0
        if seconds:
            raise _too_often("This key", seconds)
        if key.allows(rule.scope):
            return self.app
        if rule is UNLISTED:
            return self.lost
        raise HTTPFault(
            403, f"This needs a key of scope {rule.scope}; the scope of this one is {key.scope}."
        )

    def _admit_public(self, scope: Scope, rule: Rule, found: Headers) -> None:
        """Let anybody in, except to try another key in the web page's form too often."""
        if rule.body == "form":
            seconds = self._failures.wait(_client(scope))
            if seconds:
                raise _too_often("This client", seconds)
        elif rule.is_page:
            scope["state"]["key"] = self._session(found)

    def _session(self, found: Headers) -> Key | None:
        cookies = found.get(b"cookie")
        return self.sessions.key_of(cookies.decode("latin-1")) if cookies else None

    def _is_open(self, found: Headers) -> bool:
        """Return whether everybody may do everything: on this machine alone, before any key is.

        What a proxy passes on comes from somewhere else.
        """
        if not self._is_local or any(name in found for name in FORWARDED):
            return False
        return self._loopback.allows(found[b"host"]) and not self.keys.any()

    def _unauthorised(
        self, scope: Scope, rule: Rule, found: Headers, presented: str | None
    ) -> HTTPFault:
        """Return the refusal of a request without a key that holds."""
        seconds = self._failures.take(_client(scope)) if presented else 0
        if seconds:
            return _too_often("This client", seconds)
        is_browser = not presented and b"text/html" in found.get(b"accept", b"")
        if rule.is_page and is_browser:
            return HTTPFault(303, "Log in first.", {"location": _log_in(scope)})
        return HTTPFault(401, UNAUTHORISED, {"www-authenticate": 'Bearer realm="backprop"'})

    def _check_body(self, rule: Rule, found: Headers, changes: bool) -> None:
        """Return if the body, as its headers describe it, fits.

        Raises:
            HTTPFault: it is of another kind, or too large.
        """
        length = found.get(b"content-length")
        if length is not None and not (length.isdigit() and len(length) < 20):
            raise HTTPFault(400, "The header content-length must be a number of bytes.")
        if length is not None and b"transfer-encoding" in found:
            raise HTTPFault(400, "Send content-length or transfer-encoding, not both.")
        size = int(length or 0)
        limit = self._limits[rule.body]
        if size > limit:
            raise HTTPFault(413, TOO_LARGE.format(limit=limit))
        has_body = size > 0 or b"transfer-encoding" in found
        listed = rule is not UNLISTED  # what is no route is refused as such
        if listed and changes and has_body and rule.body == "json" and not _is_json(found):
            raise HTTPFault(415, "Send JSON, with the header 'content-type: application/json'.")


def check_startup(settings: Settings, keys: Keys) -> None:
    """Return if a server may start; warn if nobody could use it.

    Raises:
        InputError: others could reach it, and there is no key to keep them out.
    """
    if keys.are_all_revoked():
        logger.warning("every key is revoked, so nobody may do anything: backprop keys create")
    names = [host for host in settings.hosts if host.lower() not in LOOPBACK_NAMES]
    if keys.any() or (settings.is_local and not names):
        return
    where = settings.host if not settings.is_local else names[0]
    raise InputError(
        f"Without keys the server is for this machine only; received {where!r}. "
        "Make a key first: backprop keys create --scope admin"
        " (with the same --data or --database as the server)"
    )


def _read(headers: Iterable[tuple[bytes, bytes]]) -> tuple[Headers, bytes]:
    """Return the headers that matter here, and the name of one that may not come twice."""
    found: Headers = {}
    repeated = b""
    for name, value in headers:
        if name in READ:
            if name not in found:
                found[name] = value
            elif name in ONCE:
                repeated = name
    return found, repeated


def _presented(found: Headers) -> str | None:
    """Return the key in the headers, if there is one.

    The client of 2021 sends an empty ``x-api-key`` where it has none.
    """
    given = found.get(b"x-api-key", b"").strip()
    if not given:
        given = found.get(b"authorization", b"").strip()
        if given[:7].lower() == b"bearer ":
            given = given[7:].strip()
    return given.decode("latin-1") or None


def _is_json(found: Headers) -> bool:
    kind = found.get(b"content-type", b"").partition(b";")[0]
    return kind.strip().lower() == b"application/json"


def _log_in(scope: Scope) -> str:
    """Return the address of the log in that leads back to where a request wanted to go."""
    query = scope.get("query_string", b"").decode("latin-1")
    # Somebody may have put a key into the address, which is no reason to show it again.
    wanted = logs.masked(scope["path"] + (f"?{query}" if query else ""))
    return (
        "/login"
        if wanted == "/" or len(wanted) > MOST_RETURN
        else f"/login?next={quote(wanted, safe='')}"
    )


def _client(scope: Scope) -> str:
    client = scope.get("client")
    return network_of(client[0]) if client else ""


def _too_often(who: str, seconds: int) -> HTTPFault:
    return HTTPFault(
        429, f"{who} asks too often; try again in {seconds} s.", {"retry-after": str(seconds)}
    )


def _log(scope: Scope, rule: Rule, exchange: Exchange, start: float) -> None:
    state = scope["state"]
    fields: dict[str, Any] = {
        "request_id": exchange.request_id,
        "method": scope["method"],
        "path": rule.path,
        "status": exchange.status,
        "ms": round((time.perf_counter() - start) * 1000, 2),
    }
    key = state["key"]
    if key is not None:
        fields["key"] = key.id
    if exchange.status in (401, 429):
        fields["client"] = _client(scope)
    fields.update(state.get("facts", ()))
    logs.request(fields)
