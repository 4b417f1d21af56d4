"""A model in a process of its own, for what only torch can do.

The two speak in lines of JSON: ``{"rows", "options", "stream"}`` there, ``{"answers"}``,
``{"piece"}``, ``{"end"}`` or ``{"error": [class, message]}`` back. Run as python -m … PLACE TASK.
"""

from __future__ import annotations

import base64
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import IO, Any

import orjson

from backprop import errors, inputs
from backprop.errors import BackpropError
from backprop.inputs import Row
from backprop.optional import load
from backprop.pictures import Picture

__all__ = ["Worker"]

READY = {"ready": True}


class Worker:
    """The side of the server.

    Args:
        place: catalogue name, or folder of a saved model.
        task: task string.

    Raises:
        BackpropError: the model can't be loaded.
    """

    def __init__(self, place: str, task: str) -> None:
        self._lock = threading.Lock()
        self._place, self._task = place, task
        self._process = self._start()

    def answer(self, rows: list[Row], options: Mapping[str, Any]) -> list[Any]:
        """Return one answer a row."""
        with self._lock:
            self._send({"rows": list(map(_sent, rows)), "options": dict(options)})
            answers: list[Any] = self._read()["answers"]
            return answers

    def stream(self, row: Row, options: Mapping[str, Any]) -> Iterator[str]:
        """Yield the answer to one row in pieces; whoever stops early keeps nobody waiting."""
        lines: queue.SimpleQueue[dict[str, Any] | Exception] = queue.SimpleQueue()
        message = {"rows": [_sent(row)], "options": dict(options), "stream": True}
        threading.Thread(target=self._pump, args=(message, lines), daemon=True).start()
        while True:
            line = lines.get()
            if isinstance(line, Exception):
                raise line
            if "end" in line:
                return
            yield line["piece"]

    def _pump(
        self, message: Mapping[str, Any], lines: queue.SimpleQueue[dict[str, Any] | Exception]
    ) -> None:
        """Read a stream to its end, however slowly it is taken."""
        with self._lock:
            try:
                self._send(message)
                line: dict[str, Any] = {}
                while "end" not in line:
                    line = self._read()
                    lines.put(line)
            except Exception as error:
                lines.put(error)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "backprop.serve.worker", self._place, self._task]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._process = process
        try:
            self._read()
        except BaseException:
            self.close()
            raise
        return process

    def _send(self, message: Mapping[str, Any]) -> None:
        if self._process.poll() is not None:  # it died: one caller is told, the next is served
            self.close()
            self._start()
        pipe = self._process.stdin
        if pipe is not None:
            pipe.write(orjson.dumps(message) + b"\n")
            pipe.flush()

    def _read(self) -> dict[str, Any]:
        pipe = self._process.stdout
        line = pipe.readline() if pipe is not None else b""
        if not line:
            raise BackpropError("The process that ran the model has ended.")
        message: dict[str, Any] = orjson.loads(line)
        if "error" in message:
            name, text = message["error"]
            raise KINDS.get(name, BackpropError)(text)
        return message


KINDS: Mapping[str, type[BackpropError]] = {name: getattr(errors, name) for name in errors.__all__}


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
            _answer(task, handler, orjson.loads(line), out)
        except Exception as error:
            _write(out, _told(error))


def _answer(task: str, handler: Any, message: Mapping[str, Any], out: IO[bytes]) -> None:
    rows = [_row(task, row) for row in message["rows"]]
    if not message.get("stream"):
        _write(out, {"answers": handler.answer(rows, message["options"])})
        return
    stream = getattr(handler, "stream", None)
    if stream is None:
        [answer] = handler.answer(rows, message["options"])
        _write(out, {"piece": answer})
    else:
        for piece in stream(rows[0], message["options"]):
            _write(out, {"piece": piece})
    _write(out, {"end": True})


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
    main(*sys.argv[1:])
