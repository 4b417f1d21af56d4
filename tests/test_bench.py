"""``backprop bench``: sides take turns in processes of their own; their results are compared."""

import json
from pathlib import Path

import pytest

from backprop.bench import rows, sides, table
from backprop.bench.rows import COLD, ROWS, Cold, Row
from backprop.cli.commands import BENCH_ROWS
from backprop.errors import BackpropError, InputError


def test_every_side_there_is_has_a_row_and_the_reverse() -> None:
    named = {side for row in ROWS.values() for side in (row.peer, row.ours)}
    assert named == set(sides.SIDES)
    assert not set(ROWS) & set(COLD)


def test_two_sides_are_timed_and_compared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    row = Row("the same twice", "vectors_one", "vectors_one", 20, "texts", "cosine", 0.1, rounds=2)
    monkeypatch.setattr(table, "ROWS", {"twice": row})
    monkeypatch.setattr(table, "COLD", {"start": Cold("start", "pass", "pass", 0.1, 60)})
    found = table.main(json_path=tmp_path / "bench.json")
    twice, start = found
    assert twice.peer > 0 and twice.ours > 0
    assert twice.parity.startswith("alike: cosine 1.0")
    assert twice.is_met and start.is_met
    assert [each["name"] for each in json.loads((tmp_path / "bench.json").read_text())] == [
        *("twice", "start")
    ]


def test_results_that_differ_are_never_fast() -> None:
    line = table.Line("x", "x", "texts/s", 1, 9, 0, 9.0, 2.0, table.cosines([[1, 0]], [[1, 1]]))
    assert line.parity == "differs: cosine 0.707107 at least"
    assert not line.is_met


def test_a_program_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackpropError, match="ZeroDivisionError"):
        table.measure_cold("x", rows.Cold("x", "1 / 0", "pass", 1, 1))


def test_unknown_rows_are_refused() -> None:
    with pytest.raises(InputError, match="There is no row 'speed'; rows: vectors, vector"):
        table.main(["speed"])


def test_texts_are_of_mixed_length_and_the_same_each_time() -> None:
    sides.texts.cache_clear()
    first = sides.texts(60)
    sides.texts.cache_clear()
    assert sides.texts(60) == first
    lengths = sorted(len(text) for text in first)
    assert lengths[-1] > 6 * lengths[0]


def test_the_command_names_every_row() -> None:
    assert list(BENCH_ROWS) == [*ROWS, *COLD]
