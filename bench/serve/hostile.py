"""Send hostile uploads to a server that really runs, and see that none is served and none runs.

    python -m bench.serve.hostile

Each upload is sent as a client would: its files by ``PUT /blobs``, then ``POST
/models/{name}/versions``. Payloads would touch a canary file; an audit hook in every Python process
of the server (``audit/sitecustomize.py``) reports unpickling, commands, code made at run time,
imports of torch and its like, connections, and files opened for writing elsewhere than in the
server's own folder.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from bench.serve.running import Server, serving
from tests.hostile_artefacts import hostile
from tests.plain_artefacts import Files, plain, sealed

ROOT = Path(__file__).resolve().parents[2]
AUDIT = Path(__file__).resolve().parent / "audit"

OUR_CHILD = "'-m', 'backprop.serve.vetting'"
"""The one command that the server may start meanwhile."""

PATHS = (
    *("../x", "../../etc/passwd", "/etc/passwd", "a/../../x", "a\\..\\x", "C:\\x", "", ".", ".."),
    *(
        "a\0b",
        "a\nb",
        "x" * 5000,
        "%2e%2e/x",
        "a//b",
        "./config.json",
        "con\u0000",
        "ﬀ",
        "a/" * 300,
    ),
    *(".ssh/authorized_keys", "~/x", "$HOME/x", "config.json/", "-rf", "a b", "\u202ejson.config"),
)
NAMES = ("..", "../x", "%2e%2e", "A", "a" * 101, "a b", "a;rm", "a\nb", "minilm-qa", "-", "ü" * 4)


def main() -> None:
    """Run all attacks and print the count of those that did something."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="attacks that there are at least")
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        place = Path(name)
        canary = place / "canary"
        with _reports(place / "audit") as reports:
            env = {
                "BACKPROP_BENCH_AUDIT": str(place / "audit"),
                "PYTHONPATH": os.pathsep.join([str(AUDIT), str(ROOT)]),
                "PYTHONDONTWRITEBYTECODE": "1",
                "BACKPROP_CACHE": str(place / "cache"),
            }
            with serving(place / "data", env) as server:
                reports.clear()
                _expect_served(server)
                refused, wrong = _attack(server, str(canary))
                _expect_served(server)
        executed = [told for told in reports if not _is_usual(told, place)]
        executed += ["the canary was touched"] * canary.exists()
    for told in (*wrong, *executed):
        print(told)
    total = refused + len(wrong)
    print(f"{total} hostile artefacts: {len(executed)} executed, {refused} refused with 4xx")
    raise SystemExit(bool(wrong or executed or total < count))


def _attack(server: Server, canary: str) -> tuple[int, list[str]]:
    """Return how many attacks were refused with a 4xx, and what the others got."""
    refused, wrong = 0, []
    seen: set[str] = set()
    for what, answer in _answers(server.client, canary, seen):
        text = answer.text
        leaks = "Traceback" in text or str(Path(canary).parent / "data") in text
        if 400 <= answer.status_code < 500 and not leaks:
            refused += 1
        else:
            wrong.append(f"{what}: {answer.status_code} {text[:200]}")
    return refused, wrong


def _answers(
    client: httpx.Client, canary: str, seen: set[str]
) -> Iterator[tuple[str, httpx.Response]]:
    for what, files in hostile(canary):
        yield what, _upload(client, "hostile", files, seen)
    files = sealed(plain())
    listed = _listed(files)
    for path in PATHS:
        body = {"files": {**listed, path: listed["config.json"]}}
        yield f"path {path[:30]!r}", client.post("/models/hostile/versions", json=body)
    for name in NAMES:
        where = f"/models/{quote(name, safe='')}/versions"
        yield f"name {name[:30]!r}", client.post(where, json={"files": listed})
    sha256 = hashlib.sha256(b"this").hexdigest()
    yield "other bytes than the hash says", _put(client, sha256, b"that")
    yield (
        "fewer bytes than were listed",
        client.post(
            "/models/hostile/versions",
            json={"files": {**listed, "config.json": {**listed["config.json"], "size_bytes": 1}}},
        ),
    )
    missing = {"sha256": "0" * 64, "size_bytes": 1}
    yield (
        "a blob that is not there",
        client.post("/models/hostile/versions", json={"files": {**listed, "config.json": missing}}),
    )
    for digest in ("0" * 63, "../" * 10, "Z" * 64, "..%2f..%2fetc%2fpasswd"):
        yield f"blob {digest[:30]}", _put(client, quote(digest, safe=""), b"that")


def _upload(client: httpx.Client, name: str, files: Files, seen: set[str]) -> httpx.Response:
    """Send an upload as a client does; the first refusal is the answer."""
    for content in files.values():
        sha256 = hashlib.sha256(content).hexdigest()
        if sha256 not in seen:
            answer = _put(client, sha256, content)
            if answer.status_code >= 300:
                return answer
            seen.add(sha256)
    return client.post(f"/models/{name}/versions", json={"files": _listed(files)})


def _put(client: httpx.Client, sha256: str, content: bytes) -> httpx.Response:
    headers = {"upload-offset": "0", "upload-length": str(len(content))}
    headers["content-type"] = "application/octet-stream"
    return client.put(f"/blobs/{sha256}", content=content, headers=headers)


def _listed(files: Files) -> dict[str, Mapping[str, Any]]:
    return {
        name: {"sha256": hashlib.sha256(own).hexdigest(), "size_bytes": len(own)}
        for name, own in files.items()
    }


def _expect_served(server: Server) -> None:
    """Exit unless an upload without fault is taken: else refusing would mean nothing."""
    answer = _upload(server.client, "plain-model", sealed(plain()), set())
    if answer.status_code != 201:
        raise SystemExit(f"A plain upload was refused: {answer.status_code} {answer.text}")


class _reports(list[str]):  # noqa: N801  # used as a context manager alone
    """What the audit hooks of the server's processes tell, as it comes.

    Args:
        path: of the socket they send to.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> _reports:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.shutdown(socket.SHUT_RD)
        self.thread.join()
        self.socket.close()

    def _read(self) -> None:
        while told := self.socket.recv(8192):
            self.append(told.decode("utf-8", "replace"))


def _is_usual(told: str, place: Path) -> bool:
    """Return whether a report is of what the server does itself with any upload."""
    _, event, what = told.split("\t", 2)
    if event == "subprocess.Popen":
        return OUR_CHILD in what
    if event == "shutil.rmtree":  # what was refused is cleared away
        return str(place / "data") in what
    if event == "ctypes.dlopen":  # Python itself, by import of ctypes
        return what == "(None,)"
    if event == "open":
        path = what.removeprefix("write ")
        own = (str(place / "data"), str(place / "cache"), "/dev/null")
        return path.strip("'b").startswith(own) or path.isdigit()
    # Jinja's sandbox turns a template into code of its own, whose every access it checks.
    return event == "exec" and what.startswith(("<template>", "<unknown>")) and "jinja2" in what


if __name__ == "__main__":
    main()
