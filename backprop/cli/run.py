"""``backprop run TASK``: one command a task, made from its spec."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import typer

from backprop.cli import printing, reading
from backprop.cli.flags import parameters
from backprop.errors import InputError
from backprop.optional import load
from backprop.specs import SPECS, TaskSpec

__all__ = ["app"]

HELP = """Run a task on texts and images, by flags, files, standard input or JSON lines.

backprop run qa --question "Where does Sally live?" --context-file sally.txt

ls *.jpg | backprop run image-classification --image - --lines --labels cat,dog

backprop run emotion --jsonl texts.jsonl > emotions.jsonl
"""

HERE = ("device", "engine", "precision")
"""Flags of models that run on this machine."""

app = typer.Typer(no_args_is_help=True, help=HELP)


def answer(spec: TaskSpec, flags: reading.Flags) -> None:
    """Read the input, run the task once over all of it, and print the answers in order.

    Raises:
        BackpropError: the input does not fit, or there is no such model.
    """
    call = reading.read(spec, flags)
    as_json = flags["json"] or flags["jsonl"] is not None
    if flags.get("stream") and (as_json or not call.single):
        raise InputError("--stream prints one answer as it comes; leave out batches and JSON.")
    task = load(f"backprop.tasks:{spec.task_class}")(
        flags["model"],
        api_url=flags["api_url"],
        api_key=flags["api_key"],
        device=flags["device"],
        engine=flags["engine"] or "auto",
        precision=flags["precision"] or "float32",
    )
    if task.is_remote and (own := [f"--{name}" for name in HERE if flags[name] is not None]):
        raise InputError(
            f"A server computes as it was started; received {', '.join(own)}, which only models "
            "that run here heed; leave that out."
        )
    if flags.get("stream"):
        for piece in task.stream(**call.arguments):
            printing.write(piece)
        printing.write("\n")
        return
    found = task(**call.arguments)
    answers = [found] if call.single else found
    if as_json:
        printing.as_json(answers)
    else:
        printing.as_text(answers, shorten="top_k" not in call.options)


def _command(spec: TaskSpec) -> Callable[..., None]:
    """Return the function behind ``backprop run TASK``, with the signature typer reads."""

    def command(**flags: Any) -> None:
        answer(spec, flags)

    command.__dict__["__signature__"] = inspect.Signature(parameters(spec))
    return command


def _summary(spec: TaskSpec) -> str:
    """Return what a task takes and gives, in one line."""
    taken = " and ".join(field.name for field in spec.fields if field.required)
    return f"{spec.title}: {taken} in, {spec.answer} out."


for _spec in SPECS.values():
    app.command(_spec.name, help=_summary(_spec), no_args_is_help=True)(_command(_spec))
