"""Half an hour of mixed load over nine tasks, with models that load and unload: does memory grow?

Two clients ask tasks at random, single and in batches; the memory budget is so small that models
push each other out, and idle ones are unloaded. Memory and open files are noted every ten seconds;
the slope is that of a least-squares line through the least of each two minutes, after the warm-up:
memory follows which models are loaded, and what is never given back is below all of them.

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
from numpy.typing import NDArray

from bench.serve.client import Connection, request
from bench.serve.servers import Server, ours

Floats = NDArray[Any]

CLIENTS = 2
SAMPLE_S = 10.0
WINDOW_S = 120.0
"""Memory follows what is loaded; what grows is the least of it in each window."""
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
        samples, answered = soak(server, arguments.minutes * 60)
    times, memory, files = (np.array(column) for column in zip(*samples, strict=True))
    judged = times > WARM_UP * times[-1]
    slope = floor_slope(times[judged], memory[judged])
    grown = int(files[judged][-5:].max() - files[judged][:5].max())
    low, high = memory[judged].min(), memory[judged].max()
    print(
        f"{answered:,} requests in {arguments.minutes:g} minutes; memory {low:.0f} to {high:.0f} "
        f"MB, slope {slope:+.2f} MB a minute; open files "
        f"{files[judged].min():.0f} to {files[judged].max():.0f}, grown by {grown}"
    )
    sys.exit(1 if slope > MOST_MB_A_MINUTE or grown > 0 else 0)


def floor_slope(times: Floats, memory: Floats) -> float:
    """Return by how many MB a minute the least memory of each window grows."""
    windows = (times // WINDOW_S).astype(int)
    whole = [
        each for each in np.unique(windows) if (windows == each).sum() * SAMPLE_S >= WINDOW_S / 2
    ]
    floors = np.array([memory[windows == each].min() for each in whole])
    if len(floors) < 2:
        return 0.0
    return float(np.polyfit(np.arange(len(floors)) * WINDOW_S / 60, floors, 1)[0])


def soak(server: Server, seconds: float) -> tuple[list[tuple[float, float, int]], int]:
    """Return times, memory in MB and open files; and how many requests were answered."""
    end = time.monotonic() + seconds
    counts = [0] * CLIENTS
    failures: list[str] = []
    threads = [
        threading.Thread(target=_client, args=(server, i, end, counts, failures))
        for i in range(CLIENTS)
    ]
    for each in threads:
        each.start()
    start = time.monotonic()
    samples = []
    while time.monotonic() < end and not failures:
        time.sleep(min(SAMPLE_S, max(end - time.monotonic(), 0.1)))
        samples.append((time.monotonic() - start, server.memory_mb(), server.open_files()))
        print(
            f"{samples[-1][0]:>6.0f} s {samples[-1][1]:>8.1f} MB {samples[-1][2]:>4} files",
            flush=True,
        )
    for each in threads:
        each.join()
    if failures:
        raise SystemExit(failures[0])
    return samples, sum(counts)


def _client(
    server: Server, number: int, end: float, counts: list[int], failures: list[str]
) -> None:
    chance = random.Random(number)
    inputs = bodies()
    connection = Connection(server.port)
    while time.monotonic() < end and not failures:
        # A few tasks at a time, so that others become idle.
        tasks = chance.sample(list(inputs), 3)
        until = min(time.monotonic() + 30, end)
        while time.monotonic() < until and not failures:
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
