"""Every route of a running server, asked in every way that must not work.

Starts ``backprop serve`` with keys in a folder of its own, and asks each route of its OpenAPI
document, of the application and of the access table without a key, with wrong, revoked and
too weak ones, with a key in the wrong place, under a forged Host, twice the same header, and as
another site's page would. Then it looks for the bytes of the keys in all files of the server, in
its log and in all that it answered.

Run as ``python -m bench.serve.routes``. The last lines are the two figures.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backprop.serve.access import PUBLIC, RULES, rule_of
from backprop.serve.keys import SCOPES, Keys
from backprop.serve.store.database import open_engine

START_S = 60.0
WINDOW = 8
"""So many characters of a secret in a row count as a leak."""
PER_CLIENT = 20
"""Requests from one loopback address: a client with more wrong keys a minute is told to wait."""

HARMLESS = ("GET", "HEAD", "OPTIONS")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
EVIL = "evil.example"

Pairs = list[tuple[str, str]]


@dataclass(frozen=True)
class Attempt:
    """A request that must be refused."""

    kind: str
    method: str
    path: str
    headers: Pairs
    body: bytes = b""


@dataclass
class Target:
    """A running server, its keys and everything that it said."""

    port: int
    folder: Path
    keys: dict[str, str]
    heard: list[tuple[str, bytes]] = field(default_factory=list)
    asked: int = 0

    @property
    def host(self) -> str:
        """Return what the ``Host`` header should say."""
        return f"127.0.0.1:{self.port}"

    def send(self, attempt: Attempt) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of the answer."""
        number, self.asked = self.asked // PER_CLIENT, self.asked + 1
        client = f"127.{1 + number // 60000 % 250}.{number // 250 % 240}.{1 + number % 250}"
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=30, source_address=(client, 0)
        )
        connection.putrequest(
            attempt.method, attempt.path, skip_host=True, skip_accept_encoding=True
        )
        for name, value in attempt.headers:
            connection.putheader(name, value)
        if attempt.body:
            connection.putheader("content-length", str(len(attempt.body)))
        connection.endheaders(attempt.body or None)
        answer = connection.getresponse()
        body = answer.read()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        connection.close()
        name = f"the answer {answer.status} to {attempt.method} {attempt.path}"
        self.heard.append((name, repr(headers).encode() + body))
        return answer.status, headers, body


def main() -> int:
    """Print what was refused how, and the figures; return 1 if anything was allowed or leaked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=1, help="times that each request is sent")
    parser.add_argument("-v", "--verbose", action="store_true", help="a line for each request")
    arguments = parser.parse_args()
    with running() as target:
        routes = routes_of(target)
        print(f"{len(routes)} routes")
        allowed, sent = refusals(target, routes, arguments.count, arguments.verbose)
        shown = mistakes(target, routes)
        time.sleep(0.2)  # the last lines of the log
        found, size = leaks(target)
    print(f"{shown} requests with keys where they do not belong, whose answers were read too")
    print(f"{size:,} bytes of database, log and answers searched")
    print(f"{sent} requests, {allowed} allowed")
    print(f"{found} bytes of any key")
    return 1 if allowed or found else 0


@contextmanager
def running() -> Iterator[Target]:
    """Run a server whose keys are made."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        keys = make_keys(folder)
        log = folder / "server.log"
        command = [sys.executable, "-m", "backprop", "serve", "--port", "0", "--data", place]
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ})
        try:
            yield Target(port_of(process, log), folder, keys)
        finally:
            process.terminate()
            process.wait(30)


def make_keys(folder: Path) -> dict[str, str]:
    """Return a key of each scope, a revoked one of the strongest, and ones that never were."""
    engine = open_engine("", folder)
    keys = Keys(engine)
    made = {scope: keys.create(scope, f"the {scope} one")[1] for scope in SCOPES}
    gone, made["revoked"] = keys.create("admin")
    keys.revoke(gone.id)
    keys.close()
    engine.dispose()
    prefix, _, secret = made["admin"].rpartition("_")
    made["altered"] = f"{prefix}_{secret[::-1]}"
    made["unknown"] = f"bp_{'0' * 12}_{secret}"
    return made


def port_of(process: subprocess.Popen[bytes], log: Path) -> int:
    """Return the port that the server says it listens on, once it is ready."""
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        text = log.read_text()
        port = re.search(r'"port":(\d+)', text)
        if port and '"event":"ready"' in text:
            return int(port[1])
        time.sleep(0.05)
    raise SystemExit(f"The server did not start:\n{log.read_text()[-3000:]}")


