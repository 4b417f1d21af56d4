"""Half an hour of mixed load over nine tasks, with models that load and unload: does memory grow?

Two clients ask tasks at random, single and in batches; the memory budget is so small that models
push each other out, and idle ones are unloaded. Memory and open files are noted every ten seconds,
but memory follows which models are loaded. So every two minutes the clients pause until no model is
loaded any more, and what is left then is comparable: the slope is that of a least-squares line
through these rests, after the warm-up.

Run as ``python -m bench.serve.soak``; the exit code is 1 if memory or files grow.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import sys
import threading
import time
from importlib import resources
from typing import Any

import numpy as np

from bench.serve.client import Connection, request
from bench.serve.servers import Server, ours

CLIENTS = 2
SAMPLE_S = 10.0
LOAD_S = 120.0
"""From one rest to the next."""
STATS = b"GET /stats.json HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
REST_S = 90.0
"""A model that is still loaded after so long without a request has leaked."""
WARM_UP = 0.3
"""Share of the run that is not judged."""
MOST_MB_A_MINUTE = 1.0
CONTEXT = "Sally has been living in London for 3 years. Previously, Sally lived in Liverpool."


def bodies() -> dict[str, list[dict[str, Any]]]:
    """Return inputs of each task, single and batched."""
    examples = resources.files("backprop.examples")
    image = base64.b64encode((examples / "cat.jpg").read_bytes()).decode()
    minutes = (examples / "council.txt").read_text("utf-8")
    asked = {"question": "Where does Sally live?", "context": CONTEXT}
    labels = ["travel", "food", "politics"]
    text = "The train to London was late again."
    many = [f"{text} Number {i}." for i in range(20)]
    return {
        "qa": [asked, {key: [value] * 4 for key, value in asked.items()}],
        "text-classification": [{"text": text, "labels": labels}, {"text": many, "labels": labels}],
        "emotion": [{"text": text}, {"text": many}],
        "summarisation": [{"text": minutes}],
        "text-generation": [{"text": "Say hello.", "max_length": 16}],
        "text-vectorisation": [{"text": text}, {"text": many}],
        "image-classification": [{"image": image}, {"image": image, "labels": ["cat", "dog"]}],
        "image-vectorisation": [{"image": image}, {"image": [image] * 3}],
        "image-text-vectorisation": [{"image": image, "text": text}],
    }


def main() -> None:
    """Run, and print the slope."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--memory", type=int, default=900, help="MiB of the server's budget")
    arguments = parser.parse_args()
    flags = ("--idle", "20", "--memory", str(arguments.memory))
    with ours(*flags) as server:
        samples, rests, answered = soak(server, arguments.minutes * 60)
    times, memory, files = (np.array(column) for column in zip(*samples, strict=True))
    judged = times > WARM_UP * times[-1]
    slope = slope_a_minute([rest for rest in rests if rest[0] > WARM_UP * times[-1]])
    grown = int(files[judged][-5:].max() - files[judged][:5].max())
    low, high = memory[judged].min(), memory[judged].max()
    print(
        f"{answered:,} requests in {arguments.minutes:g} minutes; memory {low:.0f} to {high:.0f} "
        f"MB; {len(rests)} rests without a model, slope {slope:+.2f} MB a minute; open files "
        f"{files[judged].min():.0f} to {files[judged].max():.0f}, grown by {grown}"
    )
    sys.exit(1 if slope > MOST_MB_A_MINUTE or grown > 0 else 0)


def slope_a_minute(rests: list[tuple[float, float]]) -> float:
    """Return by how many MB a minute memory at rest grows."""
    times, memory = np.array(rests).T
    return float(np.polyfit(times / 60, memory, 1)[0])


def soak(
    server: Server, seconds: float
) -> tuple[list[tuple[float, float, int]], list[tuple[float, float]], int]:
    """Return times, memory in MB and open files; those at rest; and how many were answered."""
    end = time.monotonic() + seconds
    counts = [0] * CLIENTS
    failures: list[str] = []
    working = threading.Event()
    working.set()
    threads = [
        threading.Thread(target=_client, args=(server, i, end, working, counts, failures))
        for i in range(CLIENTS)
    ]
    for each in threads:
        each.start()
    start = rested = time.monotonic()
    samples, rests = [], []
    while time.monotonic() < end and not failures:
        time.sleep(min(SAMPLE_S, max(end - time.monotonic(), 0.1)))
        samples.append((time.monotonic() - start, server.memory_mb(), server.open_files()))
        print(
            f"{samples[-1][0]:>6.0f} s {samples[-1][1]:>8.1f} MB {samples[-1][2]:>4} files",
            flush=True,
        )
        if time.monotonic() - rested > LOAD_S:
            working.clear()
            wait_for_rest(server)
            rested = time.monotonic()
            rests.append((rested - start, server.memory_mb()))
            print(f"{rests[-1][0]:>6.0f} s {rests[-1][1]:>8.1f} MB at rest", flush=True)
            working.set()
    working.set()
    for each in threads:
        each.join()
    if failures:
        raise SystemExit(failures[0])
    return samples, rests, sum(counts)


def wait_for_rest(server: Server) -> None:
    """Return once no model is loaded."""
    end = time.monotonic() + REST_S
    connection = Connection(server.port)
    while time.monotonic() < end:
        connection.send(0, STATS)
        while not connection.receive():
            pass
        if not json.loads(connection.body)["models"]:
            time.sleep(1)  # memory is given back a moment later
            return
        time.sleep(0.5)
    raise SystemExit(f"after {REST_S:g} s without a request models are loaded: {connection.body!r}")


def _client(
    server: Server,
    number: int,
    end: float,
    working: threading.Event,
    counts: list[int],
    failures: list[str],
) -> None:
    chance = random.Random(number)
    inputs = bodies()
    connection = Connection(server.port)
    while time.monotonic() < end and not failures:
        # A few tasks at a time, so that others become idle.
        tasks = chance.sample(list(inputs), 3)
        until = min(time.monotonic() + 30, end)
        while time.monotonic() < until and not failures:
            working.wait()
            task = chance.choice(tasks)
            body = json.dumps(chance.choice(inputs[task])).encode()
            connection.send(0, request(f"/{task}", body))
            while not connection.receive():
                pass
            if connection.status not in (200, 503):
                failures.append(f"{task}: {connection.status} {connection.body[:500]!r}")
            counts[number] += 1


if __name__ == "__main__":
    main()
