"""One side, in a process of its own: prepares, then does a round each time it is told to.

Run as ``python -m backprop.bench.worker SIDE``. It answers each line ``go`` with a line of JSON,
``{"seconds": …}``, ``result`` with the last result, and ``memory`` with ``{"peak_bytes": …}``.
"""

from __future__ import annotations

import json
import resource
import sys
import time

from backprop.bench.sides import SIDES

__all__ = ["main"]


def main(side: str) -> None:
    """Serve until standard input ends."""
    answers = sys.stdout
    sys.stdout = sys.stderr  # what libraries print must not be taken for an answer
    started = time.perf_counter()
    run = SIDES[side]()
    result = None

    def say(answer: object) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    say({"ready_s": time.perf_counter() - started})
    for line in sys.stdin:
        if line.strip() == "result":
            say(result)
            continue
        if line.strip() == "memory":
            say({"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024})
            continue
        started = time.perf_counter()
        result = run()
        say({"seconds": time.perf_counter() - started})


if __name__ == "__main__":
    main(sys.argv[1])
