"""``backprop finetune TASK`` and ``backprop evaluate TASK``: one command a task, from its spec."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from backprop import artefact
from backprop.cli.printing import write
from backprop.cli.quiet import announced
from backprop.errors import InputError
from backprop.optional import load
from backprop.specs import SPECS, Column, TaskSpec

__all__ = ["evaluating", "finetuning"]

FINETUNE_HELP = """Finetune a model on your own data and save it.

backprop finetune text-classification mail.csv --text body --label folder --output mail-sorter

backprop run text-classification --model mail-sorter --text "Where is my parcel?"
"""

EVALUATE_HELP = """Measure how good a model's answers are.

backprop evaluate text-classification mail.csv --text body --label folder --model mail-sorter
"""

COLUMNS, TRAINING, RUN = "Columns of the data", "Training", "Model and output"

IRREGULAR = {"similarity_scores": "score", "prev_qas": "prev-qa"}
"""Column to its flag, where that is not the column's singular."""

finetuning = typer.Typer(no_args_is_help=True, help=FINETUNE_HELP)
evaluating = typer.Typer(no_args_is_help=True, help=EVALUATE_HELP)


def column_flag(column: Column) -> str:
    """Return the flag that names a column of the data, such as ``--text`` for ``texts``."""
    name = IRREGULAR.get(column.name)
    if name is None:
        name = column.name
        for ending in ("s1", "s2", "s"):
            if name.endswith(ending):
                name = name.removesuffix(ending) + ending[1:]
                break
    return f"--{name.replace('_', '-')}"


def finetune(spec: TaskSpec, flags: Mapping[str, Any]) -> None:
    """Finetune a model on a file or folder, save it, and print the report.

    Raises:
        BackpropError: faults of the data or of a flag.
    """
    output = flags["output"]
    if output is None:
        raise InputError("finetune needs a name to save the model by; pass --output NAME.")
    artefact.check_name(Path(output).name)
    task = load(f"backprop.tasks:{spec.task_class}")(flags["model"], device=flags["device"])
    given = {name: value for name, value in flags.items() if value is not None}
    arguments = {name: given[name] for name in _arguments(spec) if name in given}
    with announced():
        report = task.finetune(str(flags["data"]), columns=_columns(spec, flags), **arguments)
    report.display()
    _write_report(report, flags)
    is_path = len(Path(output).parts) > 1
    folder = task.save(Path(output).name, path=output if is_path else None)
    sys.stderr.write(
        f"Saved. Use it with: backprop run {spec.name} --model {_shown(output, folder)}\n"
    )


def _shown(output: str, folder: Path) -> str:
    return str(folder) if len(Path(output).parts) > 1 else output


def evaluate(spec: TaskSpec, flags: Mapping[str, Any]) -> None:
    """Print how good a model's answers to the rows of a file or folder are.

    Raises:
        BackpropError: faults of the data or of a flag.
    """
    task = load(f"backprop.tasks:{spec.task_class}")(flags["model"], device=flags["device"])
    report = task.evaluate(
        str(flags["data"]), columns=_columns(spec, flags), variant=flags.get("variant")
    )
    report.display()
    _write_report(report, flags)


def _write_report(report: Any, flags: Mapping[str, Any]) -> None:
    if flags.get("report") is not None:
        report.to_json(flags["report"])
    if flags.get("plot") is not None:
        write(f"{report.plot(flags['plot'])}\n")


def _columns(spec: TaskSpec, flags: Mapping[str, Any]) -> dict[str, str]:
    return {name: flags[name] for name in _all_columns(spec) if flags.get(name) is not None}


def _all_columns(spec: TaskSpec) -> dict[str, Column]:
    return {column.name: column for way in spec.training for column in way.columns}


