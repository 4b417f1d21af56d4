"""A real server, a model finetuned for it, and a browser to look at it with.

Run by ``make test-web``; not part of ``make test``, for it needs Chromium.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from backprop import manifest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "backprop" / "examples"
HOSTILE = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>\"'&"
WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave these tests out unless they are asked for by their folder."""
    asked = (Path(str(each).partition("::")[0]).absolute() for each in config.args)
    here = Path(__file__).parent
    return None if any(here in (path, *path.parents) for path in asked) else True


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    url: str
    data: Path


@pytest.fixture(scope="session")
def finetuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that learnt from the example's messages, as the command line saves it."""
    folder = tmp_path_factory.mktemp("finetuned") / "mail-desk"
    command = [sys.executable, "-m", "backprop", "finetune", "text-classification"]
    command += [str(EXAMPLES / "mail.csv"), "--method", "head", "--output", str(folder)]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True, timeout=300)
    return folder


@pytest.fixture(scope="session")
def hostile(finetuned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model, whose words try to be markup: labels, description and card."""
    folder = tmp_path_factory.mktemp("hostile") / "hostile"
    shutil.copytree(finetuned, folder)
    meta = json.loads((folder / "backprop.json").read_text())
    meta["settings"]["classes"]["text-classification"]["labels"][0] = HOSTILE
    meta |= {"name": "hostile", "description": HOSTILE, "card": HOSTILE}
    (folder / "backprop.json").write_text(json.dumps(meta))
    link = "[go](javascript:window.hacked=1) ![x](https://a.example/x.png)"
    card = f"# hostile\n\n{HOSTILE}\n\n{link}\n"
    (folder / "README.md").write_text(card)
    (folder / "manifest.json").unlink()
    manifest.write_manifest(folder / "manifest.json", manifest.describe(folder))
    return folder


@pytest.fixture(scope="session")
def server(
    finetuned: Path, hostile: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server without keys, open to this machine, that has two uploaded models."""
    with Running(tmp_path_factory.mktemp("server")) as running:
        upload(running.url, "mail-desk", finetuned, "Which desk answers a message to the shop.")
        upload(running.url, "mail-desk", finetuned, "The same, sent again.")
        upload(running.url, "hostile", hostile, HOSTILE)
        yield running


@dataclass(frozen=True)
class Guarded(Server):
    """A server with a key of each scope."""

    keys: dict[str, str]


@pytest.fixture(scope="session")
def guarded(finetuned: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    data = tmp_path_factory.mktemp("guarded")
    keys = {scope: _new_key(data, scope) for scope in ("infer", "write", "admin")}
    with Running(data) as running:
        upload(running.url, "mail-desk", finetuned, "Which desk answers.", keys["admin"])
        yield Guarded(running.url, data, keys)


def upload(url: str, name: str, folder: Path, description: str, key: str = "") -> None:
    """Send a saved model by the hub's own routes."""
    headers = {"x-api-key": key} if key else {}
    files = {}
    with httpx.Client(base_url=url, headers=headers, timeout=120) as client:
        for path in sorted(each for each in folder.rglob("*") if each.is_file()):
            content = path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            size = {"upload-offset": "0", "upload-length": str(len(content))}
            client.put(f"/blobs/{digest}", content=content, headers=size).raise_for_status()
            place = path.relative_to(folder).as_posix()
            files[place] = {"sha256": digest, "size_bytes": len(content)}
        body = {"files": files, "description": description}
        answer = client.post(f"/models/{name}/versions", json=body)
        assert answer.status_code == 201, answer.text


def _new_key(data: Path, scope: str) -> str:
    command = [sys.executable, "-m", "backprop", "keys", "create", "--scope", scope]
    done = subprocess.run(
        [*command, "--data", str(data)], check=True, cwd=ROOT, capture_output=True, text=True
    )
    found = re.search(r"bp_\w+", done.stdout)
    assert found is not None, done.stdout
    return found.group()


class Running:
    """``backprop serve`` on a free port, for as long as the block lasts."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.port = 0
        self.lines: list[str] = []
        self._is_ready = threading.Event()

    def __enter__(self) -> Server:
        command = [sys.executable, "-m", "backprop", "serve", "--port", "0"]
        command += ["--data", str(self.data)]
        # The engines that users get, not the one of the tests on tiny models.
        env = {name: value for name, value in os.environ.items() if name != "BACKPROP_ENGINE"}
        self.process = subprocess.Popen(
            command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=env
        )
        self.reader = threading.Thread(target=self._read)
        self.reader.start()
        assert self._is_ready.wait(60) and self.port, f"the server did not start: {self.lines}"
        return Server(f"http://localhost:{self.port}", self.data)

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(timeout=60)
        self.reader.join()

    def _read(self) -> None:
        """Read the log to its end, or the server would wait for a reader; keep it in a file."""
        assert self.process.stderr is not None
        with self.process.stderr as lines, (self.data / "server.log").open("w") as log:
            for line in lines:
                self.lines.append(line)
                log.write(line)
                log.flush()
                event = json.loads(line) if line.startswith("{") else {}
                self.port = event.get("port", self.port)
                if event.get("event") == "ready":
                    self._is_ready.set()
        self._is_ready.set()  # ended, perhaps before it was


# --- Browser -----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    # Here, for pytest reads this file in runs that have no browser too.
    from playwright.sync_api import expect, sync_playwright

    # On a machine that does other things too a model takes a while to wake.
    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright:
        # Debian's own; it has no sandbox for root.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


class Watched:
    """Opens pages of a server, and remembers whatever the browser complains of."""

    def __init__(self, browser: Browser, url: str) -> None:
        self.browser, self.url = browser, url
        self.complaints: list[str] = []
        self.contexts: list[BrowserContext] = []

    def open(self, path: str, width: str = "desktop", **options: Any) -> Page:
        size = WIDTHS[width]
        settings = {"viewport": {"width": size[0], "height": size[1]}, **options}
        context = self.browser.new_context(base_url=self.url, reduced_motion="reduce", **settings)
        context.set_default_timeout(30_000)
        self.contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: self._console(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("request", lambda request: self._request(request.url))
        page.goto(path)
        page.wait_for_load_state("networkidle")
        return page

    def close(self) -> None:
        for context in self.contexts:
            context.close()

    def _console(self, kind: str, text: str) -> None:
        # That an answer was an error is what some tests ask for; policy violations never are.
        if kind in ("error", "warning") and "Failed to load resource" not in text:
            self.complaints.append(f"{kind}: {text}")

    def _request(self, url: str) -> None:
        if not url.startswith((self.url, "blob:", "data:")):
            self.complaints.append(f"asked another server: {url}")


@pytest.fixture
def site(browser: Browser, server: Server) -> Iterator[Watched]:
    """The open server; a test fails if the browser complained of anything."""
    watched = Watched(browser, server.url)
    yield watched
    watched.close()
    assert watched.complaints == []


@pytest.fixture
def locked(browser: Browser, guarded: Guarded) -> Iterator[Watched]:
    """The server with keys."""
    watched = Watched(browser, guarded.url)
    yield watched
    watched.close()
    assert watched.complaints == []
