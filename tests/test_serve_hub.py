"""The hub's routes: uploads in pieces, commits, versions and aliases, over HTTP."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.testclient import TestClient

from backprop.serve.hub_routes import MAX_BODY_BYTES
from backprop.serve.settings import Settings
from backprop.serve.store import Hub
from tests import hub_tools
from tests.hub_tools import Files, app_of, listed, saved, sha256, vet

WORDS = b"one two three four"
NAME = sha256(WORDS)
LENGTH = {"upload-length": str(len(WORDS))}
LIMIT = 1 << 20


@pytest.fixture
def place() -> Iterator[Path]:
    with hub_tools.quick_folder() as folder:
        yield folder


@pytest.fixture
def hub(place: Path) -> Iterator[Hub]:
    hub = Hub(Settings(data=place, upload_bytes=LIMIT), vet=vet)
    yield hub
    hub.close()


@pytest.fixture
def app(hub: Hub, place: Path) -> Starlette:
    return app_of(hub, Settings(data=place, upload_bytes=LIMIT))


@pytest.fixture
def client(app: Starlette) -> Iterator[TestClient]:
    with TestClient(app, raise_server_exceptions=True) as client:
        yield client


def send(client: TestClient, content: bytes) -> int:
    headers = {"upload-length": str(len(content))}
    return client.put(f"/blobs/{sha256(content)}", content=content, headers=headers).status_code


def commit(client: TestClient, files: Files, name: str = "mine", **more: Any) -> Any:
    for content in files.values():
        assert send(client, content) in (200, 201)
    return client.post(f"/models/{name}/versions", json={"files": listed(files), **more})


def message(answer: Any) -> str:
    body = answer.json()
    assert set(body) == {"message"}
    return str(body["message"])


# --- Files -------------------------------------------------------------------------------


def test_a_file_is_sent_once(client: TestClient) -> None:
    before = client.head(f"/blobs/{NAME}")
    assert (before.status_code, before.headers["upload-offset"]) == (404, "0")
    assert send(client, WORDS) == 201
    after = client.head(f"/blobs/{NAME}")
    assert (after.status_code, after.headers["content-length"]) == (200, "18")
    assert send(client, WORDS) == 200
    assert send(client, b"") == 201


def test_a_file_comes_in_pieces(client: TestClient) -> None:
    def piece(start: int, end: int) -> Any:
        headers = {**LENGTH, "upload-offset": str(start)}
        return client.put(f"/blobs/{NAME}", content=WORDS[start:end], headers=headers)

    for start, end in ((0, 3), (3, 3), (3, 10)):
        answer = piece(start, end)
        assert (answer.status_code, answer.headers["upload-offset"]) == (204, str(end))
        assert client.head(f"/blobs/{NAME}").headers["upload-offset"] == str(end)
    for start in (0, 3, 11):
        answer = piece(start, start + 1)
        assert (answer.status_code, answer.headers["upload-offset"]) == (409, "10")
        assert "10 bytes are kept" in message(answer)
    assert piece(10, 18).status_code == 201
    assert client.head(f"/blobs/{NAME}").status_code == 200


def test_a_file_that_is_complete_but_not_stored_yet_is_stored_by_an_empty_piece(
    client: TestClient, hub: Hub
) -> None:
    part = hub.shelf.parts.claim(NAME)
    assert part is not None
    with part:
        part.append(WORDS)
    headers = {**LENGTH, "upload-offset": "18"}
    assert client.head(f"/blobs/{NAME}").headers["upload-offset"] == "18"
    assert client.put(f"/blobs/{NAME}", headers=headers).status_code == 201


def test_wrong_bytes_are_deleted(client: TestClient) -> None:
    answer = client.put(f"/blobs/{NAME}", content=WORDS[::-1], headers=LENGTH)
    assert answer.status_code == 422
    assert sha256(WORDS[::-1]) in message(answer)
    assert client.head(f"/blobs/{NAME}").headers["upload-offset"] == "0"
    assert send(client, WORDS) == 201


def test_a_part_longer_than_the_file_is_deleted(client: TestClient) -> None:
    headers = {"upload-length": "100"}
    assert client.put(f"/blobs/{NAME}", content=b"x" * 50, headers=headers).status_code == 204
    answer = client.put(f"/blobs/{NAME}", content=WORDS, headers=LENGTH)
    assert (answer.status_code, answer.headers["upload-offset"]) == (409, "0")
    assert send(client, WORDS) == 201


def test_more_than_was_announced_is_refused(client: TestClient) -> None:
    def pieces() -> Iterator[bytes]:  # without a content-length
        yield WORDS
        yield b"more"

    for content in (WORDS + b"more", pieces()):
        answer = client.put(f"/blobs/{NAME}", content=content, headers=LENGTH)
        assert answer.status_code == 400
        assert client.head(f"/blobs/{NAME}").headers["upload-offset"] == "0"


def test_a_file_over_the_limit_is_refused_before_it_is_sent(client: TestClient) -> None:
    headers = {"upload-length": str(LIMIT + 1)}
    answer = client.put(f"/blobs/{NAME}", content=b"x", headers=headers)
    assert answer.status_code == 413
    assert str(LIMIT) in message(answer)


@pytest.mark.parametrize("value", ["", "-1", "1.0", "x", "0x10", "9" * 16, "\u00b2", "1 2"])
@pytest.mark.parametrize("header", ["upload-length", "upload-offset"])
def test_numbers_that_are_none_are_refused(client: TestClient, header: str, value: str) -> None:
    headers = {**LENGTH, header: value.encode("latin-1")}
    answer = client.put(f"/blobs/{NAME}", content=WORDS, headers=headers)  # type: ignore[arg-type]
    assert answer.status_code == 400
    assert header in message(answer)


def test_the_length_must_be_given(client: TestClient) -> None:
    answer = client.put(f"/blobs/{NAME}", content=WORDS)
    assert (answer.status_code, "upload-length" in message(answer)) == (400, True)


@pytest.mark.parametrize("name", ["x", "A" * 64, "0" * 63, "0" * 65, "..%2f" * 16, "%00" * 64])
def test_a_sha256_is_64_digits(client: TestClient, name: str) -> None:
    for method in ("HEAD", "GET", "PUT"):
        answer = client.request(method, f"/blobs/{name}", headers=LENGTH)
        assert answer.status_code in (400, 404)


def test_what_came_before_a_client_went_away_is_kept(app: Starlette, hub: Hub) -> None:
    events: list[dict[str, Any]] = [
        {"type": "http.request", "body": WORDS[:7], "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, Any]:
        return events.pop(0)

    async def ignore(event: MutableMapping[str, Any]) -> None:
        pass

    async def run() -> None:
        headers = [(b"upload-length", b"18")]
        scope = {"type": "http", "method": "PUT", "path": f"/blobs/{NAME}", "headers": headers}
        await app({**scope, "query_string": b"", "root_path": ""}, receive, ignore)

    anyio.run(run)
    assert hub.shelf.parts.kept(NAME) == 7
    part = hub.shelf.parts.claim(NAME)  # nobody holds it
    assert part is not None
    part.close()


def test_two_who_send_one_file_at_once_both_succeed(app: Starlette) -> None:
    statuses = []

    async def send_slowly(started: anyio.Event, go: anyio.Event) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            yield WORDS[:5]
            started.set()
            await go.wait()
            yield WORDS[5:]

        async with asking(app) as client:
            answer = await client.put(f"/blobs/{NAME}", content=pieces(), headers=LENGTH)
            statuses.append(answer.status_code)

    async def send_at_once(started: anyio.Event, go: anyio.Event) -> None:
        await started.wait()
        go.set()
        async with asking(app) as client:
            answer = await client.put(f"/blobs/{NAME}", content=WORDS, headers=LENGTH)
            statuses.append(answer.status_code)

    async def run() -> None:
        started, go = anyio.Event(), anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(send_slowly, started, go)
            group.start_soon(send_at_once, started, go)

    anyio.run(run)
    assert sorted(statuses) == [200, 201]


def test_who_waits_long_for_another_is_told_to_go_on_from_there(
    client: TestClient, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backprop.serve.blob_routes.TURN_S", 0.0)
    part = hub.shelf.parts.claim(NAME)
    assert part is not None
    with part:
        part.append(WORDS[:4])
        answer = client.put(f"/blobs/{NAME}", content=WORDS, headers=LENGTH)
    assert (answer.status_code, answer.headers["upload-offset"]) == (409, "4")
    assert answer.headers["retry-after"] == "1"


def test_only_files_of_versions_are_read(client: TestClient) -> None:
    files = saved()
    send(client, WORDS)
    assert client.get(f"/blobs/{NAME}").status_code == 404
    assert client.get(f"/blobs/{'0' * 64}").status_code == 404
    weights = files["weights.safetensors"]
    send(client, weights)
    assert client.get(f"/blobs/{sha256(weights)}").status_code == 404
    commit(client, files)
    answer = client.get(f"/blobs/{sha256(weights)}")
    assert (answer.status_code, answer.content) == (200, weights)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-length"] == "1000"


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        *(("bytes=0-9", 0, 10), ("bytes=990-", 990, 1000), ("bytes=-10", 990, 1000)),
        *(("bytes=5-5", 5, 6), ("bytes=0-9999", 0, 1000), ("bytes=-9999", 0, 1000)),
        *(("bytes=9-5", 0, 1000), ("bytes=0-1,5-6", 0, 1000), ("words=1-2", 0, 1000)),
        ("bytes=x-", 0, 1000),
    ],
)
def test_a_range_is_read(client: TestClient, asked: str, start: int, end: int) -> None:
    weights = saved()["weights.safetensors"]
    commit(client, saved())
    answer = client.get(f"/blobs/{sha256(weights)}", headers={"range": asked})
    assert answer.content == weights[start:end]
    is_part = end - start < 1000
    assert answer.status_code == (206 if is_part else 200)
    expected = f"bytes {start}-{end - 1}/1000" if is_part else None
    assert answer.headers.get("content-range") == expected


@pytest.mark.parametrize("asked", ["bytes=1000-", "bytes=5000-6000", "bytes=-0"])
def test_a_range_past_the_end_is_refused(client: TestClient, asked: str) -> None:
    commit(client, saved())
    weights = saved()["weights.safetensors"]
    answer = client.get(f"/blobs/{sha256(weights)}", headers={"range": asked})
    assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */1000")
    message(answer)


# --- Versions ----------------------------------------------------------------------------


def test_a_model_is_uploaded_read_and_deleted(client: TestClient) -> None:
    files = saved()
    answer = commit(client, files, description="first")
    assert (answer.status_code, answer.json()) == (201, {"name": "mine", "version": 1})
    assert commit(client, saved("two")).json() == {"name": "mine", "version": 2}

    index = client.get("/models/mine/versions").json()
    assert [each["version"] for each in index["versions"]] == [2, 1]
    assert index["versions"][1]["description"] == "first"
    version = client.get("/models/mine/versions/1").json()
    assert version["files"] == listed(files)
    assert (version["name"], version["version"]) == ("mine", 1)
    assert version["meta"]["name"] == "one" and version["card"].startswith("# A model")
    for path, facts in version["files"].items():
        assert client.get(f"/blobs/{facts['sha256']}").content == files[path]

    assert client.delete("/models/mine/versions/1").status_code == 204
    assert client.get("/models/mine/versions/1").status_code == 404
    assert client.get("/models/mine/versions/latest").json()["version"] == 2
    assert client.delete("/models/mine").status_code == 204
    for url in ("/models/mine/versions", "/models/mine/versions/latest"):
        assert client.get(url).status_code == 404
    assert client.delete("/models/mine").status_code == 404


def test_an_alias_rolls_back_and_forward(client: TestClient) -> None:
    commit(client, saved("one"))
    commit(client, saved("two"))
    for number in (2, 1, 2):
        answer = client.put("/models/mine/aliases/stable", json={"version": number})
        assert answer.json() == {"name": "mine", "alias": "stable", "version": number}
        assert client.get("/models/mine/versions/stable").json()["version"] == number
    assert client.put("/models/mine/aliases/stable", json={"version": 3}).status_code == 404
    assert client.delete("/models/mine/aliases/stable").status_code == 204
    assert client.delete("/models/mine/aliases/stable").status_code == 404
    assert client.get("/models/mine/versions/stable").status_code == 404
    for alias in ("latest", "7", "A", "a b"):
        answer = client.put(f"/models/mine/aliases/{alias}", json={"version": 1})
        assert answer.status_code == 400


def test_files_that_were_not_sent_are_listed(client: TestClient) -> None:
    files = saved()
    answer = client.post("/models/mine/versions", json={"files": listed(files)})
    assert answer.status_code == 422
    assert "'weights.safetensors'" in message(answer)


def test_refusals_say_why(client: TestClient) -> None:
    answer = commit(client, saved(kind="Refused"))
    assert (answer.status_code, "'Refused'" in message(answer)) == (422, True)
    for name in ("t5-base", "english", "all-minilm-l6-v2"):
        answer = commit(client, saved(), name=name)
        assert (answer.status_code, "catalogue" in message(answer)) == (409, True)
    answer = commit(client, saved(), name="UPPER")
    assert (answer.status_code, "UPPER" in message(answer)) == (400, True)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b"null", b"{}", b'{"files": []}', b'{"files": {}, "more": 1}'),
        *(b"\xff", b'{"files": NaN}', b"[" * 100_000, b'{"files": {"\\ud800": {}}}'),
    ],
)
def test_bodies_that_are_none_are_refused(client: TestClient, body: bytes) -> None:
    answer = client.post("/models/mine/versions", content=body)
    assert answer.status_code == 400
    message(answer)
    assert client.put("/models/mine/aliases/stable", content=body).status_code == 400


def test_a_body_is_bounded(client: TestClient) -> None:
    def pieces() -> Iterator[bytes]:  # without a content-length
        for _ in range(MAX_BODY_BYTES // 10_000 + 1):
            yield b" " * 10_000

    for content in (b" " * (MAX_BODY_BYTES + 1), pieces()):
        assert client.post("/models/mine/versions", content=content).status_code == 413


def test_an_upload_of_64_files_with_long_paths_fits(client: TestClient) -> None:
    long = {f"{'a' * 200}/{'b' * 200}/{'c' * 190}{i}": b"" for i in range(62)}
    files = {**long, "manifest.json": b"", "backprop.json": b""}
    body = {"files": listed(files), "description": "\u00e4" * 2000}
    assert client.post("/models/mine/versions", json=body).status_code == 422


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
FACTS = st.fixed_dictionaries({"sha256": JSON | st.just(NAME), "size_bytes": JSON | st.integers()})
FILES = st.dictionaries(
    st.text() | st.sampled_from(["manifest.json", "backprop.json", "../x"]), FACTS | JSON
)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.fixed_dictionaries({"files": FILES | JSON}, optional={"description": JSON}))
def test_no_body_is_a_fault_of_the_server(client: TestClient, body: Any) -> None:
    answer = client.post("/models/mine/versions", json=body)
    assert answer.status_code in (400, 413, 422)
    message(answer)


def test_fifty_clients_who_commit_one_name_get_fifty_versions(app: Starlette) -> None:
    files, numbers = saved(few=True), []

    async def upload() -> None:
        async with asking(app) as client:
            for content in files.values():
                headers = {"upload-length": str(len(content))}
                url = f"/blobs/{sha256(content)}"
                answer = await client.put(url, content=content, headers=headers)
                assert answer.status_code in (200, 201), answer.text
            answer = await client.post("/models/mine/versions", json={"files": listed(files)})
            assert answer.status_code == 201, answer.text
            numbers.append(answer.json()["version"])

    async def run() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(upload)

    anyio.run(run)
    assert sorted(numbers) == list(range(1, 51))


def test_others_are_answered_while_vetting_goes_on(
    app: Starlette, hub: Hub, client: TestClient
) -> None:
    began, end = threading.Event(), threading.Event()

    def slow(folder: Path) -> dict[str, Any]:
        began.set()
        assert end.wait(30)
        return vet(folder)

    hub._vet = slow
    thread = threading.Thread(target=commit, args=(client, saved()))
    thread.start()
    try:
        assert began.wait(30)
        assert client.head(f"/blobs/{'0' * 64}").status_code == 404
        assert client.get("/models/mine/versions").status_code == 404
    finally:
        end.set()
        thread.join()
    assert client.get("/models/mine/versions/1").status_code == 200


def asking(app: Starlette) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1")
