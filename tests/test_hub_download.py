"""Versions are fetched from a server's hub: whole, verified, and run here."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import backprop
from backprop import cli, manifest
from backprop.client import connections, fetching, references, tries
from backprop.client.address import Server
from backprop.errors import (
    InputError,
    IntegrityError,
    NotFoundError,
    RemoteError,
    SourceError,
    UnsupportedTaskError,
)
from backprop.models import AutoModel
from backprop.models.saving import save
from tests import tiny
from tests.hub_server import Running, hub_server

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = AutoModel.from_pretrained(tiny.folder("sentence_transformer"))
    return save(model, "mine", path=tmp_path_factory.mktemp("saved") / "mine")


@pytest.fixture(scope="module")
def running(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with hub_server(tmp_path_factory.mktemp("server")) as hub:
        backprop.upload(saved, api_url=hub.url)
        backprop.upload(saved, description="second", api_url=hub.url)
        hub.hub.set_alias("mine", "stable", 1)
        yield hub


@pytest.fixture
def hub(running: Running, cache: Path) -> Running:
    connections.close()  # so that a cut meets the next request
    running.asked.clear()
    running.cuts.clear()
    running.keys.clear()
    return running


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of downloads, empty."""
    monkeypatch.setattr(tries, "FIRST_S", 0.002)
    monkeypatch.setenv("BACKPROP_CACHE", str(tmp_path / "cache"))
    for name in ("BACKPROP_API_URL", "BACKPROP_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache" / ".hub"


def fetch(url: str, reference: str = "hub://mine@1") -> Path:
    return fetching.fetch(Server(url, "secret"), reference)


def test_a_version_is_fetched_once(hub: Running, saved: Path, cache: Path) -> None:
    folder = fetch(hub.url)
    assert manifest.describe(folder) == manifest.describe(saved)
    assert hub.keys == {"secret"}
    hub.asked.clear()
    assert fetch(hub.url, "hub://mine@stable") == folder
    assert hub.asked == [("GET", "/models/mine/versions/stable", 200)]
    assert not list(cache.glob("*.parts"))


def test_the_latest_version_is_the_default(hub: Running) -> None:
    latest = fetch(hub.url, "hub://mine")
    assert json.loads((latest / "backprop.json").read_text())["description"] == "second"
    assert latest == fetch(hub.url, "hub://mine@latest") == fetch(hub.url, "hub://mine@2")
    assert latest != fetch(hub.url, "hub://mine@1")


def test_a_fetched_model_answers_as_the_one_that_was_sent(
    hub: Running, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "the river runs"
    wanted = backprop.TextVectorisation(saved)(text)
    model = backprop.load("hub://mine@1", api_url=hub.url, api_key="secret")
    assert model({"text": text}, task="text-vectorisation") == pytest.approx(wanted)
    task = backprop.TextVectorisation("hub://mine@2", api_url=hub.url, api_key="secret")
    assert (task.is_remote, task(text)) == (False, pytest.approx(wanted))
    monkeypatch.setenv("BACKPROP_API_URL", hub.url)
    found = AutoModel.from_pretrained("hub://mine")
    assert (found.name, found.description) == ("mine", "second")
    with pytest.raises(UnsupportedTaskError):
        backprop.QA("hub://mine")


def test_the_command_fetches_from_a_hub(
    hub: Running, saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BACKPROP_API_URL", hub.url)
    with pytest.raises(SystemExit) as ended:
        cli.main(["pull", "hub://mine@1"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"hub://mine@1\t{fetch(hub.url)}\n"


def test_where_the_hub_is_is_asked_for(cache: Path) -> None:
    with pytest.raises(InputError, match="api_url=.*BACKPROP_API_URL"):
        backprop.load("hub://mine")


@pytest.mark.parametrize("reference", ["hub://nobody", "hub://mine@99", "hub://mine@no-alias"])
def test_what_the_hub_has_not_is_told(hub: Running, reference: str) -> None:
    with pytest.raises(NotFoundError, match=f"has no {reference[6:]}"):
        fetch(hub.url, reference)


@pytest.mark.parametrize(
    "reference",
    ["hub://", "hub://Mine", "hub://mine@", "hub://mine@a/b", "hub://../x", "hub://mine@../../x"],
)
def test_a_reference_that_can_be_none_asks_nothing(hub: Running, reference: str) -> None:
    with pytest.raises(InputError):
        fetch(hub.url, reference)
    assert hub.asked == []
    assert references.split("hub://mine@v-1.0") == ("mine", "v-1.0")


def test_lines_that_break_go_on_where_they_were(hub: Running, saved: Path) -> None:
    sizes = [each.size_bytes for each in manifest.describe(saved).values()]
    for size in (100, 60_000, 0, 90_000, 200, 70_000):
        hub.cuts.append(("down", size))
    folder = fetch(hub.line_url)
    assert manifest.describe(folder) == manifest.describe(saved)
    assert hub.cuts == []
    assert max(sizes) > 100_000
    assert hub.count("GET", "/blobs/", 206) >= 2


def test_what_came_before_a_failure_is_kept(
    hub: Running, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tries, "RETRIES", 0)
    hub.cuts.append(("down", 90_000))
    with pytest.raises(RemoteError, match="could not be reached"):
        fetch(hub.line_url)
    [parts] = cache.glob("*.parts")
    assert sum(part.stat().st_size for part in parts.iterdir()) > 50_000
    assert [each.suffix for each in cache.iterdir() if each.is_dir()] == [".parts"]
    hub.cuts.clear()
    hub.asked.clear()
    fetch(hub.line_url)
    assert hub.count("GET", "/blobs/", 206) == 1


def test_a_part_that_was_damaged_is_fetched_anew(hub: Running, saved: Path, cache: Path) -> None:
    folder = fetch(hub.url)
    files = manifest.describe(saved)
    [weights] = [facts for name, facts in files.items() if name.endswith(".safetensors")]
    parts = folder.with_name(f"{folder.name}.parts")
    shutil.rmtree(folder)
    parts.mkdir()
    (parts / weights.sha256).write_bytes(b"x" * 1000)
    other = files["README.md"]
    (parts / other.sha256).write_bytes(b"y" * (other.size_bytes + 5))
    assert fetch(hub.url) == folder
    assert manifest.describe(folder) == files


def test_a_cache_that_lost_a_file_is_filled_again(hub: Running, saved: Path) -> None:
    folder = fetch(hub.url)
    (folder / "README.md").unlink()
    assert fetch(hub.url) == folder
    assert manifest.describe(folder) == manifest.describe(saved)


def test_threads_fetch_a_version_once(hub: Running, saved: Path) -> None:
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(fetch(hub.url))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6 and len(set(found)) == 1
    assert hub.count("GET", "/blobs/") == len({*manifest.describe(saved).values()})


def test_a_disk_without_room_is_told_first(hub: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "ROOM_BYTES", 1 << 60)
    with pytest.raises(SourceError, match="needs .* MB.*make room"):
        fetch(hub.url)
    assert hub.count("GET", "/blobs/") == 0


# --- Servers that mean no good -------------------------------------------------------------------

CONTENT = b"hello" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
GOOD = {"a.txt": {"sha256": SHA256, "size_bytes": len(CONTENT)}}


@pytest.fixture
def bad(cache: Path) -> Iterator[Callable[..., str]]:
    """Give a function that returns the address of a server with these answers."""
    answers: dict[str, Any] = {}
    served_paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served_paths.append(self.path)
            is_blob = self.path.startswith("/blobs/")
            content = answers["content"] if is_blob else json.dumps(answers["manifest"]).encode()
            self.send_response(answers["status"] if is_blob else 200)
            for name, value in answers["headers"].items() if is_blob else ():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            try:
                self.wfile.write(content)
            except OSError:
                pass  # the client has seen enough

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:

        def start(
            manifest: Any, content: bytes = CONTENT, status: int = 200, **headers: str
        ) -> str:
            answers.update(manifest=manifest, content=content, status=status, headers=headers)
            return f"http://127.0.0.1:{served.server_port}"

        thread = threading.Thread(target=served.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield start
        served.shutdown()
        thread.join()


def version(files: Any, **more: Any) -> dict[str, Any]:
    return {"name": "mine", "version": 1, "files": files, **more}


def test_a_server_without_ranges_will_do(bad: Callable[..., str]) -> None:
    assert (fetch(bad(version(GOOD))) / "a.txt").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "files",
    [
        {},
        [],
        None,
        {"../a.txt": GOOD["a.txt"]},
        {"/etc/passwd": GOOD["a.txt"]},
        {"a\\b": GOOD["a.txt"]},
        {"a/b/c/d": GOOD["a.txt"]},
        {".ssh": GOOD["a.txt"]},
        {"a.txt": {**GOOD["a.txt"], "size_bytes": -1}},
        {"a.txt": {**GOOD["a.txt"], "size_bytes": 1 << 50}},
        {"a.txt": {**GOOD["a.txt"], "size_bytes": True}},
        {"a.txt": {**GOOD["a.txt"], "sha256": "../" * 21 + "x"}},
        {"a.txt": {**GOOD["a.txt"], "more": 1}},
        {"a.txt": []},
        {f"{number}.txt": GOOD["a.txt"] for number in range(1001)},
    ],
    ids=lambda files: repr(files)[:40],
)
def test_a_list_that_could_do_harm_is_refused(
    bad: Callable[..., str], cache: Path, files: Any
) -> None:
    with pytest.raises(IntegrityError, match="in a form that can't be used"):
        fetch(bad(version(files)))
    assert not cache.exists()


@pytest.mark.parametrize("listed", [[], "text", {"name": "other", "version": 1, "files": GOOD}])
def test_a_list_of_something_else_is_refused(bad: Callable[..., str], listed: Any) -> None:
    with pytest.raises(IntegrityError, match="in a form that can't be used"):
        fetch(bad(listed))


@pytest.mark.parametrize(
    "content",
    [b"", CONTENT[:-1], CONTENT[:-1] + b"!", CONTENT + b"!", CONTENT * 500],
    ids=["none", "short", "other", "long", "huge"],
)
def test_other_bytes_than_listed_are_refused(
    bad: Callable[..., str], cache: Path, content: bytes
) -> None:
    with pytest.raises(IntegrityError, match="sent other bytes than it lists"):
        fetch(bad(version(GOOD), content))
    assert not [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_redirect_is_not_followed(bad: Callable[..., str]) -> None:
    url = bad(version(GOOD), b"", 302, Location="http://127.0.0.1:9/evil")
    with pytest.raises(RemoteError, match="points to http://127.0.0.1:9/evil, which is not"):
        fetch(url)
