"""How fast the server is beside what people write or install instead, over HTTP on loopback.

The same MiniLM weights and texts for all: ``backprop serve``, FastAPI calling
sentence-transformers, and LitServe with batching (the better of two timeouts). Each round starts
every server anew, one after the other, and sends the same requests with 1, 8 and 32 clients.
Zero-shot with ten labels: our default against FastAPI over transformers' pipeline.

Run as ``python -m bench.serve.throughput``, on an idle machine; peers are installed by
``python -m bench.environment``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from backprop.bench import sides
from bench.environment import FOLDER, python_of
from bench.serve.client import load, request
from bench.serve.servers import Server, free_port, ours, peer

HERE = Path(__file__).parent
CLIENTS = (1, 8, 32)
LABELS = sides.LABELS[:10]
WARM = 32
MOST_CHARACTERS = 160


@dataclass
class Figures:
    """What one server did in one round with so many clients."""

    per_s: float
    cpu_s_per_1000: float
    p50_ms: float
    p99_ms: float
    memory_mb: float
    ready_s: float


Start = Callable[[], AbstractContextManager[Server]]


def main() -> None:
    """Run the rounds and print medians and ratios."""
    arguments = parse()
    rows: dict[str, Callable[[], Any]] = {
        "sentences": partial(vectors, arguments, "sentences", sentences(arguments.requests)),
        "mixed": partial(vectors, arguments, "mixed lengths", sides.texts(arguments.requests)),
        "zero-shot": partial(zero_shot, arguments),
    }
    results = {name: rows[name]() for name in arguments.only or rows}
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1, default=asdict), encoding="utf-8")


def parse() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=400, help="with 8 clients and more")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peers", type=Path, default=FOLDER, help="their environment")
    parser.add_argument("--only", nargs="*", choices=("sentences", "mixed", "zero-shot"))
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def sentences(count: int) -> list[str]:
    """Return texts of a sentence each, as people send them to a search."""
    return [text for text in sides.texts(6 * count) if len(text) < MOST_CHARACTERS][:count]


def vectors(arguments: argparse.Namespace, what: str, texts: list[str]) -> dict[str, Any]:
    """Measure text vectors."""
    python = python_of(arguments.peers)
    model = {"BENCH_MODEL": str(sides.folder(sides.ENCODER))}
    threads = str(arguments.threads)
    common = {**model, "BENCH_THREADS": threads, "OMP_NUM_THREADS": threads}
    bodies = [json.dumps({"text": text}).encode() for text in texts]
    starts: dict[str, tuple[Start, str]] = {
        "backprop": (
            partial(ours, "--preload", "text-vectorisation", "--threads", threads),
            "/text-vectorisation",
        ),
        "FastAPI": (partial(_uvicorn, python, "fastapi_vectors", common), "/vector"),
        **{
            f"LitServe {ms} ms": (partial(_litserve, python, common, ms / 1000), "/predict")
            for ms in (1, 10)
        },
    }
    found = _rounds(arguments, starts, {name: bodies for name in starts}, _cosine)
    print_table(f"text vectors, {what}", found)
    for number in CLIENTS:
        ratios(found, number)
    return found


def zero_shot(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure zero-shot classification; the peer takes seconds a request, so there are few."""
    python = python_of(arguments.peers)
    threads = str(arguments.threads)
    common = {"BENCH_MODEL": str(sides._nli()), "BENCH_THREADS": threads}
    texts = sides.texts(64)
    bodies = [json.dumps({"text": text, "labels": list(LABELS)}).encode() for text in texts]
    starts: dict[str, tuple[Start, str]] = {
        "backprop": (
            partial(ours, "--preload", "text-classification", "--threads", threads),
            "/text-classification",
        ),
        "FastAPI": (partial(_uvicorn, python, "fastapi_zero_shot", common), "/classify"),
    }
    few = argparse.Namespace(**{**vars(arguments), "requests": 16, "rounds": 1})
    found = _rounds(few, starts, {name: bodies for name in starts}, None)
    print_table("zero-shot, ten labels, our default against an NLI model", found)
    for number in CLIENTS:
        ratios(found, number)
    return found


