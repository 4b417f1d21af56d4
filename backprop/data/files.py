"""Tables in files: CSV, TSV, JSON, JSON lines, and a folder of images with a folder a class."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from backprop.data.tables import Table, from_columns, from_rows
from backprop.errors import InputError

__all__ = ["read_file", "read_folder"]

logger = logging.getLogger(__name__)


def read_file(path: Path) -> Table:
    """Return the table in a file, UTF-8 with or without a byte order mark.

    A line that can't be read is a fault of the table, so that all of them are found at once.

    Args:
        path: ends in ``.csv``, ``.tsv``, ``.jsonl``, ``.ndjson`` or ``.json``. The first line of
            CSV and TSV has the names; JSON is a list of objects, or an object of lists.

    Raises:
        InputError: no such file, another ending, not UTF-8, or not what the ending says.
    """
    if not os.path.exists(path):  # unlike Path.exists it takes a text of any length
        raise InputError(f"There is no file or folder {str(path)[:300]!r}; check the path.")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"Training data can be read from {', '.join(READERS)} and from folders of images; "
            f"received {str(path)!r}. Save it as one of these."
        )
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror}); check the path.") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 text (byte {error.start} is "
            f"0x{error.object[error.start]:02x}); convert it, with iconv say."
        ) from error
    if not text.strip():
        raise InputError(f"{path} is empty; training data needs at least two rows.")
    return reader(text, path)


def _read_csv(text: str, path: Path) -> Table:
    first = text.partition("\n")[0]
    # Spreadsheets write semicolons where the comma is the decimal sign.
    return _read_delimited(text, path, ";" if ";" in first and "," not in first else ",")


def _read_tsv(text: str, path: Path) -> Table:
    return _read_delimited(text, path, "\t")


def _read_delimited(text: str, path: Path, delimiter: str) -> Table:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    records: list[list[str]] = []
    lines: list[int] = []
    faults: list[str] = []
    try:
        with _cells_of_any_size():
            names = [name.strip() for name in next(reader, [])]
            start = reader.line_num + 1
            for record in reader:
                if len(record) == len(names):
                    records.append(record)
                    lines.append(start)
                elif record:
                    faults.append(f"line {start} has {len(record)} of {len(names)} cells")
                start = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num} is no CSV ({error}); check its quotes."
        ) from error
    columns = [list(column) for column in zip(*records, strict=True)] or [[] for _ in names]
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise InputError(f"{path} has two columns {twice!r}; rename one of them.")
    table = _in_file(from_columns(dict(zip(names, columns, strict=True))), path, lines, faults)
    return replace(table, hint="; the first line must hold the names")


@contextmanager
def _cells_of_any_size() -> Iterator[None]:
    """Lift the csv module's bound of 131,072 characters a cell: contexts can be longer."""
    bound = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        yield
    finally:
        csv.field_size_limit(bound)


def _read_json_lines(text: str, path: Path) -> Table:
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    faults: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            faults.append(f"line {number} is not JSON ({getattr(error, 'msg', error)})")
            continue
        if isinstance(row, dict):
            rows.append(row)
            lines.append(number)
        else:
            faults.append(f"line {number} is no object: {line.strip()[:40]!r}")
    return _in_file(from_rows(rows), path, lines, faults)


def _read_json(text: str, path: Path) -> Table:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error}); write it anew.") from error
    if isinstance(content, dict) and all(isinstance(each, list) for each in content.values()):
        return _in_file(from_columns(content), path, None, [])
    if isinstance(content, list) and all(isinstance(row, dict) for row in content):
        return _in_file(from_rows(content), path, None, [])
    raise InputError(
        f"{path} must hold a list of objects, or an object of lists; received "
        f"{text.strip()[:60]!r}."
    )


READERS: dict[str, Callable[[str, Path], Table]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".json": _read_json,
}
"""Ending of a file to what reads its text."""


def _in_file(table: Table, path: Path, lines: list[int] | None, faults: list[str]) -> Table:
    listed = [f"{path}: {', '.join(faults[:10])}"] if faults else []
    if len(faults) > 10:
        listed[0] += f", … and {len(faults) - 10:,} more"
    return replace(table, lines=lines, folder=path.parent, faults=[f"{each}." for each in listed])


def read_folder(folder: Path) -> Table:
    """Return the images in ``folder`` and, as their labels, the names of the folders they are in.

    Folders and files are taken in the order of their names; hidden ones (``.DS_Store`` say) and
    ``Thumbs.db`` are left out. Whether each file is an image is checked with the values.
    """
    files: list[Path] = []
    faults: list[str] = []
    for entry in _visible(folder):
        if not entry.is_dir():
            faults.append(f"{entry} is in no class's folder; move or remove it.")
            continue
        inside = _visible(entry)
        folders = [each for each in inside if each.is_dir()]
        faults += [f"{each} is a folder in a class's folder; move it." for each in folders]
        files += [each for each in inside if not each.is_dir()]
        if not inside:
            faults.append(f"{entry} has no images; add some or remove it.")
    if len(faults) > 10:
        faults = [*faults[:10], f"… and {len(faults) - 10:,} more such entries of {folder}."]
    columns = {"images": list(files), "labels": [file.parent.name for file in files]}
    return from_columns(columns, faults=faults)


def _visible(folder: Path) -> list[Path]:
    entries = sorted(folder.iterdir())
    shown = [each for each in entries if not each.name.startswith(".") and each.name != "Thumbs.db"]
    if len(shown) < len(entries):
        logger.info("%s: %d hidden files are left out", folder, len(entries) - len(shown))
    return shown