NUMBERS: Mapping[str, tuple[Any, str]] = {
    "validation_split": (float, "share of the rows to judge by; 0.15 by default"),
    "epochs": (int, "passes over the data, at most; 20 by default"),
    "batch_size": (int, "rows of one forward pass; by default what fits in memory"),
    "optimal_batch_size": (int, "rows of an optimiser step"),
    "early_stopping_epochs": (int, "epochs without improvement before it ends; 0 never does"),
    "learning_rate": (float, "peak; by default what was measured to work"),
    "seed": (int, "makes runs repeat; 0 by default"),
}
"""Argument of ``finetune`` to its type and what it is."""


def _arguments(spec: TaskSpec) -> list[str]:
    lengths = [name for way in spec.training for name, _ in way.arguments]
    return [*NUMBERS, "method", "variant", "class_weights", "checkpoint", *dict.fromkeys(lengths)]


def _parameters(spec: TaskSpec, *, trains: bool) -> list[inspect.Parameter]:
    data = typer.Argument(help="CSV, TSV, JSON or JSON lines file, or folder of images by class.")
    first = inspect.Parameter(
        "data", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=data, annotation=Path
    )
    return [
        first,
        *(
            _flag(name, str, f"name of the column with the {name}", COLUMNS, column_flag(column))
            for name, column in _all_columns(spec).items()
        ),
        *(_training_flags(spec) if trains else ()),
        *_variant_flag(spec),
        _flag("model", str, f"name or path; {spec.default} by default", RUN),
        _flag("device", str, "such as cpu or cuda:0; the fastest by default", RUN),
        *([_flag("output", str, "name to save the model by, or a path", RUN)] if trains else ()),
        _flag("report", Path, "file to write the report to, as JSON", RUN),
        _flag("plot", Path, "file to draw curves and confusion matrix in, such as .png", RUN),
    ]


def _training_flags(spec: TaskSpec) -> Iterator[inspect.Parameter]:
    yield _flag("method", str, "auto, full, lora or head", TRAINING)
    for name, (kind, doc) in NUMBERS.items():
        yield _flag(name, kind, doc, TRAINING)
    if any(column.kind == "label" for column in _all_columns(spec).values()):
        yield _flag("class_weights", str, "balanced, for classes of unequal size", TRAINING)
    yield _flag("checkpoint", Path, "folder that a killed run goes on from", TRAINING)
    lengths = {name: most for way in spec.training for name, most in way.arguments}
    for name, most in lengths.items():
        yield _flag(name, int, f"{name.replace('_', ' ')} in tokens; {most} by default", TRAINING)


def _variant_flag(spec: TaskSpec) -> Iterator[inspect.Parameter]:
    variants = [way.variant for way in spec.training if way.variant]
    if len(variants) > 1:
        yield _flag("variant", str, f"{' or '.join(variants)}; by default by columns", TRAINING)


def _flag(name: str, kind: Any, doc: str, panel: str, *written: str) -> inspect.Parameter:
    """Return a keyword-only parameter; it is None where the flag is left out."""
    text = f"{doc[0].upper()}{doc[1:]}."
    flag = typer.Option(None, *written, help=text, rich_help_panel=panel)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=flag, annotation=kind | None
    )


def _command(
    work: Callable[[TaskSpec, Mapping[str, Any]], None], spec: TaskSpec, *, trains: bool
) -> Callable[..., None]:
    """Return the function behind a command, with the signature typer reads."""

    def command(**flags: Any) -> None:
        work(spec, flags)

    command.__dict__["__signature__"] = inspect.Signature(_parameters(spec, trains=trains))
    return command


for _spec in SPECS.values():
    _help = f"{_spec.title}: learn from rows of your own."
    finetuning.command(_spec.name, help=_help, no_args_is_help=True)(
        _command(finetune, _spec, trains=True)
    )
    _help = f"{_spec.title}: measure answers to rows of your own."
    evaluating.command(_spec.name, help=_help, no_args_is_help=True)(
        _command(evaluate, _spec, trains=False)
    )