def routes_of(target: Target) -> list[tuple[str, str]]:
    """Return method and path of all routes: OpenAPI's, the application's, the access table's."""
    ask = Attempt("", "GET", "/openapi.json", own(target, "admin"))
    status, _, body = target.send(ask)
    if status != 200:
        raise SystemExit(f"/openapi.json answered {status}: {body!r}")
    found = {
        (method.upper(), path)
        for path, methods in json.loads(body)["paths"].items()
        for method in methods
        if method.upper() in METHODS
    }
    found |= {(rule.method, rule.path) for rule in RULES}
    with tempfile.TemporaryDirectory() as place:
        found |= applications(Path(place))
    return sorted({(method, re.sub(r"\{[^}]*\}", "x", path)) for method, path in found})


def applications(folder: Path) -> set[tuple[str, str]]:
    """Return method and path of the routes that the application itself knows."""
    from starlette.applications import Starlette
    from starlette.routing import Route

    from backprop.serve.app import create_app, open_services
    from backprop.serve.settings import Settings

    settings = Settings(data=folder)
    services = open_services(settings)
    friendly: Any = create_app(settings, services).app
    app = friendly.app
    assert isinstance(app, Starlette)
    routes = [route for route in app.routes if isinstance(route, Route)]
    if len(routes) != len(app.routes):
        raise SystemExit(f"There are routes this does not know: {app.routes}")
    services.hub.close()
    return {(method, route.path) for route in routes for method in route.methods or METHODS}


def refusals(
    target: Target, routes: list[tuple[str, str]], count: int, verbose: bool
) -> tuple[int, int]:
    """Send all that must be refused; return how many were allowed, of how many."""
    allowed, statuses = 0, Counter[tuple[str, int]]()
    for attempt in (each for _ in range(count) for each in attempts(target, routes)):
        status, headers, _ = target.send(attempt)
        statuses[attempt.kind, status] += 1
        is_refused = status >= 400 or (
            status == 303 and headers.get("location", "").startswith("/login")
        )
        if verbose or not is_refused or status >= 500:
            print(f"{status} {attempt.kind}: {attempt.method} {attempt.path}")
        allowed += not is_refused
    for kind in dict.fromkeys(kind for kind, _ in statuses):
        parts = sorted((status, n) for (own, status), n in statuses.items() if own == kind)
        print(f"{kind:<24}" + ", ".join(f"{n} x {status}" for status, n in parts))
    return allowed, sum(statuses.values())


def attempts(target: Target, routes: list[tuple[str, str]]) -> Iterator[Attempt]:
    """Yield every request that must be refused."""
    for method, path in routes:
        yield from forged(target, method, path)
        if method not in HARMLESS:
            yield from other_sites(target, method, path)
        if rule_of(method, path).scope != PUBLIC:
            yield from unauthorised(target, method, path)
    yield from around(target, sorted({path for _, path in routes}))


def unauthorised(target: Target, method: str, path: str) -> Iterator[Attempt]:
    """Yield requests of programs and browsers that have no right to this route."""
    for kind, headers, suffix in without_right(target, rule_of(method, path).scope):
        for extra in ([], [("accept", "text/html")]):
            yield Attempt(kind, method, path + suffix, headers + extra)
    if method not in HARMLESS:
        admin = target.keys["admin"]
        body = json.dumps({"api_key": admin, "key": admin}).encode()
        headers = [("host", target.host), ("content-type", "application/json")]
        yield Attempt("key in the wrong place", method, path, headers, body)


def around(target: Target, paths: list[str]) -> Iterator[Attempt]:
    """Yield methods that no route has, and paths that a router might tidy up."""
    plain = [("host", target.host)]
    for path in paths:
        for method in METHODS:
            if rule_of(method, path).scope != PUBLIC:
                yield Attempt("any method", method, path, plain)
        for other in (
            f"/{path}",
            f"{path}/",
            f"/static/..{path}",
            f"/livez/..{path}",
            f"{path}%2f",
        ):
            if rule_of("GET", other).scope != PUBLIC:
                yield Attempt("other spellings", "GET", other, plain)


def own(target: Target, key: str) -> Pairs:
    """Return the headers of a request with one of the keys."""
    return [("host", target.host), ("x-api-key", target.keys[key])]


