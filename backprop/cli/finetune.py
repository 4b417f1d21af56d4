"""``backprop finetune TASK`` and ``backprop evaluate TASK``: one command a task, from its spec."""

from __future__ import annotations

import inspect
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from backprop import artefact, catalogue
from backprop.cli import reading
from backprop.cli.flags import flag, options_of, parameters
from backprop.cli.printing import write
from backprop.cli.quiet import announced
from backprop.errors import InputError
from backprop.models.places import saved_folder
from backprop.optional import load, require
from backprop.specs import SPECS, Column, TaskSpec

__all__ = ["column_flag", "evaluating", "finetuning", "told"]

FINETUNE_HELP = """Finetune a model on your own data and save it.

backprop finetune text-classification mail.csv --text body --label folder --output mail-desk

backprop run text-classification --model mail-desk --text "Where is my parcel?"

Ctrl-C ends the training early: the best weights so far are kept and saved.
"""

EVALUATE_HELP = """Measure how good a model's answers are, on rows with the right ones.

backprop evaluate text-classification mail.csv --text body --label folder --model mail-desk
"""

COLUMNS = "Columns of the data, where they have names of their own"
TRAINING, RUN = "Training", "Model and output"
TRAINING_LOGGERS = ("backprop.finetuning", "backprop.tasks", "backprop.trainer")

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended, as shells have it."""

Flags = Mapping[str, Any]
"""What was typed, by parameter; None where a flag was left out."""

finetuning = typer.Typer(no_args_is_help=True, help=FINETUNE_HELP)
evaluating = typer.Typer(no_args_is_help=True, help=EVALUATE_HELP)


@contextmanager
def told() -> Iterator[None]:
    """Let lines through that say how a training goes: its method, and each epoch."""
    loggers = [logging.getLogger(name) for name in TRAINING_LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


# --- Commands ----------------------------------------------------------------------------


def finetune(spec: TaskSpec, flags: Flags) -> None:
    """Finetune a model on a file or folder, save it, and print the report.

    Raises:
        BackpropError: faults of the data or of a flag, among them a name to save by that is no
            good: all of those are found before the training.
    """
    name, path = _place(spec, flags["output"])
    is_new = not (path or artefact.default_path(name)).exists()
    _check_files(flags)
    task = _task(spec, flags)
    given = {key: flags[key] for key in _arguments(spec) if flags.get(key) is not None}
    with announced(), _as_flags(spec):
        report = task.finetune(str(flags["data"]), columns=_columns(spec, flags), **given)
    if report.stopped == "interrupted" and not report.history:
        _show(report, flags)
        _tell("Interrupted before an epoch had ended; nothing is saved.")
        raise typer.Exit(INTERRUPTED)
    folder = task.save(name, path=path)
    _show(report, flags)
    model = name if path is None and saved_folder(name) == folder else folder
    text = " --text …" if spec.primary.name == "text" else ""
    where = "" if is_new else ", in place of the model that was there"
    _tell(f"Saved in {folder}{where}. To use it: backprop run {spec.name} --model {model}{text}")


def evaluate(spec: TaskSpec, flags: Flags) -> None:
    """Print how good a model's answers to the rows of a file or folder are.

    Raises:
        BackpropError: faults of the data or of a flag.
    """
    _check_files(flags)
    options = {key: flags[key] for key in _answering(spec) if flags[key] is not None}
    if "labels" in options:
        options["labels"] = reading.FIELDS["labels"](spec.field("labels"), flags)
    task = _task(spec, flags)
    with announced(), _as_flags(spec):
        report = task.evaluate(
            str(flags["data"]),
            columns=_columns(spec, flags),
            variant=flags.get("variant"),
            **options,
        )
    _show(report, flags)


def _task(spec: TaskSpec, flags: Flags) -> Any:
    return load(f"backprop.tasks:{spec.task_class}")(flags["model"], device=flags["device"])


def _show(report: Any, flags: Flags) -> None:
    """Print the report, and write it to the files that were asked for."""
    if flags["json"]:
        write(f"{report.to_json()}\n")
    elif sys.stdout.isatty():
        report.display()
    else:
        write(f"{report}\n")
    if flags["report"] is not None:
        report.to_json(flags["report"])
    if flags["plot"] is not None:
        _tell(f"Drawn in {report.plot(flags['plot'])}.")


def _tell(line: str) -> None:
    """Write a line beside the answer, which a pipe or file does not get."""
    sys.stdout.flush()
    sys.stderr.write(f"{line}\n")


# --- Before the training -----------------------------------------------------------------


def _place(spec: TaskSpec, output: str | None) -> tuple[str, Path | None]:
    """Return the name to save by and, where ``output`` is a path, the folder.

    Raises:
        InputError: nothing could be saved there, or not be found by that name again.
    """
    if not output:
        raise InputError("finetune needs a name to save the model by; pass --output NAME.")
    is_path = any(mark in output for mark in (os.sep, os.altsep) if mark)
    folder = Path(output).expanduser()
    name = artefact.check_name(folder.name)
    if not is_path:
        if _is_taken(spec, name):
            raise InputError(
                f"{name!r} is the name of a catalogue model, by which the saved one could not be "
                f"loaded; pass another name, or a path such as --output ./{name}."
            )
        folder = artefact.default_path(name)
    _check_room(folder)
    return name, folder if is_path else None


def _is_taken(spec: TaskSpec, name: str) -> bool:
    known = {*catalogue.task_aliases(spec.name)}
    for entry in catalogue.entries():
        known |= {entry.name, *entry.aliases}
    return name in {each.lower() for each in known}


def _check_room(folder: Path) -> None:
    """Refuse a folder that can't be made, or that holds something else."""
    there = folder.exists() and not artefact.is_artefact(folder)
    if there and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            f"{str(folder)!r} exists and is not a saved model, so it is not replaced; choose "
            "another --output or remove it first."
        )
    above = next(each for each in folder.absolute().parents if each.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise InputError(
            f"The model can't be saved in {str(folder)!r}, since {str(above)!r} is no folder that "
            "can be written to; choose another --output."
        )


def _check_files(flags: Flags) -> None:
    """Refuse files that can't be written once the work is done."""
    for key in ("report", "plot"):
        path = flags[key]
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise InputError(
                f"--{key} {path} can't be written: a file in a folder that exists is needed."
            )
    if flags["plot"] is not None:
        require("matplotlib", extra="plot")


@contextmanager
def _as_flags(spec: TaskSpec) -> Iterator[None]:
    """Let faults of the data name flags instead of arguments of Python."""
    try:
        yield
    except InputError as error:
        message = str(error).replace("labels=[…]", "--labels LABEL,LABEL")
        for column in _all_columns(spec):
            own = column_flag(column)
            message = re.sub(rf"columns=\{{'{column.name}': (.*?)\}}", rf"{own} \1", message)
            message = message.replace(f"columns= says that {column.name!r}", f"{own} says that it")
        raise InputError(message) from error


# --- Columns -----------------------------------------------------------------------------

SINGULAR = {"similarity_scores": "score"}
"""Column to its flag, where that is not the column without its plural."""

CONTENTS = {
    "texts1": "first texts",
    "texts2": "second texts",
    "imgs1": "first images",
    "imgs2": "second images",
    "prev_qas": "earlier questions and answers",
}
"""Column to what it holds, where its name does not say it."""


def column_flag(column: Column) -> str:
    """Return the flag that names a column of the data, such as ``--text`` for ``texts``."""
    name = SINGULAR.get(column.name) or re.sub("s([12]?)$", r"\1", column.name)
    return f"--{name.replace('_', '-')}"


def _all_columns(spec: TaskSpec) -> tuple[Column, ...]:
    """Return the columns of all ways to finetune, each once."""
    return tuple({each.name: each for way in spec.training for each in way.columns}.values())


def _columns(spec: TaskSpec, flags: Flags) -> dict[str, str]:
    names = {column.name: flags[_key(column)] for column in _all_columns(spec)}
    return {name: theirs for name, theirs in names.items() if theirs is not None}


def _key(column: Column) -> str:
    # Apart from the fields and options of the task, some of which have the same names.
    return f"{column.name}_column"


def _rows(spec: TaskSpec) -> str:
    """Return what rows hold, such as ``texts and labels``."""
    ways = []
    for way in spec.training:
        *most, last = [each.name for each in way.columns if each.required]
        ways.append(f"{', '.join(most)} and {last}")
    return ", or of ".join(dict.fromkeys(ways))


# --- Flags -------------------------------------------------------------------------------

NUMBERS: Mapping[str, tuple[Any, str]] = {
    "validation_split": (float, "share of the rows to judge by; 0.15 by default"),
    "epochs": (int, "passes over the rows, at most; 20 by default"),
    "batch_size": (int, "rows of one forward pass; by default what fits in memory"),
    "optimal_batch_size": (int, "rows of an optimiser step; by default what suits the task"),
    "early_stopping_epochs": (int, "epochs without improvement before it ends; 0 never does"),
    "learning_rate": (float, "the peak; by default what was measured to work"),
    "seed": (int, "makes runs repeat; 0 by default"),
}
"""Argument of ``finetune`` to its type and what it is."""

LENGTHS = {
    "max_length": "a text",
    "max_input_length": "an input",
    "max_output_length": "an output",
}
METHODS = "auto|full|lora|head"
RESHAPING = frozenset({"details", "num_generations", "top_k"})
"""Options of tasks that give answers a form which can't be measured."""


def _arguments(spec: TaskSpec) -> list[str]:
    lengths = [name for way in spec.training for name, _ in way.arguments]
    return [*NUMBERS, "method", "variant", "class_weights", "checkpoint", *dict.fromkeys(lengths)]


def _answering(spec: TaskSpec) -> set[str]:
    """Return what ``evaluate`` may be told about the answers it measures."""
    options = {option.name for option in options_of(spec)} - RESHAPING
    return options | {field.name for field in spec.fields if field.kind == "labels"}


def _finetune_flags(spec: TaskSpec) -> Iterator[inspect.Parameter]:
    yield from _data(spec)
    yield from _variant(spec)
    method = "layers to train: auto takes the best the machine can afford, head only the last"
    yield flag("method", str, method, TRAINING, METHODS)
    for name, (kind, doc) in NUMBERS.items():
        yield flag(name, kind, doc, TRAINING, "NUMBER")
    if any(column.kind == "label" for column in _all_columns(spec)) or spec.name == "emotion":
        yield flag("class_weights", str, "for classes of unequal size", TRAINING, "balanced")
    lengths = {name: most for way in spec.training for name, most in way.arguments}
    for name, most in lengths.items():
        doc = f"most tokens of {LENGTHS[name]}, the rest is cut; {most} by default"
        yield flag(name, int, doc, TRAINING, "NUMBER")
    doc = "folder that a killed run goes on from when the same line runs again"
    yield flag("checkpoint", Path, doc, TRAINING, "FOLDER")
    yield flag("output", str, "name to save the model by, or a path; needed", RUN, "NAME")
    yield from _run(spec, spec.learner or spec.default)


def _evaluate_flags(spec: TaskSpec) -> Iterator[inspect.Parameter]:
    yield from _data(spec)
    yield from _variant(spec)
    yield from (each for each in parameters(spec) if each.name in _answering(spec))
    yield from _run(spec, spec.default)


def _data(spec: TaskSpec) -> Iterator[inspect.Parameter]:
    folder = any(column.name == "images" for column in _all_columns(spec))
    doc = "CSV, TSV, JSON or JSON lines file" + ", or folder of images by class" * folder + "."
    data = typer.Argument(help=doc, metavar="DATA", exists=True)
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    yield inspect.Parameter("data", kind, default=data, annotation=Path)
    for column in _all_columns(spec):
        holds = CONTENTS.get(column.name, column.name.replace("_", " "))
        doc = f"column that holds the {holds}"
        yield flag(_key(column), str, doc, COLUMNS, "COLUMN", column_flag(column))


def _variant(spec: TaskSpec) -> Iterator[inspect.Parameter]:
    variants = [way.variant for way in spec.training if way.variant]
    if len(variants) > 1:
        doc = "what the columns are; by default the first that they and the labels fit"
        yield flag("variant", str, doc, COLUMNS, "|".join(variants))


def _run(spec: TaskSpec, default: str) -> Iterator[inspect.Parameter]:
    yield flag("model", str, f"name or path; {default} by default", RUN, "NAME")
    yield flag("device", str, "such as cpu or cuda:0; the fastest by default", RUN, "DEVICE")
    yield flag("json", bool, "print the report as JSON", RUN, None, "--json")
    yield flag("report", Path, "file to write the report to, as JSON", RUN, "FILE")
    yield flag("plot", Path, "file to draw what there is to see in, such as .png", RUN, "FILE")


def _command(
    work: Callable[[TaskSpec, Flags], None],
    spec: TaskSpec,
    flags: Iterator[inspect.Parameter],
) -> Callable[..., None]:
    """Return the function behind a command, with the signature typer reads."""

    def command(**flags: Any) -> None:
        work(spec, flags)

    command.__dict__["__signature__"] = inspect.Signature(list(flags))
    return command


for _spec in SPECS.values():
    finetuning.command(
        _spec.name, help=f"{_spec.title}: learn from rows of {_rows(_spec)}.", no_args_is_help=True
    )(_command(finetune, _spec, _finetune_flags(_spec)))
    evaluating.command(
        _spec.name, help=f"{_spec.title}: measured on rows of {_rows(_spec)}.", no_args_is_help=True
    )(_command(evaluate, _spec, _evaluate_flags(_spec)))
