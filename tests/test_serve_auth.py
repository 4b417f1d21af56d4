"""The door of the server: who is let in, to what, how often, with which body, and what is said."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, event
from starlette.applications import Starlette
from starlette.routing import Route

from backprop.errors import InputError
from backprop.serve import logs
from backprop.serve.access import PUBLIC, RULES, Rule, rule_of
from backprop.serve.app import create_app, open_services
from backprop.serve.auth import MAX_FORM_BYTES, Guard, Sessions, check_startup
from backprop.serve.hosts import Hosts
from backprop.serve.keys import SCOPES, Key, Keys
from backprop.serve.limits import MAX_BODY_BYTES
from backprop.serve.ratelimit import Buckets, network_of
from backprop.serve.sessions import LIFETIME_S
from backprop.serve.settings import Settings

Pairs = list[tuple[bytes, bytes]]
UNSET = "unset"


@dataclass
class Answer:
    """What came back, and what the app saw of the request."""

    status: int
    headers: dict[str, str]
    body: bytes
    seen: dict[str, Any] | None
    parts: int

    @property
    def message(self) -> str:
        found = json.loads(self.body)
        assert list(found) == ["message"]
        return str(found["message"])


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Read the whole body, remember the state, and answer 200."""
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            scope["seen"]["gone"] = True
            return
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    scope["seen"].update(scope["state"], size=size)
    await answer(send, 200, [(b"content-type", b"application/json")])


async def lost(scope: Any, receive: Any, send: Any) -> None:
    """Answer 404, as the server does where there is no route."""
    await answer(send, 404, [(b"content-type", b"application/json")])


async def answer(send: Any, status: int, headers: Pairs) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Door:
    """A guarded app, and a key of each scope."""

    guard: Guard
    keys: Keys
    clock: Clock
    given: dict[str, str] = field(default_factory=dict)

    def __call__(
        self,
        method: str = "GET",
        path: str = "/models",
        headers: Mapping[str, str] | None = None,
        *,
        key: str | None = None,
        host: str | None = "127.0.0.1:8000",
        body: bytes = b"",
        chunks: tuple[bytes, ...] | None = None,
        more: Pairs | None = None,
        client: str = "127.0.0.1",
        query: str = "",
    ) -> Answer:
        """Return the answer to a request; a ``key`` of SCOPES stands for the one made of it."""
        pairs = [(b"host", host.encode("latin-1"))] if host is not None else []
        if key is not None:
            pairs.append((b"x-api-key", self.given.get(key, key).encode()))
        if body:
            pairs.append((b"content-length", str(len(body)).encode()))
        if chunks is not None:
            pairs.append((b"transfer-encoding", b"chunked"))
        given = {
            **({"content-type": "application/json"} if body or chunks else {}),
            **(headers or {}),
        }
        pairs += [(n.encode(), v.encode("latin-1")) for n, v in given.items() if v != UNSET]
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": pairs + (more or []),
            "client": (client, 1),
            "scheme": "http",
            "seen": {},
        }
        return asyncio.run(call(self.guard, scope, chunks or (body,)))


async def call(app: Any, scope: dict[str, Any], chunks: tuple[bytes, ...]) -> Answer:
    left, sent = list(chunks), []

    async def receive() -> Any:
        if not left:
            return {"type": "http.disconnect"}
        part = left.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(left)}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    starts = [each for each in sent if each["type"] == "http.response.start"]
    assert len(starts) == 1, sent
    headers = [(name.decode(), value.decode("latin-1")) for name, value in starts[0]["headers"]]
    assert len({name for name, _ in headers}) == len(headers)
    body = b"".join(each.get("body", b"") for each in sent[1:])
    seen = scope["seen"] or None
    return Answer(starts[0]["status"], dict(headers), body, seen, len(chunks) - len(left))


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[Keys]:
    engine = create_engine(f"sqlite:///{tmp_path}/keys.db")
    # Hundreds of these databases are made, and none has to survive a power cut.
    event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA synchronous=OFF").close())
    keys = Keys(engine)
    yield keys
    keys.close()
    engine.dispose()


Make = Callable[..., Door]


@pytest.fixture
def make(keys: Keys) -> Make:
    """Make a door: ``make(app=..., with_keys=..., **settings)``."""

    def made(
        app: Callable[..., Awaitable[None]] = echo,
        *,
        with_keys: bool = True,
        failures: int = 1000,
        **values: Any,
    ) -> Door:
        given = {scope: keys.create(scope)[1] for scope in SCOPES} if with_keys else {}
        clock = Clock()
        guard = Guard(
            app,
            lost,
            keys=keys,
            settings=Settings(**values),
            sessions=Sessions(keys, clock=clock),
            failures_per_minute=failures,
            clock=clock,
        )
        return Door(guard, keys, clock, given)

    return made


