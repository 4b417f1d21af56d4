"""Every endpoint under schemathesis with all its checks, and under thousands of odd requests.

The odd ones are drawn by hypothesis: bodies of plausible fields with values that fit, nearly fit or
don't at all; paths and headers likewise; now and then bytes that are no JSON. What counts is that
none is answered with 5xx, and that the server lives.

Run as ``python -m bench.serve.fuzz``; the exit code is 1 if something was found.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from backprop.serve.openapi import PIXEL, document
from backprop.serve.settings import Settings
from bench.serve.client import Connection
from bench.serve.servers import ours

HOOKS = "bench.serve.fuzz_hooks"
CONFIG = Path(__file__).with_name("schemathesis.toml")

PLAUSIBLE: st.SearchStrategy[Any] = st.sampled_from(
    (
        *("hi", "The train was late.", "", " ", "\0", "\ud7ff", "{}", "a" * 5000, "minilm-qa"),
        *(0, 1, 2, -1, 0.5, 1e308, -0.0, 2**63 - 1, 2**31, True, False, None),
        *([], ["a"], ["a", "a"], [["a"], ["b"]], [[]], {}, {"a": 1}, PIXEL, [PIXEL]),
        *("chunk", "truncate", "error", "float", "base64", "user", "f" * 64, "latest", "@", "a@1"),
        *([{"role": "user", "content": "hi"}], [{"role": "x"}], {"version": 1}),
    )
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = PLAUSIBLE | st.recursive(
    SCALARS | PLAUSIBLE,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
SHORT = st.sampled_from((1, 2, 3, 0, -1, "1", 1.5, 4097, None, [1]))
"""Lengths of texts to write: those that are allowed are short, or it would take days."""
LENGTHS = ("max_length", "max_tokens", "max_completion_tokens")
PARTS = st.sampled_from(
    ("minilm-qa", "my-model", "1", "latest", "0" * 64, "f" * 64, "-1", "..")
) | st.text(min_size=1, max_size=20)

ACCEPTED = st.sampled_from(("*/*", "", "text/html", "application/json;q=x", "text/event-stream"))


@dataclass
class Found:
    """What was answered: statuses by operation, and the first bad request of each."""

    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    bad: dict[str, bytes] = field(default_factory=dict)


def main() -> None:
    """Run both, and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=10_000, help="odd requests an endpoint")
    parser.add_argument("--examples", type=int, default=100, help="of schemathesis, an endpoint")
    parser.add_argument("--only", nargs="*", default=[], help="paths")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        key = make_key(data)
        with ours("--preload", "text-vectorisation", "--tokens", "4", data=data) as server:
            code = schemathesis(server.port, arguments.examples, key) if arguments.examples else 0
            found = odd(server.port, arguments.count, arguments.only, key)
            alive = server.process.poll() is None
    total = sum(sum(own.values()) for own in found.statuses.values())
    for name, own in found.statuses.items():
        print(f"{name:<48}{dict(sorted(own.items()))}")
    for name, request in found.bad.items():
        print(f"5xx: {name}: {request[:2000]!r}")
    print(
        f"schemathesis, all checks: {'fine' if code == 0 else 'failures'}; {total:,} odd requests "
        f"on {len(found.statuses)} endpoints: {len(found.bad)} endpoints with 5xx; the server "
        f"{'lives' if alive else 'has died'}"
    )
    sys.exit(1 if code or found.bad or not alive else 0)


def make_key(data: Path) -> str:
    """Return a key that may do everything, of the server whose folder this is."""
    command = [sys.executable, "-m", "backprop", "keys", "create", "--scope", "admin"]
    done = subprocess.run([*command, "--data", str(data)], capture_output=True, check=True)
    return done.stdout.decode().strip()


