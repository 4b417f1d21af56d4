"""Ctrl-C that never falls in the middle of a change to weights."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["Interrupts"]


class Interrupts:
    """Handles Ctrl-C while its ``with`` block runs.

    The first one raises KeyboardInterrupt at once, or at the end of a ``held`` block; the second
    always at once. Outside the main thread, or where the program has a handler of its own, Python
    or that handler does what it always does.

    Args:
        at_once: False where several processes must stop at the same step: the first Ctrl-C then
            only sets ``asked``.
    """

    def __init__(self, *, at_once: bool) -> None:
        self.asked = False
        self.again = False
        self._at_once = at_once
        self._held = False
        self._before: Any = None

    def __enter__(self) -> Interrupts:
        """Take over from Python's own handler."""
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        """Hand back to Python's own handler."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def disarm(self) -> None:
        """Let the first Ctrl-C have no effect from here on: there is nothing left to stop."""
        self._at_once = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the first Ctrl-C back until the block has ended."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self.asked and self._at_once:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.again = self.asked
        self.asked = True
        if self.again or (self._at_once and not self._held):
            raise KeyboardInterrupt
