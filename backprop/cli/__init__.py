"""The command ``backprop``: every task, the catalogue, checks and downloads from a terminal.

Whatever goes wrong is told on standard error, in one line but for lists of faults. Exit codes: 0 is
fine, 2 an error the caller can mend, 1 any other (and a check or a demo that failed), 130 Ctrl-C.
"""

from __future__ import annotations

import importlib.metadata
import io
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Annotated

import typer

from backprop.cli import commands, finetune, keys, run, serve, upload
from backprop.cli.printing import write
from backprop.cli.quiet import quiet
from backprop.errors import BackpropError, InputError

__all__ = ["app", "main"]

DEBUG = "--debug"
FAILED, MENDABLE, INTERRUPTED = 1, 2, 130

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(run.app, name="run")
app.add_typer(finetune.finetuning, name="finetune")
app.add_typer(finetune.evaluating, name="evaluate")
app.add_typer(commands.app)
app.add_typer(serve.app)
app.add_typer(upload.app)
app.add_typer(keys.app, name="keys")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code.

    Args:
        arguments: what follows ``backprop``; those of the process by default.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = DEBUG in given
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that lacks a character of an answer shows a stand-in for it.
        sys.stdout.reconfigure(errors="replace")
    with nullcontext() if debug else quiet(), finetune.told():
        code = _run([argument for argument in given if argument != DEBUG], debug)
    sys.exit(code)


def _version(wanted: bool) -> None:
    if wanted:
        write(f"backprop {importlib.metadata.version('backprop')}\n")
        raise typer.Exit


@app.callback()
def _backprop(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_version, is_eager=True),
    ] = False,
    debug: Annotated[
        bool, typer.Option(DEBUG, help="Show warnings, and where an error is from; goes anywhere.")
    ] = False,
) -> None:
    """Nine text and image tasks on ready models, or on models finetuned on your own data."""


def _run(arguments: list[str], debug: bool) -> int:
    """Return the exit code of a command line, its errors reported."""
    try:
        code = app(arguments, prog_name="backprop", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        return _hung_up()
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except Exception as error:
        if debug:
            raise
        message, code = _report(error)
        # There is none where a command without arguments has shown its help.
        sys.stderr.write(f"error: {message}\n" if message else "")
    return code if isinstance(code, int) else 0


def _report(error: Exception) -> tuple[str, int]:
    """Return the message, one line, and the exit code of an error."""
    # By its method, since the class of typer's own errors is another one in each of its versions.
    usage = getattr(error, "format_message", None)
    if usage is not None:
        text = _first_line(usage())
        command = getattr(getattr(error, "ctx", None), "command_path", "backprop")
        return f"{text} See: {command} --help" if text else "", MENDABLE
    if isinstance(error, BackpropError):
        # Faults of data have a line each.
        text = str(error).strip()
        return text if isinstance(error, InputError) else _first_line(text), MENDABLE
    return f"{type(error).__name__}: {_first_line(str(error))} ({DEBUG} shows where)", FAILED


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


def _hung_up() -> int:
    """Return the exit code where the reader of our output has gone."""
    # Else the interpreter would try to flush the rest as it ends, and complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FAILED
