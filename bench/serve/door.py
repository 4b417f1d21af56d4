"""What the door of the server adds to a request: host, key, rate, body, headers and a line of log.

Run as ``python -m bench.serve.door``. CPU of the quickest of many short stretches, with and without
the guard around an application that does nothing; the last line is the difference.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from backprop.serve import logs
from backprop.serve.auth import Guard
from backprop.serve.keys import Keys
from backprop.serve.settings import Settings
from backprop.serve.store.database import open_engine

LIMIT_US = 60.0
STRETCH = 200

App = Callable[[Any, Any, Any], Awaitable[None]]


def main() -> int:
    """Print the microseconds that a request costs; return 1 if they are too many."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=100_000, help="requests")
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        engine = open_engine("", folder)
        keys = Keys(engine)
        _, key = keys.create("infer")
        settings = Settings(rate_per_minute=1_000_000)
        with (folder / "log").open("w") as stream:
            logs.setup(stream)
            guarded = Guard(nothing, nothing, keys=keys, settings=settings)
            bare = asyncio.run(cost_us(nothing, key, count))
            full = asyncio.run(cost_us(guarded, key, count))
        keys.close()
        engine.dispose()
    print(f"{bare:.1f} us without, {full:.1f} us with")
    print(f"{full - bare:.1f} us a request (limit {LIMIT_US:.0f})")
    return int(full - bare > LIMIT_US)


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """Read the body and answer."""
    await receive()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})


async def cost_us(app: App, key: str, count: int) -> float:
    """Return the least CPU time of a request over stretches of many."""
    headers = [
        (b"host", b"127.0.0.1:8000"),
        (b"accept", b"*/*"),
        (b"accept-encoding", b"gzip, deflate"),
        (b"connection", b"keep-alive"),
        (b"user-agent", b"python"),
        (b"content-type", b"application/json"),
        (b"content-length", b"40"),
        (b"x-api-key", key.encode()),
    ]
    common = {"type": "http", "method": "POST", "path": "/text-vectorisation", "headers": headers}

    async def receive() -> Any:
        return {"type": "http.request", "body": b"x" * 40, "more_body": False}

    async def send(message: Any) -> None:
        pass

    best = float("inf")
    for _ in range(max(1, count // STRETCH)):
        start = time.process_time()
        for _ in range(STRETCH):
            scope = {**common, "client": ("127.0.0.1", 1), "query_string": b"", "state": {}}
            await app(scope, receive, send)
        best = min(best, (time.process_time() - start) / STRETCH)
    return best * 1e6


if __name__ == "__main__":
    sys.exit(main())
