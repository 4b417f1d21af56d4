"""The web pages without a browser: what is shown, what is escaped, where forms lead."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from backprop.errors import InputError, NotFoundError
from backprop.serve.settings import Settings
from backprop.serve.web import FriendlyErrors, cards, routes
from backprop.serve.web.charts import Series, bars, lines
from backprop.serve.web.examples import example
from backprop.serve.web.filters import Filter, choices
from backprop.serve.web.logging_in import inside
from backprop.serve.web.reports import read
from backprop.serve.web.snippets import snippets
from backprop.serve.web.terrain import descent, terrain
from backprop.specs import SPECS

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


def model(name: str, **facts: Any) -> dict[str, Any]:
    return {
        "name": name,
        "tasks": ["qa"],
        "description": "",
        "source": "catalogue",
        "licence": "MIT",
        "languages": ["en"],
        "size": "starter",
        "parameters": 22_700_000,
        "default_for": [],
        "versions": [],
        "latest": None,
        "aliases": {},
        "loaded": False,
        **facts,
    }


MODELS = [
    model("minilm-qa", default_for=["qa"], loaded=True, description="Points at answers"),
    model("writer", tasks=["text-generation"], size="large", licence="Apache-2.0"),
    model("polyglot", tasks=["text-vectorisation"], languages=["multilingual"], size="base"),
    model(
        "mail-desk",
        tasks=["text-classification"],
        source="hub",
        size="",
        licence="",
        languages=[],
        parameters=0,
        versions=[1, 2],
        latest=2,
        aliases={"stable": 2},
        description=HOSTILE,
    ),
]

REPORT = {
    "task": "text-classification",
    "model": "all-minilm-l6-v2",
    "method": "full",
    "rows": {"train": 40, "validation": 8},
    "history": [
        {"number": 1, "loss": 1.2, "metrics": {"loss": 1.0, "accuracy": 0.5}},
        {"number": 2, "loss": 0.6, "metrics": {"loss": 0.8, "accuracy": 0.75}},
    ],
    "best_epoch": 2,
    "metrics": {"loss": 0.8, "accuracy": 0.75},
    "main": "accuracy",
    "labels": [HOSTILE, "payment"],
    "per_class": {HOSTILE: {"f1": 0.5, "support": 4}, "payment": {"f1": 1.0, "support": 4}},
    "confusion": [[2, 2], [0, 4]],
    "seconds": 12.5,
}


@dataclass
class Version:
    number: int
    meta: dict[str, Any] = field(default_factory=lambda: {"report": REPORT})
    card: str = f"# mail-desk\n\n{HOSTILE}\n\n[go](javascript:alert(1)) [web](https://example.org)"
    description: str = HOSTILE
    created: datetime = datetime(2026, 11, 1, 9, 30, tzinfo=timezone.utc)
    files: dict[str, Any] = field(default_factory=lambda: {"model.safetensors": {}})


class StandIn:
    """What is served, hub, keys and sessions at once."""

    settings = Settings()

    def __init__(self) -> None:
        self.registry = self.hub = self.keys = self.sessions = self
        self.has_keys = True

    def models(self) -> list[dict[str, Any]]:
        return MODELS

    def model(self, name: str) -> dict[str, Any]:
        for each in MODELS:
            if each["name"] == name:
                return {**each, "card": ""}
        raise NotFoundError(f"There is no model {name!r}.")

    def stats(self) -> dict[str, Any]:
        return {"models": [], "rss_bytes": 80 << 20, "uptime_s": 5.0, "requests_per_s": 0.0}

    def version(self, name: str, ref: str = "latest") -> Version:
        if ref == "!":
            raise InputError("A version is a number.")
        return Version(2 if ref == "latest" else int(ref))

    def any(self) -> bool:
        return self.has_keys

    def check(self, presented: str | None) -> object:
        return object() if presented == "bp_right_key" else None

    def open(self, key: object, *, secure: bool) -> str:
        return "backprop_session=token; HttpOnly"

    def close(self, headers: object) -> str:
        return "backprop_session=; Max-Age=0"


@pytest.fixture
def stand_in() -> StandIn:
    return StandIn()


@pytest.fixture
def client(stand_in: StandIn) -> TestClient:
    app = Starlette(routes=list(routes(stand_in)))  # type: ignore[arg-type]
    return TestClient(app, base_url="http://localhost:8000", follow_redirects=False)


PAGES = ("/", "/catalogue/mail-desk", "/live", "/login", *(f"/try/{task}" for task in SPECS))


@pytest.mark.parametrize("path", PAGES)
def test_a_page_has_a_strict_policy_and_nothing_inline(client: TestClient, path: str) -> None:
    page = client.get(path)
    assert page.status_code == 200
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    assert "unsafe" not in page.headers["content-security-policy"]
    text = page.text.lower()
    assert " style=" not in text and "<style" not in text
    assert text.count("<script") == text.count("<script src=") + text.count('<script type="module"')
    assert all(f" on{event}=" not in text.replace(HOSTILE, "") for event in ("click", "load"))


@pytest.mark.parametrize("path", PAGES)
def test_what_others_wrote_stays_text(client: TestClient, path: str) -> None:
    text = client.get(path).text
    assert "<script>alert" not in text
    assert "<img" not in text


def test_the_catalogue_is_searched_and_filtered_by_its_address(client: TestClient) -> None:
    def found(query: str) -> list[str]:
        text = client.get(f"/?{query}").text
        return [each["name"] for each in MODELS if f'href="/catalogue/{each["name"]}"' in text]

    assert found("") == ["minilm-qa", "writer", "polyglot", "mail-desk"]
    assert found("q=POINTS+qa") == ["minilm-qa"]
    assert found("task=text-generation") == ["writer"]
    assert found("language=en") == ["minilm-qa", "writer", "polyglot"]
    assert found("language=fr") == ["polyglot"]
    assert found("size=uploaded") == ["mail-desk"]
    assert found("licence=apache-2.0") == ["writer"]
    assert found("task=qa&size=large") == []
    assert found("unknown=1&task=") == ["minilm-qa", "writer", "polyglot", "mail-desk"]


def test_choices_are_what_some_model_has() -> None:
    found = choices(MODELS)
    assert found.languages == ["en"]
    assert found.sizes == ["starter", "base", "large", "uploaded"]
    assert found.licences == ["Apache-2.0", "MIT"]


def test_a_search_is_cut_before_it_is_read() -> None:
    assert len(Filter.of({"q": "x" * 10_000}).q) == 200


def test_a_models_page_plots_its_report(client: TestClient) -> None:
    text = client.get("/catalogue/mail-desk").text
    assert 'aria-label="Loss: training from 1.2 to 0.6; validation from 1 to 0.8"' in text
    assert "0.750" in text and "40 train + 8 validation" in text
    assert '<td class="heat-10">4</td>' in text


@pytest.mark.parametrize("path", ["/catalogue/nobody", "/catalogue/mail-desk?version=!", "/try/x"])
def test_what_is_not_there_is_a_friendly_page(client: TestClient, path: str) -> None:
    page = client.get(path)
    assert page.status_code == 404
    assert "Nothing on the map here" in page.text


def test_static_files_are_a_fixed_set(client: TestClient) -> None:
    first = client.get("/static/base.css")
    assert first.headers["content-type"].startswith("text/css")
    again = client.get("/static/base.css", headers={"if-none-match": first.headers["etag"]})
    assert again.status_code == 304
    for name in ("..%2fpages.py", "pages.py", "%2e%2e", "mail.csv", "nothing.css"):
        assert client.get(f"/static/{name}").status_code == 404


# --- Logging in --------------------------------------------------------------------------


def test_a_right_key_begins_a_session_and_leads_on(client: TestClient) -> None:
    answer = client.post("/login", data={"key": " bp_right_key ", "next": "/live?x=1"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/live?x=1")
    assert answer.headers["set-cookie"].startswith("backprop_session=token")


def test_a_wrong_key_says_so_and_is_not_shown_again(client: TestClient) -> None:
    answer = client.post("/login", data={"key": "bp_wrong_secret", "next": "/live"})
    assert answer.status_code == 401
    assert "not a key of this server" in answer.text
    assert "bp_wrong_secret" not in answer.text
    assert 'value="/live"' in answer.text


@pytest.mark.parametrize(
    "content",
    [b"", b"key", b"\xff\xfe", b"key=%FF", b"&".join([b"a=1"] * 9), b"key=" + b"x" * 9000],
)
def test_a_form_of_another_kind_is_refused(client: TestClient, content: bytes) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert client.post("/login", content=content, headers=headers).status_code in (401, 413)


@pytest.mark.parametrize(
    "address",
    [
        *("https://evil.example", "//evil.example", "/\\evil.example", "\\\\evil.example"),
        *("/\t/evil.example", "javascript:alert(1)", "", "evil", "/\n/evil.example", "///evil"),
    ],
)
def test_nobody_is_led_to_another_site(address: str) -> None:
    assert inside(address) == "/"


def test_logging_out_takes_the_cookie_back(client: TestClient) -> None:
    answer = client.post("/logout")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert "Max-Age=0" in answer.headers["set-cookie"]


def test_an_open_server_has_nothing_to_log_in_to(client: TestClient, stand_in: StandIn) -> None:
    stand_in.has_keys = False
    assert "has no keys" in client.get("/login").text


# --- Cards -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "card",
    [
        HOSTILE,
        "[x](javascript:alert(1))",
        "[x](JaVaScRiPt:alert(1))",
        "[x](java\nscript:alert(1))",
        "[x](data:text/html;base64,PHNjcmlwdD4=)",
        "[x](vbscript:x)",
        "[x](//evil.example)",
        "[x](/logout)",
        "![x](https://evil.example/track.png)",
        '<https://a.example/"onmouseover=alert(1)>',
        "<javascript:alert(1)>",
        "[x]: javascript:alert(1)\n\n[x]",
        "`<b>`\n\n```html\n<script>\n```",
        "<div onclick=alert(1)>\n\n</div>",
        "| a |\n| -: |\n| <b>x</b> |",
    ],
)
def test_a_card_can_do_nothing(card: str) -> None:
    html = str(cards.html(card))
    for tag in ("<script", "<img", "<div o", "<b>", "style=", 'href="j', 'href="/', 'href="d'):
        assert tag not in html.lower()
    assert "javascript:" not in "".join(part.split('"')[0] for part in html.split('href="')[1:])


def test_links_of_a_card_go_out_alone() -> None:
    html = str(cards.html("[x](https://example.org) [y](mailto:a@b.example)"))
    assert html.count('rel="nofollow noopener noreferrer"') == 2


def test_headings_of_a_card_stand_below_those_of_the_page() -> None:
    html = str(
        cards.html("---\nlibrary_name: backprop\n---\n# name\n\ntext\n\n## Details\n\n# More")
    )
    assert "library_name" not in html and "name</h" not in html
    assert "<h3>Details</h3>" in html and "<h2>More</h2>" in html


def test_a_nested_or_long_card_ends() -> None:
    assert len(cards.html("> " * 3000 + "x")) < 200_000
    assert len(cards.html("[" * 20_000)) < 200_000
    assert len(cards.html("x" * 1_000_000)) < 200_000


# --- Reports and charts ------------------------------------------------------------------


@pytest.mark.parametrize(
    "report",
    [
        {},
        {"history": "no", "metrics": 3, "confusion": {}, "labels": "x", "rows": []},
        {"history": [1, None, {"number": "x", "loss": float("nan")}], "main": ["x"]},
        {"metrics": {"accuracy": 1e400, "f1": 10**500, "x": True}, "per_class": {"a": {"f1": "1"}}},
        {"confusion": [[1]], "per_class": {"a": {"f1": 1.0}}},
        {"history": [{"number": 1e11, "loss": -5}], "best_epoch": 1e11},
        {"history": [{"number": i, "loss": 0.0} for i in range(100_000)]},
        {"seconds": "x", "per_class": {str(i): {"f1": 0.1} for i in range(5000)}},
    ],
)
def test_any_report_is_read(report: dict[str, Any]) -> None:
    found = read({"report": report}, "")
    assert all(len(chart) < 100_000 for _, chart in found.charts)
    assert "nan" not in "".join(chart for _, chart in found.charts)


def test_a_report_is_found_in_details_or_by_the_cards_tables() -> None:
    assert read({"details": {"finetuning": REPORT}}, "").metrics == {"accuracy": 0.75}
    card = (
        "## Finetuning\n\n### Figures on 8 validation rows\n\n| figure | value |\n| --- | ---: |\n"
        "| accuracy | 0.875 |\n| loss | 0.4 |\n\n### Figures of each class\n\n"
        "| label | precision | recall | F1 | rows |\n| --- | ---: | ---: | ---: | ---: |\n"
        "| a\\|b | 1.000 | 0.500 | 0.667 | 4 |\n"
    )
    found = read({}, card)
    assert found.metrics == {"accuracy": 0.875}
    assert found.per_class == {"a|b": 0.667}


def test_a_chart_says_in_words_what_it_draws_and_escapes_names() -> None:
    drawn = str(bars(HOSTILE, {HOSTILE: 0.5, "fine": 2.0}))
    assert "<script" not in drawn and "<img" not in drawn
    drawn = str(lines("Loss", [Series("a", "one", [(1, 2), (2, 1)]), Series("b", "two", [])]))
    assert 'aria-label="Loss: a from 2 to 1"' in drawn
    assert lines("nothing", [Series("a", "one", [])]) == ""


@pytest.mark.parametrize("points", [[(1, 0)], [(1, 0), (2, 0)], [(1, -3), (9, 1e9)], [(5, 1e-9)]])
def test_charts_have_room_for_any_figures(points: list[tuple[float, float]]) -> None:
    assert "nan" not in lines("x", [Series("a", "one", points)])


def test_a_name_always_has_the_same_terrain() -> None:
    assert terrain("one") == terrain("one") != terrain("two")
    assert "<path" in descent("one") and "<script" not in terrain(HOSTILE)


# --- Snippets and errors -----------------------------------------------------------------


@pytest.mark.parametrize("task", SPECS)
def test_every_task_has_an_example_and_snippets_that_parse(task: str) -> None:
    names = {each.name for each in SPECS[task].fields}
    assert all(set(row) <= names for row in example(task).rows)
    assert set(example(task).options) <= {option.name for option in SPECS[task].options}
    found = {each.name: each.code for each in snippets(task, "my-model@2", "http://localhost:8000")}
    compile(found["Python"], "snippet", "exec")
    assert f"http://localhost:8000/{task}" in found["curl"]
    if "image" not in names:
        body = found["curl"].split("-d ")[1].strip("'").replace("'\"'\"'", "'")
        assert json.loads(body)["model"] == "my-model@2"
    if "OpenAI client" in found:
        compile(found["OpenAI client"], "snippet", "exec")


@pytest.mark.parametrize("status", [400, 403, 404, 429, 500, 503])
def test_browsers_get_error_pages_and_programs_do_not(status: int) -> None:
    async def refuse(request: Request) -> Response:
        return JSONResponse({"message": HOSTILE}, status, {"retry-after": "7"})

    app = FriendlyErrors(Starlette(routes=[Route("/x", refuse, methods=["GET", "POST"])]))
    client = TestClient(app)
    page = client.get("/x", headers={"accept": "text/html,*/*"})
    assert page.status_code == status
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["retry-after"] == "7"
    assert "<script>alert" not in page.text and "alert(1)" in page.text
    assert client.get("/x").json() == {"message": HOSTILE}
    assert client.post("/x", headers={"accept": "text/html"}).json() == {"message": HOSTILE}


def test_what_is_no_error_is_passed_on_as_it_comes() -> None:
    async def write(request: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            yield b"one"
            yield b"two"

        return StreamingResponse(parts(), media_type="application/json")

    app = FriendlyErrors(Starlette(routes=[Route("/x", write)]))
    assert TestClient(app).get("/x", headers={"accept": "text/html"}).text == "onetwo"


def test_an_error_that_says_nothing_is_a_page_too() -> None:
    async def refuse(request: Request) -> Response:
        return Response(b"[", 502, media_type="application/json")

    app = FriendlyErrors(Starlette(routes=[Route("/x", refuse)]))
    page = TestClient(app).get("/x", headers={"accept": "text/html"})
    assert page.status_code == 502 and "The server answered 502" in page.text
