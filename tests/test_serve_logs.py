"""The server's log: one line of JSON a record, whatever clients send."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backprop.serve import logs

SECRET = "Zq" * 21 + "x"
KEY = f"bp_0123456789ab_{SECRET}"
MASKED = "bp_0123456789ab_***"
BIDI = "\u202e\u2066\u200f\u2028\u2029\x85"
NASTY = f'a\r\nb\x00\x1b[31m\x7f"\\{BIDI}\ud800é'

logger = logging.getLogger("backprop.serve")


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What the server's logger writes; afterwards it is as it was."""
    before = (logger.handlers[:], logger.level, logger.propagate)
    stream = io.StringIO()
    logs.setup(stream)
    yield stream
    logger.handlers[:], logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


def only(stream: io.StringIO) -> dict[str, Any]:
    """Return the one record that was written, which is printable ASCII on one line."""
    text = stream.getvalue()
    assert text.endswith("\n") and text.count("\n") == 1
    line = text[:-1]
    assert line.isascii() and line.isprintable()
    found = json.loads(line)
    assert isinstance(found, dict)
    return found


def test_a_request_is_one_line_with_its_fields(stream: io.StringIO) -> None:
    given = {"request_id": "r1", "method": "POST", "path": "/qa", "status": 200, "ms": 1.5}
    logs.request({**given, "key": "0123456789ab", "model": "m", "rows": 3})
    found = only(stream)
    assert datetime.fromisoformat(found["time"].replace("Z", "+00:00")).utcoffset() is not None
    assert (found["level"], found["event"]) == ("info", "request")
    assert {name: found[name] for name in given} == given
    assert (found["key"], found["model"], found["rows"]) == ("0123456789ab", "m", 3)


def test_an_event_has_its_level_and_what_was_passed(stream: io.StringIO) -> None:
    logging.getLogger("backprop.serve.registry").warning("gone %s", "x", extra={"model": "m"})
    found = only(stream)
    assert (found["level"], found["event"], found["model"]) == ("warning", "gone x", "m")
    assert set(found) == {"time", "level", "event", "model"}


@given(st.text(max_size=100), st.text(max_size=100))
def test_no_text_breaks_a_line_or_reads_as_another(name: str, value: str) -> None:
    record = logging.LogRecord("n", logging.INFO, "", 0, value.replace("%", ""), None, None)
    record.__dict__["model"] = name
    line = logs.JsonLine().format(record)
    assert line.isascii() and line.isprintable()
    found = json.loads(line)
    assert (found["event"], found["model"]) == (value.replace("%", ""), name)


@pytest.mark.parametrize("value", [NASTY, "a\x7fb", "a\nb", BIDI])
@pytest.mark.parametrize("field", ["method", "path", "model", "request_id"])
def test_no_field_of_a_request_breaks_a_line(stream: io.StringIO, field: str, value: str) -> None:
    logs.request({field: value})
    assert only(stream)[field] == value


def test_a_message_that_forges_a_record_stays_one_string(stream: io.StringIO) -> None:
    forged = 'x"}\n{"time":"2020","event":"request","status":200}'
    logger.info(forged)
    assert only(stream)["event"] == forged


def test_the_secret_of_a_key_is_never_written(stream: io.StringIO) -> None:
    logs.request({"path": f"/{KEY}", "model": KEY + KEY, "extra": [KEY]})
    try:
        raise ValueError(KEY)
    except ValueError:
        logger.exception("with %s", KEY)
    assert SECRET not in stream.getvalue()
    assert stream.getvalue().count(MASKED) == 5


def test_a_key_at_the_place_where_a_value_is_cut_is_not_written(stream: io.StringIO) -> None:
    for before in range(logs.MOST_CHARACTERS - len(KEY) - 1, logs.MOST_CHARACTERS + 1):
        logs.request({"model": "." * before + KEY + "." * 50})
    assert SECRET[:6] not in stream.getvalue()


def test_a_key_at_the_place_where_a_traceback_is_cut_is_not_written(stream: io.StringIO) -> None:
    for after in range(logs.MOST_TRACEBACK - len(KEY) - 2, logs.MOST_TRACEBACK + 1, 3):
        logger.error("failed", exc_info=ValueError(KEY + "." * after))
    assert SECRET[-6:] not in stream.getvalue()


def test_a_long_value_is_cut(stream: io.StringIO) -> None:
    logs.request({"model": "a" * 100_000})
    assert only(stream)["model"] == "a" * logs.MOST_CHARACTERS + "..."


def test_many_fields_are_cut(stream: io.StringIO) -> None:
    logs.request({f"f{number}": 1 for number in range(1000)})
    assert len(only(stream)) == logs.MOST_FIELDS


def test_an_error_is_on_the_same_line_with_its_traceback(stream: io.StringIO) -> None:
    try:
        raise RuntimeError("first\nsecond")
    except RuntimeError as error:
        logger.error("failed", exc_info=error)
    found = only(stream)
    assert found["error"] == "RuntimeError"
    assert "first\nsecond" in found["traceback"] and "test_serve_logs" in found["traceback"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1 << 80, object(), {"a": "\n"}])
def test_a_value_that_json_lacks_does_not_break_a_record(
    stream: io.StringIO, value: object
) -> None:
    logs.request({"model": value, "status": 200})
    assert "model" in only(stream)


@pytest.mark.parametrize("name", ["msg", "args", "levelno", "exc_info", "name", "event", "time"])
def test_a_field_named_like_one_of_the_record_is_harmless(stream: io.StringIO, name: str) -> None:
    logs.request({name: "forged", "status": 200})
    found = only(stream)
    assert (found["event"], found["status"], found["level"]) == ("request", 200, "info")


def test_only_the_servers_logger_is_set_up(stream: io.StringIO) -> None:
    root, theirs = logging.getLogger(), logging.getLogger("uvicorn.access")
    before = (root.handlers[:], root.level, theirs.handlers[:], theirs.level)
    logs.setup(stream)
    logs.setup(stream)
    assert (root.handlers[:], root.level, theirs.handlers[:], theirs.level) == before
    logger.info("once")
    only(stream)


def test_a_record_goes_nowhere_else(
    stream: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    heard: list[logging.LogRecord] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record)

    ear = Ear()
    logging.getLogger().addHandler(ear)
    logging.getLogger("backprop").addHandler(ear)
    logger.info("x")
    logging.getLogger().removeHandler(ear)
    logging.getLogger("backprop").removeHandler(ear)
    assert not heard and capsys.readouterr() == ("", "")


def test_by_default_it_goes_to_standard_error(
    stream: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.setup()
    logger.info("x")
    out, err = capsys.readouterr()
    assert out == "" and json.loads(err)["event"] == "x"
