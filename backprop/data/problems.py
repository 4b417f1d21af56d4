"""Everything that is wrong with training data, gathered so that it is said at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from backprop.errors import InputError

__all__ = ["SHOWN", "Fault", "Problems"]

SHOWN = 10
"""Rows listed for one kind of fault; the others are counted."""


class Fault(Exception):
    """What is wrong with one value; rows with the same fault are listed together.

    Args:
        what: such as ``"blank"``; "1 value is" or "2 values are" comes before it.
        remedy: what to do.
        received: the value, for the message.
    """

    def __init__(self, what: str, remedy: str, received: str = "") -> None:
        super().__init__(what)
        self.what, self.remedy, self.received = what, remedy, received


@dataclass(frozen=True)
class Kind:
    """Faults that share a line of the message."""

    column: str
    what: str
    remedy: str


class Problems:
    """A list of faults that becomes one error.

    Args:
        place: says where a row is, such as ``row 3 (line 5)``.
    """

    def __init__(self, place: Callable[[int], str] = "row {}".format) -> None:
        self.place = place
        self._lines: list[str] = []
        self._rows: dict[Kind, list[str]] = {}

    def add(self, text: str) -> None:
        """Note a fault of the data as a whole."""
        self._lines.append(text)

    def add_row(self, column: str, row: int, fault: Fault) -> None:
        """Note the fault of one value."""
        where = self.place(row) + (f": {fault.received}" if fault.received else "")
        self._rows.setdefault(Kind(column, fault.what, fault.remedy), []).append(where)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._lines or self._rows)

    def check(self, task: str) -> None:
        """Raise all that was noted.

        Raises:
            InputError: something was.
        """
        lines = [*self._lines, *(_line(kind, rows) for kind, rows in self._rows.items())]
        if len(lines) == 1:
            raise InputError(f"The data for {task} can't be used: {lines[0]}")
        if lines:
            listed = "".join(f"\n- {line}" for line in lines)
            raise InputError(f"The data for {task} has {len(lines)} kinds of faults:{listed}")


def _line(kind: Kind, rows: list[str]) -> str:
    count = "1 value is" if len(rows) == 1 else f"{len(rows):,} values are"
    more = f", … and {len(rows) - SHOWN:,} more" if len(rows) > SHOWN else ""
    listed = ", ".join(rows[:SHOWN])
    return f"{kind.column}: {count} {kind.what}; {kind.remedy} ({listed}{more})."
