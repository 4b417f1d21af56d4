"""Nine tasks in one process: how fast each is beside the others, and what all need of memory.

Run as ``python bench/together.py`` on an idle machine. Each task is timed in a process of its own,
then all in one process, three times in turns; medians.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
from functools import partial
from typing import Any

import backprop
from backprop.specs import SPECS
from bench.speed import INPUTS, OPTIONS, median_ms

ROUNDS = 3


def main() -> None:
    """Print a line a task, and the peak memory of all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tasks", help="internal: time these in this process, print JSON")
    arguments = parser.parse_args()
    if arguments.tasks:
        print(json.dumps(timed(arguments.tasks.split(","))))
        return
    alone: dict[str, list[float]] = {name: [] for name in SPECS}
    together: dict[str, list[float]] = {name: [] for name in SPECS}
    peaks = []
    for _ in range(ROUNDS):
        for name in SPECS:
            alone[name].append(child(name)["ms"][name])
        found = child(",".join(SPECS))
        peaks.append(found["peak_bytes"])
        for name in SPECS:
            together[name].append(found["ms"][name])
    print(f"{'task':<26}{'alone ms':>10}{'together ms':>13}{'ratio':>8}")
    for name in SPECS:
        one, all_of_them = (statistics.median(own[name]) for own in (alone, together))
        print(f"{name:<26}{one:>10.1f}{all_of_them:>13.1f}{all_of_them / one:>8.2f}")
    print(f"peak memory of all nine: {statistics.median(peaks) / 1e9:.2f} GB")


def timed(names: list[str]) -> dict[str, object]:
    """Return each task's milliseconds for one item, all loaded first, and the peak memory."""
    calls = {}
    for name in names:
        task = getattr(backprop, SPECS[name].task_class)()
        calls[name] = partial(task.run, {**INPUTS[name], **OPTIONS.get(name, {})})
        calls[name]()
    ms = {name: median_ms(call) for name, call in calls.items()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"ms": ms, "peak_bytes": peak, "torch": "torch" in sys.modules}


def child(names: str) -> Any:
    """Return what ``timed`` finds in a new process."""
    command = [sys.executable, __file__, "--tasks", names]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
