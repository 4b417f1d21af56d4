"""A terminal that shows this library's warnings, and no other library's noise."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["announced", "quiet"]

# Read by the libraries when they are first imported, which is later than this.
ENVIRONMENT = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_VERBOSITY": "error",
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}


@contextmanager
def quiet() -> Iterator[None]:
    """Write our own log warnings to standard error, one ``warning: …`` line each, and no others.

    Afterwards all is as it was, for programs that run the command line in their own process.
    """
    ours, root = logging.getLogger("backprop"), logging.getLogger()
    lines, nothing = logging.StreamHandler(), logging.NullHandler()
    lines.setFormatter(_Line())
    added = {key: value for key, value in ENVIRONMENT.items() if key not in os.environ}
    os.environ.update(added)
    ours.addHandler(lines)
    # With a handler at the root logging's last resort, standard error, stays unused.
    root.addHandler(nothing)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        ours.removeHandler(lines)
        root.removeHandler(nothing)
        for key in added:
            os.environ.pop(key, None)


@contextmanager
def announced() -> Iterator[None]:
    """Let lines through that say what is being fetched or converted."""
    logger = logging.getLogger("backprop.progress")
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)


class _Line(logging.Formatter):
    """One line a record; those that are no warnings have no word in front."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line."""
        message = " ".join(record.getMessage().split())
        return (
            f"{record.levelname.lower()}: {message}" if record.levelno > logging.INFO else message
        )
