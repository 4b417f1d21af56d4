"""Convert a model for one task, in a process that ends afterwards: python -m … PLACE TASK."""

from __future__ import annotations

import os
import sys

from backprop.errors import BackpropError
from backprop.optional import load

__all__ = ["UNFIT"]

UNFIT = 3
"""Exit code of a conversion that says on standard error, last line, what is wrong."""


def main(place: str, task: str) -> int:
    """Return the exit code: ``UNFIT`` where the last line of standard error says why."""
    os.dup2(2, 1)  # nobody reads what libraries print
    try:
        load("backprop.models.auto:AutoModel").from_pretrained(place, device="cpu").handler(task)
    except BackpropError as error:
        message = " ".join(str(error).split())
        sys.stderr.write(f"\n{message}\n")
        return UNFIT
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