def schemathesis(port: int, examples: int, key: str) -> int:
    """Return the exit code of schemathesis with all checks."""
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run"]
    command += [f"http://127.0.0.1:{port}/openapi.json", "--checks", "all"]
    command += [
        "--header",
        f"x-api-key: {key}",
        "--request-timeout",
        "120",
        "--max-response-time",
        "60",
    ]
    command += ["--max-examples", str(examples), "--no-color", "--continue-on-failure"]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": HOOKS}
    return subprocess.run(command, env=environment, check=False).returncode


def odd(port: int, count: int, only: list[str], key: str) -> Found:
    """Return what odd requests were answered with."""
    found = Found()
    for path, operations in document(Settings())["paths"].items():
        for method, operation in operations.items():
            if (not only or path in only) and method in ("get", "post", "put", "delete", "head"):
                _odd(port, f"{method.upper()} {path}", operation, count, found, key)
                name = f"{method.upper()} {path}"
                print(name, dict(sorted(found.statuses[name].items())), flush=True)
    return found


def _odd(
    port: int, name: str, operation: dict[str, Any], count: int, found: Found, key: str
) -> None:
    statuses = found.statuses.setdefault(name, Counter())
    connection = [Connection(port)]

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(requests(name, operation, key))
    def each(request: bytes) -> None:
        status = _status(port, connection, request, is_head=name.startswith("HEAD"))
        statuses[status] += 1
        if status >= 500:
            found.bad.setdefault(name, request)

    each()
    connection[0].socket.close()


def _status(port: int, connection: list[Connection], request: bytes, *, is_head: bool) -> int:
    """Return the status of a request; the server may close the connection after a bad one."""
    own = connection[0]
    try:
        own.send(0, request)
        while not (own.receive_head() if is_head else own.receive()):
            pass
        status = own.status
    except OSError:
        status = 0
    if not status or b"connection: close" in bytes(own.buffer[:1000]).lower():
        own.socket.close()
        connection[0] = Connection(port)
    return status


@st.composite
def requests(draw: st.DrawFn, name: str, operation: dict[str, Any], key: str) -> bytes:
    """Draw the bytes of a request."""
    method, path = name.split(" ")
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "path":
            part = quote(draw(PARTS), safe="")
            path = path.replace(f"{{{parameter['name']}}}", part)
    query = draw(st.text(max_size=12))
    path += f"?{quote(query, safe='=&')}" if query else ""
    body = b""
    if "requestBody" in operation:
        body = draw(bodies(operation))
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1", "content-type: application/json"]
    lines += [f"x-api-key: {key}", f"accept: {draw(ACCEPTED)}"]
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "header" and draw(st.booleans()):
            lines.append(
                f"{parameter['name']}: {draw(st.sampled_from((0, 1, len(body), -1, 'x')))}"
            )
    lines += [f"content-length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


@st.composite
def bodies(draw: st.DrawFn, operation: dict[str, Any]) -> bytes:
    """Draw a body: mostly an object of known fields."""
    [media] = operation["requestBody"]["content"].values()
    fields = _fields(media["schema"])
    if not fields or draw(st.integers(0, 19)) == 0:
        return draw(st.binary(max_size=200))
    chosen = draw(st.lists(st.sampled_from(sorted(fields)), unique=True))
    content = {key: draw(VALUES) for key in chosen}
    content.update(
        {
            key: "hi"
            for key in fields & {"text", "question", "context", "prompt"}
            if draw(st.booleans())
        }
    )
    for key in fields & set(LENGTHS):
        content[key] = draw(SHORT)
    if not fields & set(LENGTHS) and draw(st.integers(0, 9)) == 0:
        content[draw(st.text(max_size=5))] = draw(VALUES)
    try:
        return json.dumps(content).encode()
    except UnicodeEncodeError:
        return b"{}"


def _fields(schema: dict[str, Any]) -> set[str]:
    for option in schema.get("anyOf", [schema]):
        return set(option.get("properties", {}))
    return set()


if __name__ == "__main__":
    main()
