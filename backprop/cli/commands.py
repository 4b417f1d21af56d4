"""The commands beside ``run``: models, check, pull and demo."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from backprop import catalogue
from backprop.cli.printing import write
from backprop.cli.quiet import announced
from backprop.client import references
from backprop.errors import InputError, NotFoundError
from backprop.models import places
from backprop.models.auto import AutoModel
from backprop.optional import load
from backprop.specs import SPECS

__all__ = ["app"]

FAILED = 1
TASKS = ", ".join(SPECS)

app = typer.Typer()


@app.command()
def models(
    task: Annotated[str | None, Option(help=f"Only models for one of: {TASKS}.")] = None,
    language: Annotated[str | None, Option(help="Only models for it, such as en or de.")] = None,
    size: Annotated[
        str | None, Option(help="Only models of this size.", metavar="|".join(catalogue.SIZES))
    ] = None,
    licence: Annotated[str | None, Option(help="Only with it, such as Apache-2.0.")] = None,
    finetunable: Annotated[bool | None, Option(help="Only models that can be finetuned.")] = None,
    offline: Annotated[bool | None, Option(help="Only models that need no network.")] = None,
    as_json: Annotated[bool, Option("--json", help="Print all there is to know, as JSON.")] = False,
) -> None:
    """List the models of the catalogue; in a pipe one tab-separated line each."""
    filters: dict[str, Any] = {
        "language": language,
        "size": size,
        "licence": licence,
        "finetunable": finetunable,
        "offline": offline,
    }
    if as_json:
        found = AutoModel.list_models(task, **filters)
        write(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    elif sys.stdout.isatty():
        aliases = catalogue.task_aliases(task) if task else None
        AutoModel.list_models(task, display=True, aliases=aliases, **filters)
    else:
        for entry in catalogue.entries(task, **filters):
            write(f"{entry.name}\t{entry.size}\t{entry.licence}\t{','.join(entry.tasks)}\n")


@app.command(no_args_is_help=True)
def check(
    name: Annotated[str, Argument(metavar="NAME_OR_PATH", help="A model's name or folder.")],
    trust_pickle: Annotated[
        bool,
        Option("--trust-pickle", help="Unpickle a model of its own class; this runs its code."),
    ] = False,
    device: Annotated[str | None, Option(help="Such as cpu or cuda:0.")] = None,
) -> None:
    """Check a model against the six requirements of models, and say what was tried.

    Ends with exit code 1 if one is not met.
    """
    if trust_pickle:
        model = load("backprop.models.saving:load")(name, trust_pickle=True, device=device)
    else:
        model = AutoModel.from_pretrained(name, device=device)
    report = load("backprop.testing:check_model")(model)
    report.display()
    if not report.passed:
        raise typer.Exit(FAILED)


@app.command(no_args_is_help=True)
def pull(
    names: Annotated[
        list[str] | None,
        Argument(metavar="NAME…", help="Models by name; hub://NAME of $BACKPROP_API_URL."),
    ] = None,
    starter: Annotated[bool, Option("--starter", help="All models of size starter.")] = False,
) -> None:
    """Fetch models into the cache, so that they work without a network."""
    wanted = list(names or ())
    if starter:
        wanted += [entry.name for entry in catalogue.entries(size="starter")]
    if not wanted:
        raise InputError("pull needs the name of a model, or --starter. See: backprop models")
    fetchers = dict(part for name in wanted for part in _parts(name))
    with announced():
        for name, fetch in fetchers.items():
            write(f"{name}\t{fetch()}\n")


@app.command()
def demo() -> None:
    """See all nine tasks answer, then a model finetuned, saved and used in another process."""
    with announced():
        passed = load("backprop.demo:demo")()
    if not passed:
        raise typer.Exit(FAILED)


BENCH_ROWS = (
    *("vectors", "vector", "prompt", "prompts", "loop", "images", "nli", "zero-shot"),
    *("cold", "load"),
)
"""Rows of ``backprop.bench``, which would take long to import."""


@app.command()
def bench(
    rows: Annotated[
        list[str] | None,
        Argument(metavar="ROW…", help=f"Of {', '.join(BENCH_ROWS)}; all by default."),
    ] = None,
    json_path: Annotated[
        Path | None, Option("--json", metavar="FILE", help="Write all figures there too.")
    ] = None,
) -> None:
    """Measure this library beside sentence-transformers and transformers, on this machine.

    Takes some ten minutes, and wants the machine for itself. The exit code is 1 if a ratio is
    below the one beside it, which is what the project aims at.
    """
    with announced():
        lines = load("backprop.bench:main")(rows or (), json_path)
    if not all(line.is_met for line in lines):
        raise typer.Exit(FAILED)


def _parts(name: str) -> Iterator[tuple[str, Callable[[], Path]]]:
    """Yield what to fetch for a model: the name and fetcher of it, or of those it is made of.

    Raises:
        NotFoundError: there is no such model.
    """
    if references.is_reference(name):
        yield name, partial(places.find_folder, name)
        return
    try:
        entry = catalogue.get(name)
    except NotFoundError:
        if not places.is_repository(name):
            raise
        yield name, partial(places.fetch_repository, name)
        return
    if not entry.parts:
        yield entry.name, partial(places.fetch, entry)
    for part in entry.parts:
        yield from _parts(part)
