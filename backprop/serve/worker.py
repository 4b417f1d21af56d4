"""A model in a process of its own, for what only torch can do.

The two speak in lines of JSON: ``{"rows", "options"}`` there, ``{"answers"}`` or
``{"error": [class, message]}`` back. Run as python -m … PLACE TASK.
"""

from __future__ import annotations

import base64
import os
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any

import orjson

from backprop import errors, inputs
from backprop.errors import BackpropError
from backprop.inputs import Row
from backprop.optional import load
from backprop.pictures import Picture
from backprop.serve.children import Child

__all__ = ["Worker"]

READY = {"ready": True}
ANSWER_S = 600.0
"""A batch that takes longer has hung, and its process is killed."""
ENDED = "The process that ran the model has ended."


class Worker:
    """The side of the server.

    Args:
        place: catalogue name, or folder of a saved model.
        task: task string.

    Raises:
        BackpropError: the model can't be loaded.
    """

    def __init__(self, place: str, task: str) -> None:
        self._arguments = (place, task)
        self._lock = threading.Lock()
        self._is_closed = False
        self._child = self._start()

    def answer(self, rows: list[Row], options: Mapping[str, Any]) -> list[Any]:
        """Return one answer a row.

        Raises:
            BackpropError: the process has died; the next call starts another.
        """
        with self._lock:
            if self._is_closed:
                raise BackpropError(ENDED)
            if not self._child.is_alive:
                self._child.close()
                self._child = self._start()
            message = {"rows": list(map(_sent, rows)), "options": dict(options)}
            answers: list[Any] = self._asked(message)["answers"]
            return answers

    def close(self) -> None:
        """End the process, whatever it does."""
        self._is_closed = True
        self._child.kill()  # so that whoever holds the lock lets go of it
        with self._lock:
            self._child.close()

    def _start(self) -> Child:
        child = Child("backprop.serve.worker", *self._arguments)
        try:
            _read(child)
        except BaseException:
            child.close()
            raise
        return child

    def _asked(self, message: Mapping[str, Any]) -> dict[str, Any]:
        child = self._child
        timer = threading.Timer(ANSWER_S, child.kill)
        timer.start()
        try:
            child.write(orjson.dumps(message) + b"\n")
            return _read(child)
        except OSError as error:
            raise BackpropError(ENDED) from error
        finally:
            timer.cancel()


KINDS: Mapping[str, type[BackpropError]] = {name: getattr(errors, name) for name in errors.__all__}


def _read(child: Child) -> dict[str, Any]:
    line = child.line()
    if not line:
        raise BackpropError(ENDED)
    message: dict[str, Any] = orjson.loads(line)
    if "error" in message:
        name, text = message["error"]
        raise KINDS.get(name, BackpropError)(text)
    return message


def _sent(row: Row) -> dict[str, Any]:
    """Return a row as JSON, pictures as base64."""
    return {
        name: base64.b64encode(value.source).decode()
        if isinstance(value, Picture) and isinstance(value.source, bytes)
        else value
        for name, value in row.items()
    }


# --- The other side ------------------------------------------------------------------------


def main(place: str, task: str) -> None:
    """Answer what comes on standard input, until it ends."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints shall not print into the answers
    try:
        model = load("backprop.models.auto:AutoModel").from_pretrained(place)
        handler = model.handler(task)
    except Exception as error:
        _write(out, _told(error))
        return
    _write(out, READY)
    for line in sys.stdin.buffer:
        try:
            message = orjson.loads(line)
            rows = [_row(task, row) for row in message["rows"]]
            _write(out, {"answers": handler.answer(rows, message["options"])})
        except Exception as error:
            _write(out, _told(error))


def _row(task: str, row: Mapping[str, Any]) -> Row:
    if "image" not in row:
        return dict(row)
    [own] = inputs.read(task, row, paths=False).rows
    return own


def _told(error: Exception) -> dict[str, Any]:
    return {"error": [type(error).__name__, str(error)]}


def _write(out: IO[bytes], message: Mapping[str, Any]) -> None:
    out.write(orjson.dumps(message) + b"\n")
    out.flush()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
