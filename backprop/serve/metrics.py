"""What a server counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

__all__ = ["Metrics"]

LATENCY_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

Depths = Callable[[], Mapping[tuple[str, str], int]]


class Metrics:
    """Counters and histograms, each by task and model; names of models are those that exist."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        both = ("task", "model")
        self._latency = Histogram(
            "backprop_request_seconds",
            "From the request's first byte to its answer",
            both,
            buckets=LATENCY_S,
            registry=self.registry,
        )
        self._batch = Histogram(
            "backprop_batch_rows",
            "Rows that were computed together",
            both,
            buckets=ROWS,
            registry=self.registry,
        )
        self._computing = Counter(
            "backprop_compute_seconds", "Time spent on batches", both, registry=self.registry
        )
        self._tokens = Counter(
            "backprop_tokens", "Tokens read and written", ("model", "kind"), registry=self.registry
        )
        self._rejects = Counter(
            "backprop_rejects", "Requests refused", ("reason",), registry=self.registry
        )
        self._batches: dict[tuple[str, str], tuple[int, int]] = {}

    def watch(self, depths: Depths) -> None:
        """Tell queue depths whenever metrics are read."""
        self.registry.register(_Depths(depths))

    def request(self, task: str, model: str, seconds: float) -> None:
        """Count a request that was answered."""
        self._latency.labels(task, model).observe(seconds)

    def batch(self, model: str, task: str, rows: int, seconds: float) -> None:
        """Count a batch."""
        self._batch.labels(task, model).observe(rows)
        self._computing.labels(task, model).inc(seconds)
        count, total = self._batches.get((model, task), (0, 0))
        self._batches[model, task] = count + 1, total + rows

    def batch_mean(self, model: str, task: str) -> float | None:
        """Return the mean number of rows of a batch."""
        count, total = self._batches.get((model, task), (0, 0))
        return round(total / count, 2) if count else None

    def tokens(self, model: str, read: int, written: int) -> None:
        """Count tokens."""
        self._tokens.labels(model, "read").inc(read)
        self._tokens.labels(model, "written").inc(written)

    def reject(self, reason: str) -> None:
        """Count a request that was refused."""
        self._rejects.labels(reason).inc()

    def text(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        return generate_latest(self.registry)


class _Depths(Collector):
    """Rows that wait, read when asked."""

    def __init__(self, depths: Depths) -> None:
        self._depths = depths

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauge."""
        gauge = GaugeMetricFamily(
            "backprop_queue_rows", "Rows that wait to be computed", labels=["model", "task"]
        )
        for (model, task), rows in self._depths().items():
            gauge.add_metric([model, task], rows)
        yield gauge
