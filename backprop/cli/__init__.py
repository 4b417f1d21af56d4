"""The command ``backprop``: every task, the catalogue, checks and downloads from a terminal.

``main`` is the entry point. Whatever goes wrong is one line on standard error: exit code 2 for an
error the caller can mend, 1 for anything else and for a check that failed, 130 after Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from typing import Annotated

import typer

import backprop
from backprop.cli import commands, run
from backprop.cli.quiet import quiet
from backprop.errors import BackpropError

__all__ = ["app", "main"]

DEBUG = "--debug"
BROKEN_PIPE = 141  # as a shell reports a program ended by SIGPIPE
INTERRUPTED = 130

app = typer.Typer(
    name="backprop",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(run.app, name="run")
commands.register(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code.

    Args:
        arguments: what follows ``backprop``; those of the process by default.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = DEBUG in given
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that can't show a character of an answer shows a stand-in instead.
        sys.stdout.reconfigure(errors="replace")
    with nullcontext() if debug else quiet():
        code = _run([argument for argument in given if argument != DEBUG], debug)
    sys.exit(code)