@pytest.fixture
def door(make: Make) -> Door:
    return make()


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the server logs."""
    logger = logging.getLogger("backprop.serve")
    before = (logger.handlers[:], logger.level, logger.propagate)
    stream = io.StringIO()
    logs.setup(stream)
    yield stream
    logger.handlers[:], logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


def path_of(rule: Rule) -> str:
    return re.sub(r"\{\w+\}", "x", rule.path)


def the_rule(method: str, path: str) -> Rule:
    return next(rule for rule in RULES if (rule.method, rule.path) == (method, path))


# Scopes

LOCKED = [rule for rule in RULES if rule.scope != PUBLIC]
CONTRACT = {
    **{("GET", path): "infer" for path in ("/models", "/models/x", "/v1/models", "/openapi.json")},
    **{("POST", f"/v1/{name}"): "infer" for name in ("embeddings", "completions")},
    ("POST", "/v1/chat/completions"): "infer",
    ("POST", "/qa"): "infer",
    ("POST", "/image-text-vectorisation"): "infer",
    ("HEAD", "/blobs/x"): "write",
    ("PUT", "/blobs/x"): "write",
    ("GET", "/blobs/x"): "infer",
    ("POST", "/models/x/versions"): "write",
    ("GET", "/models/x/versions"): "infer",
    ("GET", "/models/x/versions/latest"): "infer",
    ("DELETE", "/models/x/versions/1"): "admin",
    ("DELETE", "/models/x"): "admin",
    ("PUT", "/models/x/aliases/y"): "write",
    ("DELETE", "/models/x/aliases/y"): "write",
    ("GET", "/metrics"): "admin",
    ("GET", "/"): "infer",
    ("GET", "/catalogue/x"): "infer",
    ("GET", "/livez"): PUBLIC,
    ("GET", "/readyz"): PUBLIC,
    ("GET", "/static/x.css"): PUBLIC,
    ("GET", "/login"): PUBLIC,
    ("HEAD", "/models"): "infer",
}


@pytest.mark.parametrize(("route", "scope"), CONTRACT.items(), ids=lambda each: str(each))
def test_each_route_has_the_scope_of_the_contract(route: tuple[str, str], scope: str) -> None:
    assert rule_of(*route).scope == scope


@pytest.mark.parametrize("rule", LOCKED, ids=lambda rule: f"{rule.method} {rule.path}")
def test_a_route_opens_to_its_scope_and_those_above_it(door: Door, rule: Rule) -> None:
    for scope in SCOPES:
        answer = door(rule.method, path_of(rule), key=scope)
        is_enough = SCOPES.index(scope) >= SCOPES.index(rule.scope)
        assert answer.status == (200 if is_enough else 403), scope
        assert (answer.seen is not None) is is_enough
    assert door(rule.method, path_of(rule)).status == 401


def test_only_these_routes_are_public() -> None:
    public = {(rule.method, rule.path) for rule in RULES if rule.scope == PUBLIC}
    assert public == {
        ("GET", "/livez"),
        ("GET", "/readyz"),
        ("GET", "/static/{file}"),
        ("GET", "/login"),
        ("POST", "/login"),
        ("POST", "/logout"),
    }


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.scope == PUBLIC], ids=str)
def test_a_public_route_needs_no_key_and_minds_no_wrong_one(door: Door, rule: Rule) -> None:
    for key in (None, "wrong", "infer"):
        assert door(rule.method, path_of(rule), key=key).status == 200


def test_every_route_of_the_server_has_a_rule(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    services = open_services(settings)
    friendly: Any = create_app(settings, services).app
    app = friendly.app
    assert isinstance(app, Starlette)
    for route in app.routes:
        assert isinstance(route, Route)
        shape = re.sub(r"\{[^}]*\}", "{}", route.path)
        for method in route.methods or ():
            found = rule_of(method, shape.replace("{}", "x"))
            assert re.sub(r"\{[^}]*\}", "{}", found.path) == shape
    services.hub.close()


UNLISTED = [
    *(("GET", path) for path in ("/nope", "/qa", "//models", "/models/", "/Models", "/models/x/y")),
    *(
        ("GET", path)
        for path in ("", "*", "/livez/", "/livez/x", "/static/a/b", "/static/", "/../")
    ),
    *(("POST", path) for path in ("/models", "/livez", "/", "/qa/", "/v1/embeddings/x")),
    *((method, "/models") for method in ("OPTIONS", "TRACE", "PATCH", "CONNECT", "get", "")),
    ("GET", "/" + "a/" * 5000),
    ("HEAD", "/nope"),
]


@pytest.mark.parametrize(("method", "path"), UNLISTED)
def test_only_administrators_reach_what_no_rule_lists(door: Door, method: str, path: str) -> None:
    assert door(method, path).status == 401
    refused = door(method, path, key="write")
    assert (refused.status, refused.seen) == (404, None)
    assert door(method, path, key="admin").status == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "told"),
    [
        ("POST", "/text-clasification", 404, "; did you mean /text-classification?"),
        ("POST", "/embeddings", 404, "; did you mean /v1/embeddings?"),
        ("POST", "/v1/text-classification", 404, "; did you mean /text-classification?"),
        ("GET", "/models/", 404, "; did you mean /models?"),
        ("GET", "/v1/", 404, "at this address; GET /openapi.json lists"),
        ("GET", "/v1/catalogue/" + "x" * 1000, 404, "at this address; GET /openapi.json lists"),
        ("GET", "/nothing/of/ours", 404, "at this address; GET /openapi.json lists"),
        ("GET", "/text-classification", 405, "This address takes POST."),
        ("POST", "/models/x", 405, "This address takes DELETE, GET, HEAD."),
    ],
)
def test_a_lost_request_is_shown_the_way(
    keys: Keys, tmp_path: Path, method: str, path: str, status: int, told: str
) -> None:
    settings = Settings(data=tmp_path)
    services = open_services(settings)
    guard = create_app(settings, services)
    try:
        door = Door(guard, keys, Clock())
        answers = [door(method, path)]  # without keys everything is open
        door.given = {each: services.keys.create(each)[1] for each in SCOPES}
        answers += [door(method, path, key=scope) for scope in SCOPES]
    finally:
        services.keys.close()
        services.hub.close()
    for answer in answers:
        assert answer.status == status
        assert told in json.loads(answer.body)["message"]


@given(
    st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"]),
    st.lists(st.sampled_from(["models", "static", "livez", "login", "x", "", "..", "versions"])),
)
@example("GET", ["static", ""])
def test_no_way_of_writing_a_path_makes_it_public(method: str, parts: list[str]) -> None:
    path = "/" + "/".join(parts)
    is_public = path in ("/livez", "/readyz", "/login", "/logout") or bool(
        re.fullmatch(r"/static/[^/]+", path)
    )
    if not is_public:
        assert rule_of(method, path).scope in SCOPES


# Keys


def test_a_key_is_taken_from_either_header(door: Door) -> None:
    infer = door.given["infer"]
    for headers in (
        {"x-api-key": infer},
        {"authorization": f"Bearer {infer}"},
        {"authorization": f"bearer  {infer} "},
        {"x-api-key": "", "authorization": f"Bearer {infer}"},
    ):
        answer = door(headers=headers)
        assert answer.status == 200
        assert answer.seen and answer.seen["key"] == door.keys.check(infer)
        assert answer.seen["open"] is False


def test_a_key_anywhere_else_is_none(door: Door) -> None:
    admin = door.given["admin"]
    assert door(query=f"api_key={admin}&key={admin}").status == 401
    assert door(path=f"/models/{admin}").status == 401
    for headers in (
        {"authorization": f"Basic {admin}"},
        {"authorization": f"Token {admin}"},
        {"x-api-token": admin},
        {"cookie": f"x-api-key={admin}"},
        {"cookie": f"backprop_session={admin}"},
        {"x-api-key": "wrong", "authorization": f"Bearer {admin}"},
    ):
        assert door(headers=headers).status == 401


def test_nobody_learns_why_a_key_does_not_hold(door: Door) -> None:
    key, presented = door.keys.create("infer")
    wrong = presented[:-1] + ("b" if presented[-1] == "a" else "a")
    unknown = f"bp_{'0' * 12}_{'a' * 43}"
    door.keys.revoke(key.id)
    answers = [door(key=each) for each in (presented, wrong, unknown, "nonsense", None)]
    assert {each.status for each in answers} == {401}
    assert len({each.body for each in answers}) == 1
    assert answers[0].headers["www-authenticate"].startswith("Bearer")
    assert "x-api-key" in answers[0].message


def test_a_wrong_scope_is_told_which_one_is_needed(door: Door) -> None:
    answer = door("GET", "/metrics", key="infer")
    assert answer.status == 403
    assert "admin" in answer.message and "infer" in answer.message


def test_a_key_that_is_revoked_is_refused_from_the_next_request_on(door: Door) -> None:
    key, presented = door.keys.create("infer")
    assert door(key=presented).status == 200
    door.keys.revoke(key.id)
    assert door(key=presented).status == 401


def test_the_way_back_after_logging_in_holds_no_key(door: Door) -> None:
    infer = door.given["infer"]
    answer = door("GET", "/catalogue", {"accept": "text/html"}, query=f"key={infer}")
    assert answer.status == 303 and infer.rpartition("_")[2] not in answer.headers["location"]


def test_a_browser_is_sent_to_log_in_and_back(door: Door) -> None:
    browser = {"accept": "text/html,*/*"}
    answer = door("GET", "/catalogue/a b", browser, query="q=1&r=é".encode().decode("latin-1"))
    assert answer.status == 303
    place = answer.headers["location"]
    assert place.startswith("/login?next=%2Fcatalogue%2Fa%20b%3Fq%3D1%26r") and place.isascii()
    assert door("GET", "/", browser).headers["location"] == "/login"
    assert door("GET", "/catalogue/" + "a" * 5000, browser).headers["location"] == "/login"
    # But not a program, an API route, or someone with a key that does not hold.
    assert door("GET", "/").status == 401
    assert door("GET", "/models", browser).status == 401
    assert door("GET", "/", browser, key="wrong").status == 401


# Without any key


def test_before_there_is_a_key_all_is_open_on_loopback(make: Make) -> None:
    door = make(with_keys=False)
    for rule in RULES:
        answer = door(rule.method, path_of(rule))
        assert answer.status == 200
        assert answer.seen and answer.seen["key"] is None
        assert answer.seen["open"] is (rule.scope != PUBLIC)
    assert door("GET", "/nope", {"authorization": "Bearer anything"}).status == 200


def test_the_first_key_closes_the_door_even_once_revoked(make: Make) -> None:
    door = make(with_keys=False)
    assert door().status == 200
    key, _ = door.keys.create("admin")
    assert door().status == 401
    door.keys.revoke(key.id)
    assert door().status == 401


def test_beyond_loopback_nothing_is_ever_open(make: Make) -> None:
    assert make(with_keys=False, host="192.0.2.7")(host="192.0.2.7:8000").status == 401
    everywhere = make(with_keys=False, host="0.0.0.0")
    assert everywhere(host="localhost:8000").status == 401
    assert everywhere(host="192.0.2.7").status == 401


def test_a_name_of_a_proxy_is_never_open(make: Make) -> None:
    door = make(with_keys=False, hosts=("models.example.com",))
    assert door(host="models.example.com").status == 401
    assert door(host="localhost").status == 200


@pytest.mark.parametrize("header", ["forwarded", "x-forwarded-for", "x-real-ip"])
def test_what_a_proxy_passes_on_is_never_open(make: Make, header: str) -> None:
    assert make(with_keys=False)(headers={header: "for=192.0.2.9"}).status == 401


def test_a_server_whose_keys_are_all_revoked_says_so(
    keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    for key in [keys.create("infer")[0] for _ in range(2)]:
        check_startup(Settings(), keys)
        assert not caplog.records
        keys.revoke(key.id)
    check_startup(Settings(), keys)
    assert "every key is revoked" in caplog.text


def test_a_server_that_others_reach_does_not_start_without_a_key(keys: Keys) -> None:
    check_startup(Settings(), keys)
    check_startup(Settings(host="::1", hosts=("localhost",)), keys)
    for settings in (
        Settings(host="0.0.0.0"),
        Settings(host="::"),
        Settings(host=""),
        Settings(host="models.example.com"),
        Settings(hosts=("models.example.com",)),
    ):
        with pytest.raises(InputError, match="backprop keys create --scope admin"):
            check_startup(settings, keys)
    keys.create("infer")
    check_startup(Settings(host="0.0.0.0"), keys)


# Hosts

FORGED = [
    *("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example"),
    *("", " ", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:99999", "127.0.0.1 ", "a@127.0.0.1"),
    *("127.0.0.1:80:80", "http://127.0.0.1", "127.0.0.1/x", "localhost,evil", "local\xe9", "."),
    *("192.0.2.7", "0.0.0.0", "[::2]", "[::1", "::1", "localhost.", "-a", "a" * 300, "127.1"),
]


@pytest.mark.parametrize("host", FORGED)
def test_a_forged_host_is_refused(door: Door, host: str) -> None:
    for path in ("/models", "/livez", "/login"):
        answer = door(path=path, host=host, key="admin")
        assert (answer.status, answer.seen) == (400, None)
        assert "Host" in answer.message and (len(host) < 3 or host not in answer.message)


@pytest.mark.parametrize("host", FORGED)
def test_a_forged_host_is_refused_where_all_is_open(make: Make, host: str) -> None:
    assert make(with_keys=False)(host=host).status == 400


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1:8000", "[::1]:8000", "[0:0::1]"]
)
def test_loopback_names_are_taken_on_loopback(door: Door, host: str) -> None:
    assert door(host=host, key="infer").status == 200


def test_exactly_one_host_is_taken(door: Door) -> None:
    assert door(host=None, key="infer").status == 400
    assert door(key="infer", more=[(b"host", b"127.0.0.1:8000")]).status == 400


@pytest.mark.parametrize(
    ("settings", "host", "is_taken"),
    [
        (Settings(host="192.0.2.7"), "192.0.2.7:1", True),
        (Settings(host="192.0.2.7"), "localhost", False),
        (Settings(host="192.0.2.7"), "192.0.2.8", False),
        (Settings(host="2001:db8::7"), "[2001:DB8:0::7]:80", True),
        (Settings(host="0.0.0.0"), "192.0.2.8", True),
        (Settings(host="0.0.0.0"), "localhost:8000", True),
        (Settings(host="0.0.0.0"), "evil.example", False),
        (Settings(host="::"), "[2001:db8::7]", True),
        (Settings(host="box"), "box", True),
        (Settings(hosts=("Models.example.com",)), "models.example.com:443", True),
        (Settings(hosts=("models.example.com",)), "127.0.0.1", True),
        (Settings(hosts=("example.com",)), "models.example.com", False),
    ],
)
def test_a_server_goes_by_its_address_and_its_names(
    settings: Settings, host: str, is_taken: bool
) -> None:
    assert Hosts(settings).allows(host.encode()) is is_taken


def test_hosts_are_remembered_in_bounded_memory() -> None:
    hosts = Hosts(Settings())
    assert not hosts.allows(b"a" * 10_000)
    assert hosts._remembered.cache_info().currsize == 0
    for number in range(1000):
        hosts.allows(str(number).encode())
    assert hosts._remembered.cache_info().currsize <= 256


@given(st.binary(max_size=60))
def test_no_host_breaks_the_check(host: bytes) -> None:
    Hosts(Settings(host="0.0.0.0")).allows(host)


# Other sites

SAME = {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "Cross-Site"},
        {"origin": "https://evil.example"},
        {"origin": "http://127.0.0.1:9000"},
        {"origin": "http://localhost:8000"},
        {"origin": "http://127.0.0.1:8000.evil.example"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "file://"},
        {"origin": "127.0.0.1:8000"},
        {**SAME, "sec-fetch-site": "cross-site"},
        {**SAME, "origin": "https://evil.example"},
    ],
    ids=str,
)
@pytest.mark.parametrize("with_keys", [True, False])
def test_another_sites_page_may_change_nothing(
    make: Make, headers: dict[str, str], with_keys: bool
) -> None:
    door = make(with_keys=with_keys)
    key = "admin" if with_keys else None
    for method, path in (
        ("POST", "/qa"),
        ("DELETE", "/models/x"),
        ("POST", "/login"),
        ("PUT", "/z"),
    ):
        answer = door(method, path, headers, key=key)
        assert (answer.status, answer.seen) == (403, None)
        assert "other sites" in answer.message
    assert door("GET", "/models", headers, key=key).status == 200


@pytest.mark.parametrize("site", ["same-origin", "none", None])
def test_the_servers_own_page_and_programs_may(door: Door, site: str | None) -> None:
    headers = {"sec-fetch-site": site} if site else {}
    assert door("POST", "/qa", headers, key="infer", body=b"{}").status == 200
    own = {**headers, "origin": "http://127.0.0.1:8000"}
    assert door("POST", "/qa", own, key="infer", body=b"{}").status == 200


def test_a_default_port_may_be_left_out(make: Make) -> None:
    door = make(hosts=("models.example.com",))
    for host, origin in (
        ("models.example.com", "https://models.example.com"),
        ("models.example.com:443", "https://models.example.com"),
        ("models.example.com", "http://models.example.com:80"),
    ):
        headers = {"origin": origin}
        assert door("POST", "/qa", headers, host=host, key="infer").status == 200


def test_a_header_that_decides_may_not_come_twice(door: Door) -> None:
    for name, value in (
        ("origin", "http://127.0.0.1:8000"),
        ("x-api-key", door.given["admin"]),
        ("authorization", "Bearer x"),
        ("content-type", "application/json"),
        ("content-length", "2"),
        ("sec-fetch-site", "none"),
    ):
        pair = (name.encode(), value.encode())
        answer = door("POST", "/qa", more=[pair, pair])
        assert answer.status == 400 and name in answer.message


# Bodies


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/jsonx", 415),
        ("text/plain; application/json", 415),
        ("", 415),
        (UNSET, 415),
    ],
)
def test_only_json_is_taken(door: Door, kind: str, status: int) -> None:
    headers = {"content-type": kind}
    for method, path in (("POST", "/qa"), ("PUT", "/models/x/aliases/y")):
        assert door(method, path, headers, key="write", body=b"{}").status == status
        assert door(method, path, headers, key="write", chunks=(b"{}",)).status == status
    assert door("POST", "/qa", headers, key="infer").status == 200  # there is no body


def test_files_and_the_log_in_are_no_json(door: Door) -> None:
    for kind in ("application/octet-stream", UNSET):
        headers = {"content-type": kind}
        assert door("PUT", "/blobs/x", headers, key="write", body=b"abc").status == 200
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert door("POST", "/login", form, body=b"key=x").status == 200


LIMITS = (
    ("POST", "/qa", MAX_BODY_BYTES),
    ("PUT", "/blobs/x", 1000),
    ("POST", "/login", MAX_FORM_BYTES),
    ("GET", "/models", MAX_BODY_BYTES),
    ("POST", "/nope", MAX_BODY_BYTES),
)


@pytest.mark.parametrize(("method", "path", "limit"), LIMITS)
def test_a_body_that_says_it_is_too_large_is_not_read(
    make: Make, method: str, path: str, limit: int
) -> None:
    door = make(upload_bytes=1000)
    kind = {"content-type": "application/json"}
    size = [(b"content-length", str(limit + 1).encode())]
    answer = door(method, path, kind, key="admin", more=size)
    assert (answer.status, answer.seen, answer.parts) == (413, None, 0)
    assert f"{limit:,}" in answer.message
    fits = [(b"content-length", str(limit).encode())]
    assert door(method, path, kind, key="admin", more=fits).status == 200


@pytest.mark.parametrize(("method", "path", "limit"), LIMITS)
def test_a_body_is_cut_off_where_it_becomes_too_large(
    make: Make, method: str, path: str, limit: int
) -> None:
    door = make(upload_bytes=1000)
    half = bytes(limit // 2)
    assert door(method, path, key="admin", chunks=(half, half)).status == 200
    answer = door(method, path, key="admin", chunks=(half, half, b"..", half, half))
    assert answer.status == 413 and answer.seen == {"gone": True}
    assert f"{limit:,}" in answer.message
    assert answer.parts == 3


def test_what_the_app_says_after_a_body_was_cut_off_is_dropped(make: Make) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        assert (await receive())["type"] == "http.disconnect"
        await answer(send, 200, [])

    found = make(app, upload_bytes=3)("PUT", "/blobs/x", key="write", chunks=(b"ab", b"cd", b"e"))
    assert (found.status, found.parts) == (413, 2)


def test_nobody_reads_a_body_without_a_key(door: Door) -> None:
    answer = door("PUT", "/blobs/x", chunks=(b"a", b"b"))
    assert (answer.status, answer.parts) == (401, 0)


@pytest.mark.parametrize("length", ["-1", "1e3", "0x10", " ", "", "9" * 40, "²"])
def test_a_length_that_is_no_number_is_refused(door: Door, length: str) -> None:
    pair = (b"content-length", length.encode("latin-1"))
    assert door("POST", "/qa", key="infer", more=[pair]).status == 400


def test_two_ways_to_tell_where_a_body_ends_are_refused(door: Door) -> None:
    pair = (b"content-length", b"2")
    assert door("POST", "/qa", key="infer", chunks=(b"{}",), more=[pair]).status == 400


# How often


def test_a_key_may_ask_so_often_a_minute(make: Make) -> None:
    door = make(rate_per_minute=3)
    for _ in range(3):
        assert door(key="infer").status == 200
    answer = door(key="infer")
    assert (answer.status, answer.seen) == (429, None)
    assert answer.headers["retry-after"] == "20" and "20 s" in answer.message
    assert door(key="write").status == 200
    door.clock.now += 19
    assert door(key="infer").status == 429
    door.clock.now += 2
    assert door(key="infer").status == 200


def test_a_rate_of_zero_is_any_number(door: Door) -> None:
    assert {door(key="infer").status for _ in range(200)} == {200}


def test_wrong_keys_are_slowed_down_by_client(make: Make) -> None:
    door = make(failures=2)
    for _ in range(2):
        assert door(key="wrong").status == 401
    answer = door(key="wrong")
    assert answer.status == 429 and answer.headers["retry-after"] == "30"
    # Others behind the same address are not locked out with it.
    assert door(key="infer").status == 200
    assert door().status == 401
    assert door(key="wrong", client="192.0.2.9").status == 401
    door.clock.now += 31
    assert door(key="wrong").status == 401


def test_wrong_keys_in_the_web_page_are_slowed_down_too(make: Make) -> None:
    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, 401, [])

    door = make(refuse, failures=2)
    assert [door("POST", "/login").status for _ in range(3)] == [401, 401, 429]
    assert door("POST", "/login", client="192.0.2.9").status == 401


def test_a_bucket_fills_evenly_and_no_further() -> None:
    clock = Clock()
    buckets = Buckets(60, clock=clock)
    assert [buckets.take("a") for _ in range(61)] == [0] * 60 + [1]
    clock.now += 10_000
    assert [buckets.take("a") for _ in range(61)] == [0] * 60 + [1]
    assert buckets.wait("a") == 1 and buckets.wait("b") == 0
    clock.now += 1
    assert buckets.wait("a") == 0 and buckets.take("a") == 0


def test_the_memory_of_buckets_is_bounded_and_keeps_those_in_use() -> None:
    buckets = Buckets(1, most=100)
    buckets.take("busy")
    for number in range(1000):
        buckets.take(str(number))
        assert buckets.take("busy") > 0
    assert len(buckets) == 100


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.9", "192.0.2.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.9", "192.0.2.9"),
        ("x" * 1000, "x" * 64),
    ],
)
def test_a_client_is_counted_by_the_network_it_has(address: str, network: str) -> None:
    assert network_of(address) == network


# Sessions of the web page


def cookie_of(header: str) -> str:
    return header.partition(";")[0]


def key_of(door: Door, scope: str) -> Key:
    key = door.keys.check(door.given[scope])
    assert key is not None
    return key


def test_a_session_stands_for_its_key(door: Door) -> None:
    header = door.guard.sessions.open(key_of(door, "infer"), secure=False)
    cookies = {"cookie": f"a=b; {cookie_of(header)}; c=d"}
    answer = door("GET", "/", cookies)
    assert answer.status == 200
    assert answer.seen and answer.seen["key"] == key_of(door, "infer")
    assert door("GET", "/metrics", cookies).status == 403
    login = door("GET", "/login", cookies)
    assert login.seen and login.seen["key"] == key_of(door, "infer")
    assert door("POST", "/qa", {**cookies, **SAME}, body=b"{}").status == 200
    assert door("POST", "/qa", {**cookies, "origin": "https://evil.example"}).status == 403
    assert door("GET", "/", cookies, key="wrong").status == 401


def test_a_cookie_is_kept_from_scripts_other_sites_and_plain_http(door: Door) -> None:
    key = key_of(door, "infer")
    plain, secure = (door.guard.sessions.open(key, secure=each) for each in (False, True))
    for part in ("HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"):
        assert f"; {part}" in plain and f"; {part}" in secure
    assert "Secure" not in plain and secure.endswith("; Secure")
    assert len({cookie_of(plain), cookie_of(secure)}) == 2
    assert len(cookie_of(plain).partition("=")[2]) >= 43


def test_a_session_ends_with_its_key_its_time_and_its_log_out(door: Door) -> None:
    sessions = door.guard.sessions

    def status(header: str) -> int:
        return door("GET", "/", {"cookie": cookie_of(header)}).status

    key, _ = door.keys.create("infer")
    first, second = sessions.open(key, secure=False), sessions.open(key, secure=False)
    assert status(first) == status(second) == 200
    removal = sessions.close({"cookie": cookie_of(first)})
    assert "Max-Age=0" in removal and cookie_of(removal).endswith("=")
    assert (status(first), status(second)) == (401, 200)
    door.clock.now += LIFETIME_S - 1
    assert status(second) == 200
    door.clock.now += 2
    assert status(second) == 401
    third = sessions.open(key, secure=False)
    assert status(third) == 200
    door.keys.revoke(key.id)
    assert status(third) == 401
    assert len(sessions) == 0


def test_the_number_of_sessions_is_bounded(door: Door) -> None:
    sessions = Sessions(door.keys, most=5)
    key = key_of(door, "infer")
    headers = [sessions.open(key, secure=False) for _ in range(20)]
    assert len(sessions) == 5
    assert sessions.key_of(cookie_of(headers[0])) is None
    assert sessions.key_of(cookie_of(headers[-1])) == key


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text())
def test_no_other_cookie_is_a_session(keys: Keys, cookies: str) -> None:
    sessions = Sessions(keys)
    assert sessions.key_of(cookies) is None
    assert sessions.key_of(f"backprop_session={cookies}") is None
    sessions.close({"cookie": cookies})


# What is on every answer


def asked_in_every_way(door: Door) -> Iterator[Answer]:
    yield door("GET", "/livez")
    yield door(key="infer")
    yield door()
    yield door("GET", "/metrics", key="infer")
    yield door(host="evil.example")
    yield door("POST", "/qa", {"origin": "null"})
    yield door("POST", "/qa", {"content-type": "text/plain"}, key="infer", body=b"x")
    yield door("GET", "/", {"accept": "text/html"})


def test_every_answer_has_the_headers_that_browsers_heed(door: Door) -> None:
    answers = list(asked_in_every_way(door))
    assert [each.status for each in answers] == [200, 200, 401, 403, 400, 403, 415, 303]
    for each in answers:
        assert each.headers["x-content-type-options"] == "nosniff"
        assert each.headers["x-frame-options"] == "DENY"
        assert each.headers["referrer-policy"] == "no-referrer"
        assert each.headers["cache-control"] == "no-store"
        assert re.fullmatch("[0-9a-f]{16}", each.headers["x-request-id"])
    for each in answers[2:]:
        assert each.headers["content-type"] == "application/json"
        assert each.headers["content-length"] == str(len(each.body))
        assert each.message


def sender(headers: Pairs) -> Callable[..., Awaitable[None]]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, 200, headers)

    return app


def test_a_page_has_a_policy_and_keeps_its_own(make: Make) -> None:
    html, svg = (b"content-type", b"text/html; charset=utf-8"), (b"content-type", b"image/svg+xml")
    assert (
        make(sender([html]))("GET", "/", key="infer")
        .headers["content-security-policy"]
        .startswith("default-src 'self'")
    )
    policy = make(sender([svg]))("GET", "/", key="infer").headers["content-security-policy"]
    assert "default-src 'none'" in policy and "sandbox" in policy
    own = [html, (b"content-security-policy", b"x"), (b"referrer-policy", b"same-origin")]
    headers = make(sender([*own, (b"cache-control", b"max-age=9")]))(
        "GET", "/", key="infer"
    ).headers
    assert headers["content-security-policy"] == "x"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cache-control"] == "max-age=9"


@pytest.mark.parametrize(
    ("given", "is_kept"),
    [
        ("abc-123", True),
        ("a" * 64, True),
        ("a" * 65, False),
        ("", False),
        ("a b", False),
        ("a\n", False),
        ("é", False),
        ('"}', False),
    ],
)
def test_a_sane_request_id_is_kept(door: Door, given: str, is_kept: bool) -> None:
    answer = door(headers={"x-request-id": given}, key="infer")
    assert (answer.headers["x-request-id"] == given) is is_kept
    assert answer.seen and answer.seen["request_id"] == answer.headers["x-request-id"]


def test_connections_close_once_the_server_does(door: Door) -> None:
    assert "connection" not in door(key="infer").headers
    door.guard.closing = True
    assert door(key="infer").headers["connection"] == "close"
    assert door().headers["connection"] == "close"


def test_an_error_quotes_no_key(make: Make) -> None:
    presented = f"bp_{'0' * 12}_{'aB3' * 14}z"

    async def quote(scope: Any, receive: Any, send: Any) -> None:
        body = f"There is no model {presented!r}, {presented}{presented}.".encode()
        headers = [(b"content-length", str(len(body)).encode())]
        status = 404 if scope["path"] == "/models" else 200
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    door = make(quote)
    answer = door(key="infer")
    assert b"aB3" not in answer.body and b"bp_000000000000_*" in answer.body
    assert answer.headers["content-length"] == str(len(answer.body))
    # What is no error may be a text of the user's.
    assert presented.encode() in door(path="/v1/models", key="infer").body


# When the app fails


def test_an_error_that_nobody_expected_is_told_to_the_log_only(
    make: Make, log: io.StringIO
) -> None:
    async def fail(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError(f"no such file /secret/{scope['state']['key'].id}")

    door = make(fail)
    answer = door(key="infer")
    assert answer.status == 500
    assert "secret" not in answer.message and "Runtime" not in answer.message
    failed, request = map(json.loads, log.getvalue().splitlines())
    assert failed["error"] == "RuntimeError" and "/secret/" in failed["traceback"]
    assert failed["request_id"] == request["request_id"] == answer.headers["x-request-id"]
    assert request["status"] == 500
    assert door.guard.running == 0


def test_an_error_after_the_answer_is_the_apps_own(make: Make, log: io.StringIO) -> None:
    async def late(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, 503, [])
        raise RuntimeError

    assert make(late)(key="infer").status == 503
    assert len(log.getvalue().splitlines()) == 1


def test_it_counts_what_runs(make: Make) -> None:
    counts = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        counts.append(made.guard.running)
        await answer(send, 200, [])

    made = make(app)
    made.clock.now += 5
    made(key="infer")
    assert counts == [1] and made.guard.running == 0
    assert made.guard.last_request == made.clock.now


def test_a_request_that_is_cancelled_is_logged_and_counted(make: Make, log: io.StringIO) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise asyncio.CancelledError

    door = make(app)
    with pytest.raises(asyncio.CancelledError):
        door(key="infer")
    assert json.loads(log.getvalue())["status"] == 499
    assert door.guard.running == 0


def test_web_sockets_are_refused_and_start_and_stop_pass(make: Make) -> None:
    kinds, sent = [], []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        kinds.append(scope["type"])

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError

    guard = make(app).guard
    asyncio.run(guard({"type": "websocket", "path": "/", "headers": []}, receive, send))
    assert not kinds and [each["type"] for each in sent] == ["websocket.close"]
    asyncio.run(guard({"type": "lifespan"}, receive, send))
    assert kinds == ["lifespan"]


# The log


def test_a_request_is_logged_with_its_template_and_its_keys_id(
    make: Make, log: io.StringIO
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["state"]["facts"] = {"model": "m", "rows": 2}
        await answer(send, 201, [])

    door = make(app)
    door("GET", "/models/some-name", key="infer", query="q=1")
    line = json.loads(log.getvalue())
    key = door.keys.check(door.given["infer"])
    assert key and line["key"] == key.id
    assert (line["method"], line["path"], line["status"]) == ("GET", "/models/{name}", 201)
    assert (line["model"], line["rows"]) == ("m", 2)
    assert line["ms"] >= 0 and "client" not in line


def test_nothing_a_client_sends_reaches_the_log_as_it_is(door: Door, log: io.StringIO) -> None:
    nasty = '\n{"status":200}\x1b[0m\u202e'
    door("GET" + nasty, "/" + nasty, {"x-request-id": "a b", "user-agent": "x"}, query="q=1")
    door("GET", f"/models/{door.given['admin']}", key=door.given["admin"] + "x")
    lines = log.getvalue().splitlines()
    assert len(lines) == 2 and all(line.isascii() and line.isprintable() for line in lines)
    assert json.loads(lines[0])["path"] == "(other)"
    assert json.loads(lines[1])["client"] == "127.0.0.1"
    assert door.given["admin"].rpartition("_")[2] not in log.getvalue()


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(
    st.text(max_size=10),
    st.text(max_size=30),
    st.dictionaries(
        st.sampled_from(
            ["x-api-key", "authorization", "origin", "cookie", "accept", "content-type"]
            + ["content-length", "x-request-id", "sec-fetch-site", "transfer-encoding"]
        ),
        st.text(alphabet=st.characters(max_codepoint=255), max_size=30),
    ),
)
def test_no_request_gets_in_or_breaks_the_door(
    keys: Keys, method: str, path: str, headers: dict[str, str]
) -> None:
    if not keys.any():
        keys.create("admin")
    guard = Guard(echo, lost, keys=keys, settings=Settings(), failures_per_minute=10**6)
    answer = Door(guard, keys, Clock())(method, f"/{path}", headers)
    assert answer.status in (303, 400, 401, 403, 413) and answer.seen is None
