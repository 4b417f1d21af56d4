"""A task's input as bodies of requests, each within what a server takes."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backprop import inputs
from backprop.errors import InputError
from backprop.pictures import Picture
from backprop.specs import TaskSpec

__all__ = ["MAX_BODY_BYTES", "MAX_CHARACTERS", "MAX_ROWS", "MAX_WRITTEN", "Body", "bodies"]

MAX_BODY_BYTES = 16 << 20
MAX_ROWS = 256
MAX_CHARACTERS = 2_000_000
MAX_WRITTEN = 64
"""Texts or beams of one request, over all rows. These bounds are those of ``backprop serve``."""

Part = dict[str, str]
"""One row's fields as JSON, by name."""


@dataclass(frozen=True)
class Body:
    """The body of one request.

    Args:
        content: JSON.
        rows: how many answers it asks for.
    """

    content: bytes
    rows: int


def bodies(spec: TaskSpec, request: inputs.Request, model: str) -> Iterator[Body]:
    """Yield the requests that ask for all rows, in order; one where they fit into one.

    Images are read when their turn comes, so memory holds those of one request only.

    Args:
        spec: of the task.
        request: the checked input.
        model: a name the server knows, or ``""``.

    Raises:
        InputError: a row alone is more than a server takes.
    """
    shared = {"model": model, **request.options}
    labels = [row["labels"] for row in request.rows if "labels" in row]
    alike = bool(labels) and all(each == labels[0] for each in labels)
    if alike:
        shared["labels"] = labels[0]
    head = _json(shared)[:-1]
    names = [own.name for own in spec.fields if request.rows and own.name in request.rows[0]]
    names = [name for name in names if not (alike and name == "labels")]

    group = _Group(head, _most_rows(request.options), request.single)
    for number, row in enumerate(request.rows):
        part = {name: _json(row[name]) for name in names}
        if not group.has_room_alone(part):
            raise InputError(
                f"Row {number} is {_size_bytes(part) / (1 << 20):.1f} MiB; a server takes at most "
                f"{MAX_BODY_BYTES >> 20} MiB in one request: pass a smaller image or text."
            )
        if group.parts and not group.has_room(part):
            yield group.body()
            group = _Group(head, group.most_rows, single=False)
        group.add(part)
    if group.parts:
        yield group.body()


class _Group:
    """The rows of one request, as they gather."""

    def __init__(self, head: str, most_rows: int, single: bool) -> None:
        self.head = head
        self.most_rows = most_rows
        self.single = single
        self.parts: list[Part] = []
        self.size_bytes = len(head.encode()) + ROOM_BYTES
        self.characters = len(head)

    def has_room_alone(self, part: Part) -> bool:
        """Whether a server takes the row in a request of its own."""
        return len(self.head.encode()) + ROOM_BYTES + _size_bytes(part) <= MAX_BODY_BYTES

    def has_room(self, part: Part) -> bool:
        """Whether a server takes the row with those before it."""
        return (
            self.size_bytes + _size_bytes(part) <= MAX_BODY_BYTES
            and self.characters + _characters(part) <= MAX_CHARACTERS
            and len(self.parts) < self.most_rows
        )

    def add(self, part: Part) -> None:
        self.parts.append(part)
        self.size_bytes += _size_bytes(part)
        self.characters += _characters(part)

    def body(self) -> Body:
        pieces = [self.head]
        for name in self.parts[0]:
            values = ",".join(part[name] for part in self.parts)
            pieces.append(f',"{name}":{values if self.single else f"[{values}]"}')
        return Body("".join([*pieces, "}"]).encode(), len(self.parts))


ROOM_BYTES = 1024
"""For names of fields and brackets."""


def _most_rows(options: Mapping[str, Any]) -> int:
    copies = max(int(options.get(name, 1)) for name in ("num_beams", "num_generations"))
    return min(MAX_ROWS, max(1, MAX_WRITTEN // copies)) if copies > 1 else MAX_ROWS


def _json(value: Any) -> str:
    if isinstance(value, Picture):
        return f'"{_base64(value)}"'
    # As UTF-8 other scripts take a third of what escapes would.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _size_bytes(part: Part) -> int:
    return sum(1 + (len(own) if own.isascii() else len(own.encode())) for own in part.values())


def _characters(part: Part) -> int:
    return sum(len(own) for name, own in part.items() if name != "image")


def _base64(picture: Picture) -> str:
    """Return the picture's own bytes, or PNG of one that is in memory only."""
    if isinstance(picture.source, Path):
        return base64.b64encode(picture.source.read_bytes()).decode()
    if isinstance(picture.source, bytes):
        return base64.b64encode(picture.source).decode()
    buffer = io.BytesIO()
    picture.rgb().save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