def without_right(target: Target, scope: str) -> Iterator[tuple[str, Pairs, str]]:
    """Yield kind, headers and query of requests by those who may not."""
    host = ("host", target.host)
    keys = target.keys
    admin = keys["admin"]
    yield "no key", [host], ""
    yield "no key", [host, ("x-api-key", ""), ("authorization", "Bearer ")], ""
    for kind, name in (("wrong key", "altered"), ("wrong key", "unknown"), ("revoked key",) * 2):
        key = keys[name.partition(" ")[0]]
        yield kind, [host, ("x-api-key", key)], ""
        yield kind, [host, ("authorization", f"Bearer {key}")], ""
    for weaker in SCOPES[: SCOPES.index(scope)]:
        yield "wrong scope", own(target, weaker), ""
        yield "wrong scope", [host, ("authorization", f"Bearer {keys[weaker]}")], ""
    place = "key in the wrong place"
    for name in ("api_key", "key", "token", "x-api-key"):
        yield place, [host], f"?{name}={admin}"
    for name, value in (
        ("authorization", f"Basic {admin}"),
        ("authorization", admin.upper()),
        ("proxy-authorization", f"Bearer {admin}"),
        ("x-api-token", admin),
        ("cookie", f"backprop_session={admin}; x-api-key={admin}; key={admin}"),
        ("x-request-id", admin),
        ("user-agent", admin),
    ):
        yield place, [host, (name, value)], ""
    yield "twice", [host, ("x-api-key", admin), ("x-api-key", keys["altered"])], ""


def forged(target: Target, method: str, path: str) -> Iterator[Attempt]:
    """Yield requests with a good key that are meant for another server."""
    key = ("x-api-key", target.keys["admin"])
    port = target.port
    names = (EVIL, f"{EVIL}:{port}", f"127.0.0.1.{EVIL}", f"localhost.{EVIL}:{port}", "192.0.2.7")
    for name in (*names, "", "0.0.0.0", "127.0.0.1@evil.example", "localhost:x", "a" * 300):
        yield Attempt("forged Host", method, path, [("host", name), key])
        forwarded = [("x-forwarded-host", "localhost"), ("forwarded", "host=localhost")]
        yield Attempt("forged Host", method, path, [("host", name), key, *forwarded])
    yield Attempt("no Host", method, path, [key])
    two = [("host", target.host), ("host", EVIL)]
    for pairs in itertools.permutations(two):
        yield Attempt("two Hosts", method, path, [*pairs, key])


def other_sites(target: Target, method: str, path: str) -> Iterator[Attempt]:
    """Yield requests with a good key that a page of another site makes a browser send."""
    base = [*own(target, "admin"), ("content-type", "application/json")]
    for pair in (
        ("origin", f"http://{EVIL}"),
        ("origin", "null"),
        ("origin", "http://127.0.0.1:1"),
        ("origin", f"https://{target.host}.{EVIL}"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ):
        yield Attempt("another site", method, path, [*base, pair], b"{}")


def mistakes(target: Target, routes: list[tuple[str, str]]) -> int:
    """Send good keys as all sorts of values, so that messages might show them; return how many."""
    before = target.asked
    key = target.keys["infer"]
    for method, path in routes:
        if "x" in path.split("/"):
            target.send(Attempt("", method, path.replace("/x", f"/{key}"), own(target, "admin")))
        target.send(Attempt("", method, f"{path}?key={key}", [("host", target.host)]))
        browser = [("host", target.host), ("accept", "text/html")]
        target.send(Attempt("", method, f"{path}?key={key}", browser))
        if method in HARMLESS:
            continue
        values = {"model": key, "text": [key], "version": key, key: key, "question": {key: key}}
        bodies = (json.dumps(values), json.dumps({"model": key}), key, f'{{"{key}', f'["{key}"]')
        headers = [*own(target, "admin"), ("content-type", "application/json")]
        for body in bodies:
            target.send(Attempt("", method, path, headers, body.encode()))
        form = [("host", target.host), ("content-type", "application/x-www-form-urlencoded")]
        target.send(Attempt("", method, path, form, f"key={target.keys['altered']}".encode()))
    return target.asked - before


def leaks(target: Target) -> tuple[int, int]:
    """Return how many bytes of secrets are in what the server keeps and said, and of how many."""
    secrets = [key.rpartition("_")[2].encode() for key in target.keys.values()]
    windows = {
        secret[start : start + WINDOW]
        for secret in secrets
        for start in range(len(secret) - WINDOW + 1)
    }
    found = size = 0
    sources = [
        (str(path), path.read_bytes()) for path in target.folder.rglob("*") if path.is_file()
    ]
    for name, content in sources:
        size += len(content)
        hits = sum(content.count(window) for window in windows)
        if hits:
            print(f"{hits + WINDOW - 1} bytes of a key in {name}: {content[-400:]!r}")
            found += hits + WINDOW - 1
    return found, size


if __name__ == "__main__":
    sys.exit(main())
