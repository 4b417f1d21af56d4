"""``kill -9`` of a server at random moments of uploads: is every version whole, or absent?

Two clients upload one model after another, each with new weights. The server is killed at a
random moment and started again; the clients then go on with what was broken off. After each start
every version that was acknowledged must be there, with the files that were sent, and every version
that is there must be complete: each file is read back and hashed. At last many clients upload one
name at once, and each must get a version of its own.

Run as ``python -m bench.serve.kills``; the exit code is 1 if anything was lost or partial.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from safetensors.numpy import load, save

from backprop import manifest
from backprop.serve.settings import Settings
from backprop.serve.store import Hub
from backprop.serve.vetting import vet
from bench.serve.servers import ours
from tests.plain_artefacts import as_json, plain, sealed

NAMES = ("first", "second")
POSITIONS = 100_000
"""Rows of one table of the weights, so that a file takes a while to send: 3.2 MB."""
CHUNK_BYTES, CHUNK_S = 64 << 10, 0.01

Files = dict[str, bytes]
Listed = dict[str, dict[str, Any]]


@dataclass
class Tally:
    """What clients sent and were told, and what was wrong with it later."""

    sent: list[Listed] = field(default_factory=list)
    acknowledged: dict[tuple[str, int], Listed] = field(default_factory=dict)
    checked: set[tuple[str, int]] = field(default_factory=set)
    resumed: int = 0
    broken_off: int = 0
    faults: list[str] = field(default_factory=list)


def main() -> None:
    """Kill a server so many times, then upload by many at once; print what was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        data, tally = Path(place) / "data", Tally()
        kill_often(data, tally, arguments.count, random.Random(arguments.seed))
        numbers = upload_at_once(data, arguments.clients)
        rebuild(data, tally)
    for fault in tally.faults:
        print(fault)
    distinct = len(set(numbers))
    print(
        f"{arguments.count} kills: {len(tally.acknowledged)} versions acknowledged and "
        f"{len(tally.checked)} there, {tally.broken_off} uploads broken off, {tally.resumed} files "
        f"gone on with; {len(tally.faults)} lost or partial; {arguments.clients} clients at once: "
        f"{distinct} distinct versions"
    )
    sys.exit(1 if tally.faults or distinct != arguments.clients else 0)


def kill_often(data: Path, tally: Tally, count: int, chance: random.Random) -> None:
    """Kill a server ``count`` times while two clients upload, and check it after each start."""
    uploads = {name: new_files() for name in NAMES}
    upload_s = measure(data)
    for turn in range(count + 1):
        with ours(data=data) as server, open_client(server.port) as client:
            check(client, tally)
            if turn == count:
                return
            seen = len(tally.acknowledged)
            start = time.monotonic()
            threads = [
                threading.Thread(target=upload_on, args=(server.port, name, uploads, tally))
                for name in NAMES
            ]
            for each in threads:
                each.start()
            time.sleep(chance.uniform(0, 1.5 * upload_s))
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()
            for each in threads:
                each.join()
            done = len(tally.acknowledged) - seen
            if done:
                # What an upload takes here, so that kills fall on all of its moments alike.
                upload_s += 0.2 * ((time.monotonic() - start) * len(NAMES) / done - upload_s)
            print(
                f"kill {turn + 1}: {len(tally.acknowledged)} acknowledged, {tally.broken_off} "
                f"broken off, {len(tally.faults)} faults, ready in {server.ready_s:.1f} s",
                flush=True,
            )


def measure(data: Path) -> float:
    """Return the seconds that two uploads at once take, with no kill."""
    with ours(data=data) as server:
        start = time.monotonic()
        run_together(2, lambda turn: upload_one(server.port, f"measured-{turn}"))
        return time.monotonic() - start


def upload_one(port: int, name: str) -> int:
    """Return the number that a new model gets."""
    with open_client(port) as client:
        return upload(client, name, new_files(), Tally())


