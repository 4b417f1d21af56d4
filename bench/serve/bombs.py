"""Send image bombs to a server that really runs: each has to be refused at once, without memory.

    python -m bench.serve.bombs

Prints, after a line for each, the median and the longest time to a refusal and the most that the
server's memory grew.
"""

from __future__ import annotations

import argparse
import base64
import json
import statistics
import tempfile
import threading
import time
from pathlib import Path

from bench.serve.running import Server, serving
from tests.image_bombs import bombs, picture

LONGEST_S = 0.2
MOST_GROWTH_BYTES = 100 << 20
TASK = "/image-vectorisation"
SAMPLE_S = 0.005
REPEATS = 3


def main() -> None:
    """Send each bomb some times and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=30, help="bombs that there are at least")
    parser.add_argument("--model", default="", help="whose name the requests carry")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bombs-") as name:
        with serving(Path(name) / "data") as server:
            times, most, failures = _throw(server, asked.model)
    for failure in failures:
        print(failure)
    print(f"median {statistics.median(times) * 1000:.0f} ms, longest {max(times) * 1000:.0f} ms")
    refused = len(times) - len(failures)
    print(
        f"{len(times)} image bombs: {refused} refused within {LONGEST_S * 1000:.0f} ms with 4xx, "
        f"memory grew by {most / (1 << 20):.0f} MiB at most"
    )
    raise SystemExit(bool(failures) or len(times) < asked.count or most > MOST_GROWTH_BYTES)


def _throw(server: Server, model: str) -> tuple[list[float], int, list[str]]:
    """Return each bomb's best time, the growth of memory, and what was not as it should be."""
    times, work, failures = [], [], []
    _post(server, picture("GIF", (2, 1)), model, "text")  # so that what loads late is loaded
    with _Watch(server) as watch:
        for name, raw in bombs():
            before = server.seconds()
            answers = [_post(server, raw, model) for _ in range(REPEATS)]
            work.append((server.seconds() - before) / REPEATS)
            took = min(own for own, _, _ in answers)
            status, text = answers[0][1:]
            print(f"{took * 1000:6.1f} ms  {status}  {name}: {text[:110]}")
            times.append(took)
            if took > LONGEST_S or not 400 <= status < 500:
                failures.append(f"{name}: {status} after {took * 1000:.0f} ms")
    print(f"the server worked {max(work) * 1000:.0f} ms at most for one")
    return times, watch.growth, failures


def _post(
    server: Server, raw: bytes | str, model: str, key: str = "image"
) -> tuple[float, int, str]:
    text = raw if isinstance(raw, str) else base64.b64encode(raw).decode()
    content = json.dumps({key: text, "model": model}).encode()
    headers = {"content-type": "application/json"}
    start = time.perf_counter()
    answer = server.client.post(TASK, content=content, headers=headers)
    return time.perf_counter() - start, answer.status_code, answer.text


class _Watch:
    """The most that a server's memory grows while it is watched.

    Args:
        server: the one.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.before = server.resident_bytes()
        self.most = self.before
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)

    @property
    def growth(self) -> int:
        """Bytes."""
        return self.most - self.before

    def __enter__(self) -> _Watch:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()

    def _look(self) -> None:
        while not self.done.wait(SAMPLE_S):
            self.most = max(self.most, self.server.resident_bytes())


if __name__ == "__main__":
    main()
