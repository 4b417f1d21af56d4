"""One line of JSON a request or an event, on one logger, whatever clients send.

A line is printable ASCII: JSON escapes line breaks, controls, characters that turn the direction of
text and all others beyond ASCII, so that nobody can forge a line or hide a part of one. What looks
like a key loses its secret. Fields of a request: ``time`` (UTC), ``level``, ``event``
(``request``), ``request_id``, ``method``, ``path`` (the route's template), ``status``, ``ms``,
``key`` (its id) and, where a model answered, ``model`` and ``rows``.

Elsewhere in the server: ``logger.info("loaded", extra={"model": name, "ms": took_ms})``.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import traceback
from collections.abc import Mapping
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any, TextIO

import orjson

__all__ = ["JsonLine", "masked", "request", "setup"]

logger = logging.getLogger("backprop.serve")

MOST_CHARACTERS = 300
"""Of one value; a traceback may have more."""
MOST_TRACEBACK = 8000
MOST_FIELDS = 30

BLANK = vars(logging.LogRecord(logger.name, logging.INFO, "", 0, "request", None, None))
ORDINARY = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}
"""What each record has; any other attribute is a field that was passed as ``extra``."""

FIELDS = "backprop_fields"
"""Where a record has its fields all in one, so that no name of theirs can be one of its own."""

SECRETS = re.compile(r"(bp_[0-9a-f]{1,12}_)[A-Za-z0-9_]+")
DELETE = "\x7f"
"""The one control character that the faster encoder leaves as it is."""

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False, default=str).encode


def setup(stream: TextIO | None = None) -> None:
    """Write the server's log to ``stream``, and nowhere else; other loggers stay as they are.

    Args:
        stream: where lines go, by default standard error; it is flushed after each.
    """
    for handler in list(logger.handlers):
        if isinstance(handler.formatter, JsonLine):
            logger.removeHandler(handler)
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonLine())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def request(fields: Mapping[str, Any]) -> None:
    """Log a request that has been answered.

    Args:
        fields: names to values, those that do not apply left out.
    """
    if logger.isEnabledFor(logging.INFO):
        logger.handle(_Request(fields))


def masked(text: str) -> str:
    """Return ``text`` with the secrets of keys in it taken out."""
    return SECRETS.sub(r"\1***", text) if "bp_" in text else text


class _Request(logging.LogRecord):
    """The record of a request, made in no time: without thread, process and line."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        vars(self).update(BLANK)
        self.created = time.time()
        self.__dict__[FIELDS] = fields


class JsonLine(logging.Formatter):
    """A record as one line of JSON: time, level, event, then what was passed as ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        fields: dict[str, Any] = {
            "time": _time(record.created),
            "level": record.levelname.lower(),
            "event": _short(record.getMessage() if record.args else record.msg),
        }
        given = record.__dict__.get(FIELDS)
        if given is None:
            given = {key: value for key, value in vars(record).items() if key not in ORDINARY}
        for name, value in given.items():
            if name not in fields and len(fields) < MOST_FIELDS:
                fields[name] = _short(value)
        if record.exc_info and record.exc_info[1] is not None:
            fields["error"] = type(record.exc_info[1]).__name__
            fields["traceback"] = _traceback(record.exc_info[1])
        return _line(fields)


def _time(seconds: float) -> str:
    whole = int(seconds)
    return f"{_second(whole)}.{int((seconds - whole) * 1000):03d}Z"


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%dT%H:%M:%S}"


def _line(fields: Mapping[str, Any]) -> str:
    try:
        # Of two encoders the fast one leaves what is beyond ASCII as it is.
        fast = orjson.dumps(fields)
        line = fast.decode() if fast.isascii() else _encode(fields)
    except (TypeError, ValueError, RecursionError):
        # Such as NaN, which JSON lacks; a record must never break the request it tells of.
        line = _encode({name: _short(str(value)) for name, value in fields.items()})
    if DELETE in line:
        line = line.replace(DELETE, "\\u007f")
    return masked(line)


def _short(value: Any) -> Any:
    """Return a value of bounded length; what is no plain one becomes a string."""
    if type(value) is str and len(value) <= MOST_CHARACTERS:
        return value
    if value is None or isinstance(value, (bool, int, float)):
        return value
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + "..."


def _traceback(error: BaseException) -> str:
    """Return the end of a traceback, which has the place and the error."""
    # Before it is cut: the end of a key would no longer be seen as one.
    text = "".join(traceback.format_exception(error))
    return masked(text)[-MOST_TRACEBACK:]
