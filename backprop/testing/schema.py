"""Whether a model does a task by its input schema: every form of input, tried."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from backprop.models.base import BaseModel
from backprop.pictures import describe
from backprop.specs import SPECS, TaskSpec
from backprop.testing import probes
from backprop.testing.answers import difference, fault_of_batch, fault_of_row
from backprop.testing.state import chances, changes, state

__all__ = ["Asked", "Trial", "one_line", "try_refusals", "try_task"]


class Fault(Exception):
    """What the model does wrong, in words."""


class Crash(Fault):
    """The model raised an error."""


class Refusal(Crash):
    """The model refused the input with a ValueError, as it should where it can't use it."""


@dataclass(frozen=True)
class Asked:
    """A question and its answer, to be asked again elsewhere."""

    task: str
    given: Mapping[str, Any]
    answer: Any


@dataclass(frozen=True)
class Trial:
    """What came of trying a task.

    Args:
        task: the task.
        tried: what was done, in words.
        fault: what is wrong; empty where nothing is.
        answers: every answer the model gave, and to what.
        again: questions whose answers a copy of the model must repeat.
    """

    task: str
    tried: str
    fault: str
    answers: Sequence[Asked]
    again: Sequence[Asked]


def try_task(model: BaseModel, spec: TaskSpec, before: Mapping[str, Any]) -> Trial:
    """Return what came of asking ``model`` in every form that the task's schema has.

    Args:
        model: what to ask.
        spec: the task's.
        before: the model's ``state``, which predicting must leave as it is.
    """
    prober = _Prober(model, spec)
    calm = chances()
    fault = prober.attempt(prober.try_forms)
    changed = changes({**before, **calm}, {**state(model), **chances()})
    if not fault and not changed:
        # Some options ask for chance.
        with torch.random.fork_rng(devices=[]):
            fault = prober.attempt(prober.try_options)
        changed = changes(before, state(model))
    faults = [f"predicting changed {changed}" if changed else "", fault]
    return Trial(
        spec.name,
        f"{spec.name} ({', '.join(prober.steps)})",
        "; ".join(filter(None, faults)),
        prober.answered,
        prober.again,
    )


def try_refusals(model: BaseModel) -> str:
    """Return which task the model answers though it does not list it; empty where none."""
    others = {
        name: {**probes.rows(spec)[0], **probes.short(spec)}
        for name, spec in SPECS.items()
        if name not in model.tasks
    }
    for task, given in {**others, "no-such-task": {"text": probes.TEXTS[0]}}.items():
        try:
            answer = model(copy.deepcopy(given), task=task)
        except Exception:  # any error is a refusal
            continue
        return (
            f"it is not listed in tasks, yet asked to do {task!r} it answered {describe(answer)}; "
            "raise ValueError"
        )
    return ""


