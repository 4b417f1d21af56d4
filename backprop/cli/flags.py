"""The flags of ``backprop run TASK``, made from the task's spec."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from backprop.engines import ASKED, PRECISIONS
from backprop.specs import Field, Option, TaskSpec

__all__ = ["STREAMING", "field_flag", "file_key", "flag", "options_of", "parameters"]

STREAMING = frozenset({"text-generation"})
"""Tasks whose answer can be shown while it is being written."""

INPUT, TASK, RUN = "Input", "Options of the task", "Model and output"

FIELDS = {
    "text": ("TEXT", "{doc}; - reads standard input; repeat it for a batch"),
    "image": ("FILE", "{doc}; - reads standard input; repeat it for a batch"),
    "history": ("TEXT", "{doc}, oldest first; repeat it for each"),
    "labels": ("LABEL,…", "{doc}; repeat it, or put commas between"),
}
"""A field's kind to what its value is called and how it is explained."""

DOCS = {"image": "image: file, base64 or data URL"}
"""A field's explanation, where the one for Python does not fit a terminal."""

OPTIONS: Mapping[str, tuple[Any, str | None]] = {
    "bool": (bool, None),
    "int": (int, "NUMBER"),
    "float": (float, "NUMBER"),
    "str": (str, "TEXT"),
    "strings": (list[str], "TEXT"),
}
"""An option's kind to the type its value is read as, and what that is called."""

LARGE = 1e9
"""Bounds above it say nothing to a person."""

JSONL = "JSON lines, each an object of the fields, answered by one line each; - is standard input"
STREAM = "print the answer as it is written"
ENGINE = f"what computes: {', '.join(ASKED)}; auto, the fastest, by default"
PRECISION = f"of weights: {' or '.join(PRECISIONS)}; the first by default"
API_URL = "address of a server that does it, or that has a hub:// model"
API_KEY = "its key, better given as $BACKPROP_API_KEY: other users see command lines"
LINES = "make each line of what is read a row of a batch"


def parameters(spec: TaskSpec) -> list[inspect.Parameter]:
    """Return one parameter a flag of ``spec``'s command, as typer reads them from a signature."""
    return [
        *(flag for field in spec.fields for flag in _of_field(field)),
        flag("jsonl", Path, JSONL, INPUT, "FILE"),
        _switch("lines", LINES, INPUT),
        *map(_of_option, options_of(spec)),
        flag("model", str, f"name or path; {spec.default} by default", RUN, "NAME"),
        flag("device", str, "such as cpu or cuda:0; the fastest by default", RUN, "DEVICE"),
        flag("engine", str, ENGINE, RUN, "NAME"),
        flag("precision", str, PRECISION, RUN, "NAME"),
        flag("api_url", str, API_URL, RUN, "URL"),
        flag("api_key", str, API_KEY, RUN, "KEY"),
        _switch("json", "print JSON, one line for each answer", RUN),
        *(_switch("stream", STREAM, RUN) for name in STREAMING if name == spec.name),
    ]


def options_of(spec: TaskSpec) -> list[Option]:
    """Return the options that are flags; what shapes Python objects only is not."""
    return [option for option in spec.options if not option.caller_only]


def field_flag(field: Field) -> str:
    """Return the flag of ``field``, such as ``--prev-q``."""
    return f"--{field.name.replace('_', '-')}"


def file_key(field: Field) -> str:
    """Return the parameter that names files to read ``field`` from."""
    return f"{field.name}_file"


def _of_field(field: Field) -> Iterator[inspect.Parameter]:
    metavar, text = FIELDS[field.kind]
    doc = text.format(doc=DOCS.get(field.kind, field.doc))
    yield flag(field.name, list[str], doc, INPUT, metavar)
    if field.kind == "text":
        doc = f"file to read the {field.name} from; repeat it for a batch"
        yield flag(file_key(field), list[Path], doc, INPUT, "FILE")


def _of_option(option: Option) -> inspect.Parameter:
    if option.kind == "bool" and option.default is False:
        return _switch(option.name, option.doc, TASK)
    kind, metavar = OPTIONS[option.kind]
    repeat = "; repeat it for each" if option.kind == "strings" else ""
    return flag(option.name, kind, f"{option.doc}{_allowed(option)}{repeat}", TASK, metavar)


def _allowed(option: Option) -> str:
    """Return the choices or bounds in words; the spec's own check enforces them."""
    words = [", ".join(option.choices)] if option.choices else []
    if option.low is not None:
        words.append(f"{'above' if option.above_low else 'at least'} {option.low:g}")
    if option.high is not None and option.high < LARGE:
        words.append(f"at most {option.high:g}")
    return f" ({', '.join(words)})" if words else ""


def _switch(name: str, doc: str, panel: str) -> inspect.Parameter:
    """Return a flag that is given or not, without a ``--no-`` form."""
    return flag(name, bool, doc, panel, None, f"--{name.replace('_', '-')}")


def flag(
    name: str, kind: Any, doc: str, panel: str, metavar: str | None, *written: str
) -> inspect.Parameter:
    """Return a keyword-only parameter; it is None where the flag is left out."""
    text = f"{doc[0].upper()}{doc[1:]}."
    option = typer.Option(None, *written, help=text, metavar=metavar, rich_help_panel=panel)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=kind | None
    )
