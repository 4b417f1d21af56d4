"""What a check of a model found: one line a requirement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["REQUIREMENTS", "Check", "Report"]

REQUIREMENTS: Mapping[str, str] = MappingProxyType(
    {
        "tasks": "has a list of known tasks",
        "name": "has a valid name",
        "schema": "does its tasks by their input schemas",
        "json": "gives JSON",
        "dependencies": "needs no undeclared package",
        "pickle": "survives dill and saving",
    }
)
"""The requirements of a valid model, in the order they are checked, to how a report says them."""


@dataclass(frozen=True)
class Check:
    """One requirement and whether a model meets it.

    Args:
        requirement: a key of ``REQUIREMENTS``.
        passed: whether it is met; False too where it could not be tried.
        tried: what was done to find out.
        reason: why it is not met; empty where it is.
    """

    requirement: str
    passed: bool
    tried: str
    reason: str = ""

    def __str__(self) -> str:
        """Return one line."""
        verdict = "pass" if self.passed else "FAIL"
        why = "" if self.passed else f"; {self.reason}"
        return f"{verdict}  {REQUIREMENTS[self.requirement]}: {self.tried}{why}"


@dataclass(frozen=True)
class Report:
    """The requirements of a model, each checked.

    Args:
        name: the model's name, or its class where it has none.
        checks: one a requirement, in the order of ``REQUIREMENTS``.
    """

    name: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every requirement is met."""
        return all(check.passed for check in self.checks)

    def __getitem__(self, requirement: str) -> Check:
        """Return the check of one requirement, by its key in ``REQUIREMENTS``."""
        return self.checks[list(REQUIREMENTS).index(requirement)]

    def __str__(self) -> str:
        """Return a summary and a line for each requirement."""
        return "\n".join([self.summary, *map(str, self.checks)])

    @property
    def summary(self) -> str:
        """The first line: how many requirements are met."""
        met = sum(check.passed for check in self.checks)
        return f"{self.name} meets {met} of {len(self.checks)} requirements of a model"

    def display(self) -> None:
        """Print the report as a table."""
        shown = Table(title=self.summary, title_justify="left", header_style="bold")
        shown.add_column("", no_wrap=True)
        shown.add_column("A valid model", ratio=1)
        shown.add_column("Tried", ratio=3)
        for check in self.checks:
            verdict = Text("✓", "green") if check.passed else Text("✗", "bold red")
            tried = Text(check.tried)
            if not check.passed:
                tried.append(f"\n{check.reason}", "red")
            shown.add_row(verdict, REQUIREMENTS[check.requirement], tried)
        Console().print(shown)