class _Prober:
    """Asks one task in all its forms, from the plainest on; the first fault ends it."""

    def __init__(self, model: BaseModel, spec: TaskSpec) -> None:
        self.model = model
        self.spec = spec
        self.steps: list[str] = []
        self.answered: list[Asked] = []
        self.again: list[Asked] = []
        # Ours promise lists; a user's own model may take one item at a time.
        self.must_batch = spec.name in model.HANDLERS
        self.extra: list[str] = []

    def attempt(self, step: Callable[[], None]) -> str:
        """Return the fault that ``step`` ends with; empty where it finds none."""
        try:
            step()
        except Fault as fault:
            return str(fault)
        return ""

    def try_forms(self) -> None:
        """Ask single items and lists, with and without optional fields."""
        first = self.try_required()
        singles = self.try_singles(first)
        takes_lists = self.try_lists(singles)
        for group in probes.optional_groups(self.spec):
            if group != self.extra:
                self.try_group(group, takes_lists)

    def try_required(self) -> Any:
        """Return the answer to the required fields, with optional ones only where it needs them."""
        row = self.rows([])[0]
        try:
            return self.answer(row, row)
        except Refusal as refusal:
            for group in probes.optional_groups(self.spec):
                row = self.rows(group)[0]
                try:
                    answer = self.answer(row, row)
                except Refusal:
                    continue
                self.extra = group
                self.steps.append(f"needs {' and '.join(group)}")
                return answer
            raise Fault(str(refusal)) from refusal

    def try_singles(self, first: Any) -> list[Any]:
        """Return the answers to single items, the first of which is asked again."""
        answers = [self.answer(row, row) for row in self.rows(self.extra)]
        fault = difference(answers[0], first)
        if fault:
            raise Fault(f"asked the same twice, it gave {fault}{self.hint()}")
        self.steps.append(f"{len(answers)} single items")
        return answers

    def try_lists(self, singles: list[Any]) -> bool:
        """Return whether the model takes lists, having asked lists of three, one and none."""
        rows = self.rows(self.extra)
        whole = self.batch(rows)
        try:
            answers = self.ask(whole)
        except Crash as crash:
            if self.must_batch:
                raise
            return self.one_at_a_time(singles, one_line(crash, 120))
        if not self.must_batch and not fault_of_row(self.spec, answers, rows[0]):
            return self.one_at_a_time(singles, "a list got one answer")
        self.demand(fault_of_batch(self.spec, answers, rows), whole)
        alone = self.answers(rows[:1])
        self.demand(difference(alone[0], singles[0]), rows[0], "a list of one item differs from it")
        for i, (found, single) in enumerate(zip(answers, singles, strict=True)):
            self.demand(difference(found, single), rows[i], "it differs beside others")
        turned = self.answers([rows[2], rows[0]])
        self.demand(difference(turned[1], singles[0]), rows[0], "it differs with its neighbours")
        none = self.ask(self.batch([]))
        if none != []:
            raise Fault(f"an empty list gave {describe(none)}, not an empty list")
        self.steps.append("lists of 3, 2, 1 and 0 in any order")
        self.again.append(Asked(self.spec.name, whole, answers))
        return True

    def one_at_a_time(self, singles: list[Any], why: str) -> bool:
        """Note that the model takes no lists, which it need not."""
        self.steps.append(f"one at a time: {why}")
        self.again.append(Asked(self.spec.name, self.rows(self.extra)[0], singles[0]))
        return False

    def try_group(self, group: list[str], takes_lists: bool) -> None:
        """Ask with optional fields, which a model may refuse."""
        rows = self.rows(group)
        if group == ["labels"]:
            # A classifier of fixed labels may still take a part of its own.
            own = list(self.answered[0].answer)[:2]
            choices = [rows, [{**row, "labels": own} for row in rows]]
        else:
            choices = [rows]
        for rows in choices:
            try:
                single = self.answer(rows[0], rows[0])
            except Refusal:
                continue
            self.steps.append(" and ".join(group))
            self.again.append(Asked(self.spec.name, rows[0], single))
            if takes_lists:
                found = self.answers(rows[:2])[0]
                self.demand(difference(found, single), rows[0], "it differs beside others")
            return
        self.steps.append(f"{' and '.join(group)} refused")

    def try_options(self) -> None:
        """Ask with each option, which a model may refuse."""
        row = self.rows(self.extra)[0]
        taken: list[str] = []
        refused: list[str] = []
        for option in probes.options(self.spec):
            try:
                given = {**row, **option}
                self.answer(given, given)
            except Refusal:
                refused += option
            else:
                taken += option
        if taken:
            self.steps.append(f"options {' '.join(taken)}")
        if refused:
            self.steps.append(f"refused {' '.join(refused)}")

    def rows(self, extra: Sequence[str]) -> list[dict[str, Any]]:
        """Return single inputs with short answers."""
        return [{**row, **probes.short(self.spec)} for row in probes.rows(self.spec, extra)]

    def batch(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return ``rows`` as one input of lists."""
        options = probes.short(self.spec)
        fields = [{key: row[key] for key in row if key not in options} for row in rows]
        return {**probes.batch(fields, self.spec), **options}

    def answer(self, given: Mapping[str, Any], row: Mapping[str, Any]) -> Any:
        """Return the answer to a single item, its form checked."""
        answer = self.ask(given)
        self.demand(fault_of_row(self.spec, answer, row), given)
        return answer

    def answers(self, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Return the answers to ``rows`` asked as lists, their form checked."""
        given = self.batch(rows)
        answers = self.ask(given)
        self.demand(fault_of_batch(self.spec, answers, rows), given)
        found: list[Any] = answers
        return found

    def ask(self, given: Mapping[str, Any]) -> Any:
        """Return what the model answers, the caller's dictionary watched.

        Raises:
            Refusal: it raised ValueError.
            Fault: it raised something else, or changed what it was given.
        """
        own = copy.deepcopy(dict(given))
        try:
            answer = self.model(own, task=self.spec.name)
        except Exception as error:  # whatever a user's own code raises is the finding
            kind = Refusal if isinstance(error, ValueError) else Crash
            what = f"with {_shown(given)} it raised {type(error).__name__}: {error}"
            raise kind(one_line(what)) from error
        if own != given:
            raise Fault(f"it changed the caller's dictionary from {_shown(given)} to {_shown(own)}")
        self.answered.append(Asked(self.spec.name, given, answer))
        return answer

    def demand(self, fault: str, given: Mapping[str, Any] | None = None, what: str = "") -> None:
        """Raise Fault if there is a fault."""
        if fault:
            where = f"with {_shown(given)}: " if given is not None else ""
            hint = self.hint() if what else ""
            raise Fault(one_line(f"{where}{what}{': ' if what else ''}{fault}{hint}"))

    def hint(self) -> str:
        """Return what may be the cause of answers that vary."""
        return " (it is in training mode: call model.eval())" if self.model.training else ""


def one_line(text: object, most: int = 300) -> str:
    """Return ``text`` on one line, cut where it is long."""
    line = " ".join(str(text).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _shown(given: Mapping[str, Any]) -> str:
    """Return an input in short."""
    return ", ".join(f"{name}={describe(value)}" for name, value in given.items())