def run_together(count: int, work: Callable[[int], object]) -> None:
    """Run ``work`` in so many threads, and return when all have ended."""
    threads = [threading.Thread(target=work, args=(turn,)) for turn in range(count)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()


def upload_on(port: int, name: str, uploads: dict[str, Files], tally: Tally) -> None:
    """Upload one version after another until the server is gone."""
    with open_client(port) as client:
        try:
            while True:
                listed = list_of(uploads[name])
                tally.sent.append(listed)
                number = upload(client, name, uploads[name], tally)
                tally.acknowledged[name, number] = listed
                uploads[name] = new_files()
        except httpx.TransportError:
            tally.broken_off += 1
        except Exception as error:
            tally.faults.append(f"an upload of {name!r} was refused: {error}")


def upload(client: httpx.Client, name: str, files: Files, tally: Tally) -> int:
    """Return the number of the version that the server made of ``files``."""
    for content in files.values():
        url = f"/blobs/{hashlib.sha256(content).hexdigest()}"
        head = client.head(url)
        while head.status_code == 404:
            offset = int(head.headers["upload-offset"])
            tally.resumed += offset > 0
            answer = client.put(
                url,
                content=chunks(content[offset:]),
                headers={
                    "content-length": str(len(content) - offset),
                    "content-type": "application/octet-stream",
                    "upload-length": str(len(content)),
                    "upload-offset": str(offset),
                },
            )
            if answer.status_code not in (200, 201, 409):
                raise RuntimeError(f"{answer.status_code} {answer.text}")
            head = client.head(url)
    answer = client.post(f"/models/{name}/versions", json={"files": list_of(files)})
    if answer.status_code != 201:
        raise RuntimeError(f"{answer.status_code} {answer.text}")
    return int(answer.json()["version"])


def check(client: httpx.Client, tally: Tally) -> None:
    """Note each acknowledged version that is missing or changed, and each that is not whole."""
    there = {
        (name, each["version"])
        for name in NAMES
        for each in client.get(f"/models/{name}/versions").json().get("versions", [])
    }
    tally.faults += [f"{key} is lost" for key in sorted(tally.acknowledged.keys() - there)]
    for name, number in sorted(there - tally.checked):
        tally.checked.add((name, number))
        files = client.get(f"/models/{name}/versions/{number}").json()["files"]
        if files not in tally.sent or files != tally.acknowledged.get((name, number), files):
            tally.faults.append(f"{name} {number} has other files than were sent")
        for path, facts in files.items():
            content = client.get(f"/blobs/{facts['sha256']}").content
            if hashlib.sha256(content).hexdigest() != facts["sha256"]:
                tally.faults.append(f"{path!r} of {name} {number} is not whole")


def upload_at_once(data: Path, clients: int) -> list[int]:
    """Return the numbers that so many clients get who upload one name at the same moment."""
    numbers: list[int] = []
    with ours(data=data) as server:
        start = time.monotonic()
        run_together(clients, lambda _: numbers.append(upload_one(server.port, "together")))
        seconds = time.monotonic() - start
    print(f"{clients} clients at once: {seconds:.1f} s for all, {seconds / clients:.2f} s each")
    return numbers


def rebuild(data: Path, tally: Tally) -> None:
    """Build the folder of each version anew from what is stored, once the server has ended."""
    hub = Hub(Settings(data=data), vet=vet)
    for model in hub.models():
        for version in hub.versions(model.name):
            found = manifest.describe(hub.materialise(version))
            if found != dict(version.files):
                tally.faults.append(f"{version.name} {version.number} can't be built")
    hub.close()


def new_files() -> Files:
    """Return a model that the server takes, with weights of its own."""
    files = plain()
    config = json.loads(files["config.json"]) | {"max_position_embeddings": POSITIONS}
    tensors = load(files["model.safetensors"])
    values = np.frombuffer(os.urandom(POSITIONS * 8), np.uint8).reshape(POSITIONS, 8)
    tensors["bert.embeddings.position_embeddings.weight"] = values.astype(np.float32)
    weights = save(tensors, {"format": "pt"})
    return sealed(files | {"config.json": as_json(config), "model.safetensors": weights})


def list_of(files: Files) -> Listed:
    """Return what a client says of the files when it commits them."""
    return {
        path: {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
        for path, content in sorted(files.items())
    }


def chunks(content: bytes) -> Iterator[bytes]:
    """Yield ``content`` piece by piece, at the pace of a line, so that kills fall on it too."""
    for start in range(0, len(content), CHUNK_BYTES):
        time.sleep(CHUNK_S)
        yield content[start : start + CHUNK_BYTES]


def open_client(port: int) -> httpx.Client:
    """Return a client of the server at this port."""
    return httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120)


if __name__ == "__main__":
    main()