def _uvicorn(
    python: str, script: str, environment: Mapping[str, str]
) -> AbstractContextManager[Server]:
    port = free_port()
    command = [python, "-m", "uvicorn", f"{script}:app", "--port", str(port)]
    command += ["--no-access-log", "--app-dir", str(HERE / "peers")]
    return peer(command, port, environment)


def _litserve(
    python: str, environment: Mapping[str, str], timeout_s: float
) -> AbstractContextManager[Server]:
    port = free_port()
    own = {**environment, "BENCH_PORT": str(port), "BENCH_TIMEOUT_S": str(timeout_s)}
    return peer([python, str(HERE / "peers" / "litserve_vectors.py")], port, own)


def _rounds(
    arguments: argparse.Namespace,
    starts: Mapping[str, tuple[Start, str]],
    bodies: Mapping[str, list[bytes]],
    compare: Callable[[bytes, bytes], float] | None,
) -> dict[str, dict[int, list[Figures]]]:
    found: dict[str, dict[int, list[Figures]]] = {
        name: {number: [] for number in CLIENTS} for name in starts
    }
    parity = 1.0
    for turn in range(arguments.rounds):
        answers: dict[str, dict[int, bytes]] = {}
        for name, (start, path) in starts.items():
            messages = [request(path, body) for body in bodies[name]]
            with start() as server:
                load(server.port, messages[:WARM], clients=4)
                for number in CLIENTS:
                    count = arguments.requests if number > 1 else max(arguments.requests // 4, 8)
                    cpu = server.cpu_s()
                    done = load(server.port, messages[:count], clients=number, keep=8)
                    if set(done.statuses) != {200}:
                        raise SystemExit(f"{name} answered {done.statuses}")
                    used = (server.cpu_s() - cpu) / count * 1000
                    figures = Figures(
                        done.per_s,
                        used,
                        done.percentile_ms(0.5),
                        done.percentile_ms(0.99),
                        server.memory_mb(),
                        server.ready_s,
                    )
                    found[name][number].append(figures)
                    answers[name] = done.bodies
                    print(
                        f"round {turn + 1}  {name:<16}{number:>3} clients  {_line(figures)}",
                        flush=True,
                    )
        if compare is not None:
            for name in starts:
                for number, body in answers["backprop"].items():
                    parity = min(parity, compare(body, answers[name][number]))
    if compare is not None:
        print(f"parity: cosine {parity:.6f} at least")
    return found


def _cosine(one: bytes, other: bytes) -> float:
    a, b = (np.asarray(json.loads(body)["vector"], np.float64) for body in (one, other))
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def _line(own: Figures) -> str:
    return (
        f"{own.per_s:>8.1f} requests/s{own.cpu_s_per_1000:>8.2f} s CPU a 1,000"
        f"{own.p50_ms:>9.1f} ms p50{own.p99_ms:>9.1f} ms p99{own.memory_mb:>7.0f} MB"
        f"{own.ready_s:>6.1f} s to ready"
    )


def median(own: list[Figures]) -> Figures:
    """Return the median of each figure."""
    rows = [asdict(each) for each in own]
    return Figures(**{key: statistics.median(row[key] for row in rows) for key in rows[0]})


def print_table(title: str, found: Mapping[str, Mapping[int, list[Figures]]]) -> None:
    """Print the medians."""
    print(f"\n{title}; medians of the rounds, {os.cpu_count()} cores")
    for number in CLIENTS:
        for name, own in found.items():
            print(f"{name:<16}{number:>3} clients  {_line(median(own[number]))}")


def ratios(found: Mapping[str, Mapping[int, list[Figures]]], number: int) -> None:
    """Print how we compare with each peer."""
    mine = median(found["backprop"][number])
    for name, own in found.items():
        if name == "backprop":
            continue
        its = median(own[number])
        print(
            f"{number:>3} clients, against {name}: {mine.per_s / its.per_s:.2f} x the requests/s, "
            f"{its.cpu_s_per_1000 / mine.cpu_s_per_1000:.2f} x less CPU, p50 "
            f"{mine.p50_ms / its.p50_ms:.2f} and p99 {mine.p99_ms / its.p99_ms:.2f} of its"
        )


if __name__ == "__main__":
    main()
