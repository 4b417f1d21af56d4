"""The requirements of a valid model, each checked by code."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from backprop.artefact import check_name
from backprop.errors import InputError, UnsupportedTaskError
from backprop.models.base import BaseModel
from backprop.specs import SPECS
from backprop.testing.answers import fault_of_json
from backprop.testing.fresh import (
    Found,
    declared,
    describe_missing,
    open_again,
    pickle_fault,
    save_fault,
)
from backprop.testing.report import Check, Report
from backprop.testing.schema import Trial, one_line, try_refusals, try_task
from backprop.testing.state import changes, state

__all__ = ["check_model", "check_models"]

NOT_TRIED = "not tried"


def check_model(model: BaseModel, tasks: Sequence[str] | None = None) -> Report:
    """Return whether ``model`` meets the requirements of a valid model, each tried by code.

    It is asked in every form of its tasks' schemas, pickled and saved, and opened again in a new
    process. That takes some seconds for a small model; the model itself stays as it is.

    Args:
        model: any model, a class of your own included.
        tasks: those of its tasks to try; all by default.

    Raises:
        InputError: ``model`` is no ``BaseModel``.
        UnsupportedTaskError: it does not list one of ``tasks``.
    """
    return check_models([model], tasks)[0]


def check_models(models: Iterable[BaseModel], tasks: Sequence[str] | None = None) -> list[Report]:
    """Return a report on each of ``models``; one new process serves them all.

    Args:
        models: see ``check_model``; each may be made when its turn comes.
        tasks: those tasks of each to try; all by default.

    Raises:
        InputError: one is no ``BaseModel``.
        UnsupportedTaskError: one does not list one of ``tasks``.
    """
    with tempfile.TemporaryDirectory(prefix="backprop-check-") as name:
        folder = Path(name)
        drafts = [_draft(model, tasks, folder / str(i)) for i, model in enumerate(models)]
        found = open_again([draft.place for draft in drafts if draft.is_ready], folder)
        return [draft.report(found.get(draft.place)) for draft in drafts]


@dataclass(frozen=True)
class _Draft:
    """A report that lacks what the new process finds.

    Args:
        name: for the report.
        home: the module of the model's class.
        checks: what this process found: tasks, name, schema, json and pickle so far.
        place: where the pickle and the saved model are, if all is well so far.
    """

    name: str
    home: str
    checks: tuple[Check, ...]
    place: Path

    @property
    def is_ready(self) -> bool:
        """Whether a new process shall open the model."""
        return all(check.passed for check in self.checks)

    def report(self, found: Found | None) -> Report:
        """Return the report, given what the new process found, if it was asked."""
        if found is None:
            *here, pickle = self.checks
            late = Check("dependencies", False, NOT_TRIED, AFTERWARDS)
            if pickle.passed:
                pickle = Check("pickle", False, f"{pickle.tried}, not opened again", AFTERWARDS)
            return Report(self.name, (*here, late, pickle))
        why = describe_missing(self.home, found.missing)
        tried = (
            "opened and asked in a new process that can import only Python's own modules and the "
            f"{len(declared())} of backprop and the packages it requires"
        )
        ways = {"unpickled": found.dill, "saved and loaded": found.saved}
        faults = "; ".join(f"{way}, {fault}" for way, fault in ways.items() if fault)
        dependencies = Check("dependencies", not why, tried, why)
        pickle = Check("pickle", not faults, REOPENED, faults)
        return Report(self.name, (*self.checks[:-1], dependencies, pickle))


PICKLED = "pickled with dill"
REOPENED = (
    "pickled with dill, saved with backprop.save, each opened in a new process, asked again and "
    "the answers compared"
)
AFTERWARDS = "the requirements that are not met come first"


def _draft(model: BaseModel, tasks: Sequence[str] | None, place: Path) -> _Draft:
    """Return what can be found out in this process."""
    if not isinstance(model, BaseModel):
        raise InputError(
            f"A model to check must be a backprop.models.BaseModel; received "
            f"{type(model).__name__}; inherit from it, or wrap a callable: BaseModel(callable, …)."
        )
    name = str(model.name or type(model).__name__)
    unlisted = [task for task in tasks or () if task not in (model.tasks or ())]
    if unlisted:
        raise UnsupportedTaskError(
            f"{name} does not list {unlisted[0]!r} in its tasks: {model.tasks!r}."
        )
    before = state(model)
    checks = [_check_tasks(model), _check_name(model)]
    trials: list[Trial] = []
    if checks[0].passed:
        trials = [try_task(model, SPECS[task], before) for task in tasks or model.tasks]
        checks += [_check_schema(model, trials), _check_json(trials)]
    else:
        reason = "without a list of known tasks it is not known what to ask"
        checks += [Check(key, False, NOT_TRIED, reason) for key in ("schema", "json")]
    before = state(model)
    fault = pickle_fault(model, place)
    if not fault and all(check.passed for check in checks):
        fault = save_fault(model, place, [asked for trial in trials for asked in trial.again])
    changed = changes(before, state(model))
    if changed and not fault:
        fault = f"pickling and saving changed {changed}"
    checks.append(Check("pickle", not fault, PICKLED, fault))
    return _Draft(name, type(model).__module__, tuple(checks), place)


def _check_tasks(model: BaseModel) -> Check:
    tasks: object = model.tasks
    known = "one or more of: " + ", ".join(SPECS)
    reason = ""
    if not isinstance(tasks, list):
        reason = f"tasks is {tasks!r} of type {type(tasks).__name__}; make it a list of strings"
    elif not tasks:
        reason = f"tasks is empty; list {known}"
    else:
        strange = [task for task in tasks if not isinstance(task, str) or task not in SPECS]
        twice = [task for i, task in enumerate(tasks) if task in tasks[:i]]
        if strange:
            reason = f"{strange[0]!r} is no task; list {known}"
        elif twice:
            reason = f"{twice[0]!r} is listed twice"
    return Check("tasks", not reason, f"tasks is {one_line(repr(tasks))}", reason)


def _check_name(model: BaseModel) -> Check:
    reason = ""
    try:
        check_name(model.name)
    except InputError as error:
        reason = str(error)
    return Check("name", not reason, f"name is {one_line(repr(model.name), 120)}", reason)


def _check_schema(model: BaseModel, trials: Sequence[Trial]) -> Check:
    faults = [f"{trial.task}: {trial.fault}" for trial in trials if trial.fault]
    answered = try_refusals(model)
    tried = [trial.tried for trial in trials]
    if answered:
        faults.append(answered)
    else:
        tried.append("other tasks refused")
    tried.append("what it was given, weights, mode and random state compared before and after")
    return Check("schema", not faults, "; ".join(tried), "; ".join(faults))


def _check_json(trials: Sequence[Trial]) -> Check:
    answers = [asked for trial in trials for asked in trial.answers]
    if not answers:
        return Check("json", False, NOT_TRIED, "there is no answer to look at")
    faults = [
        f"{asked.task}: {fault}" for asked in answers if (fault := fault_of_json(asked.answer))
    ]
    return Check(
        "json", not faults, f"{len(answers)} answers written as strict JSON", "".join(faults[:1])
    )
