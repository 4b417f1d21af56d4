"""Times the default model of each task: one item, and one of a list of 8, once warm.

Run as ``python bench/speed.py`` on an idle machine.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import backprop
from backprop.specs import SPECS

CAT = str(Path(backprop.__file__).parent / "examples" / "cat.jpg")
SENTENCE = "The town library will close for repairs on Monday, and hopes to open again in June."
TEXT = f"{SENTENCE} Water came through the roof twice this winter. Books were saved in time."
LABELS = ["sport", "politics", "culture", "science", "business"]

INPUTS: dict[str, dict[str, Any]] = {
    "qa": {"question": "When will the library close?", "context": TEXT},
    "text-classification": {"text": SENTENCE},
    "emotion": {"text": SENTENCE},
    "summarisation": {"text": TEXT},
    "text-generation": {"text": "Name three colours."},
    "text-vectorisation": {"text": SENTENCE},
    "image-classification": {"image": CAT},
    "image-vectorisation": {"image": CAT},
    "image-text-vectorisation": {"image": CAT, "text": SENTENCE},
}
OPTIONS: dict[str, dict[str, Any]] = {
    "text-classification": {"labels": LABELS},
    "text-generation": {"max_length": 20, "min_length": 20},
}
BATCH, REPEATS = 8, 9


def main() -> None:
    """Print milliseconds an item, a line a task."""
    print(f"{os.cpu_count()} cores; median of {REPEATS}; milliseconds an item")
    print(f"{'task':<26}{'model':<27}{'one':>9}{f'of {BATCH}':>9}")
    for name, spec in SPECS.items():
        task = getattr(backprop, spec.task_class)()
        fields, options = INPUTS[name], OPTIONS.get(name, {})
        one = {**fields, **options}
        many = {**{key: [value] * BATCH for key, value in fields.items()}, **options}
        alone = median_ms(partial(task.run, one))
        batched = median_ms(partial(task.run, many)) / BATCH
        print(f"{name:<26}{spec.default:<27}{alone:>9.0f}{batched:>9.1f}", flush=True)


def median_ms(call: Callable[[], Any]) -> float:
    """Return the median time of a call in milliseconds, the first left out."""
    call()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


if __name__ == "__main__":
    main()
