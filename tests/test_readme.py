"""What README and the pages of ``docs/`` show is what happens."""

import doctest
import inspect
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

import backprop.models
from backprop import catalogue
from backprop.cli.serve import serve
from backprop.data.columns import ALIASES
from backprop.finetuning.options import METHODS
from backprop.metrics.measure import MAIN
from backprop.specs import SPECS, Training
from backprop.tasks.base import Task

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
FINETUNING = ROOT / "docs" / "finetuning.md"
SERVING = ROOT / "docs" / "serving.md"
PAGES = (README, *sorted((ROOT / "docs").glob("*.md")))


def table(page: Path, first: str) -> dict[str, str]:
    """Return the rows of the page's table whose header begins with ``first``: name to the rest."""
    text = page.read_text("utf-8")
    header = re.search(
        rf"^\| {re.escape(first)} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE
    )
    assert header, f"{page.name} has no table with a header {first!r}"
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", header[1], re.MULTILINE)
    return {name.strip("`"): rest for name, rest in rows}


def code(cell: str) -> list[str]:
    """Return what a table's cell has in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def ways() -> Mapping[str, tuple[Training, ...]]:
    return {task: spec.training for task, spec in SPECS.items()}


# --- Any page ----------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_python_block_prints_what_it_says(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    flags = doctest.ELLIPSIS | doctest.REPORT_NDIFF
    result = doctest.testfile(str(page), module_relative=False, optionflags=flags)
    assert result.attempted >= {README: 30, FINETUNING: 10}.get(page, 3)
    assert result.failed == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_python_block_is_valid(page: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        if not block.startswith(">>>"):
            compile(block, page.name, "exec")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    links = re.findall(r"\]\(([^):]+)\)", page.read_text("utf-8"))
    assert links
    for link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in headings(target), link


def headings(page: Path) -> set[str]:
    """Return the anchors that GitHub gives a page's headings."""
    titles = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_script_that_a_page_runs_is_there(page: Path) -> None:
    text = page.read_text("utf-8")
    scripts = re.findall(r"`python (\S+\.py)", text)
    modules = re.findall(r"`python -m (bench[\w.]*)", text)
    scripts += [f"{each.replace('.', '/')}.py" for each in modules]
    assert scripts
    assert [script for script in scripts if not (ROOT / script).exists()] == []


# --- README ------------------------------------------------------------------------------


def test_every_task_has_an_example() -> None:
    text = README.read_text("utf-8")
    missing = [
        spec.task_class for spec in SPECS.values() if f"backprop.{spec.task_class}(" not in text
    ]
    assert missing == []


def test_the_table_of_defaults_names_real_models() -> None:
    rows = table(README, "task | default")
    assert list(rows) == list(SPECS)
    for task, row in rows.items():
        named = [each for each in code(row) if each in {e.name for e in catalogue.entries()}]
        assert named[0] == SPECS[task].default
        assert all(task in catalogue.get(name).tasks for name in named)
        assert catalogue.get(named[-1]).size != "starter"


def test_the_table_of_columns_is_that_of_the_specs() -> None:
    rows = table(README, "task | columns")
    assert list(rows) == list(SPECS)
    figures = set(MAIN.values())
    for task, ways_of_task in ways().items():
        named = [each for each in code(rows[task]) if each.isidentifier() or "@" in each]
        columns = {column.name for way in ways_of_task for column in way.columns}
        assert {each for each in named if each not in figures} == columns
        judged = {figure for (name, _), figure in MAIN.items() if name == task}
        assert {each for each in named if each in figures} == judged


def test_every_method_is_described() -> None:
    assert set(table(README, "`method=`")) == {f'"{name}"' for name in METHODS}


# --- docs/serving.md ---------------------------------------------------------------------


def test_every_flag_of_the_server_is_listed_with_its_default() -> None:
    flags = inspect.signature(serve).parameters
    rows = table(SERVING, "flag")
    listed = {name.strip("` -") for names in rows for name in names.split(",")}
    assert {each.replace("-", "_") for each in listed} == set(flags)


# --- docs/finetuning.md ------------------------------------------------------------------


def test_every_other_name_of_a_column_is_listed() -> None:
    rows = table(FINETUNING, "column")
    assert {name: tuple(code(rest)) for name, rest in rows.items()} == ALIASES


def test_every_argument_is_described_with_its_default() -> None:
    parameters = inspect.signature(Task.finetune).parameters
    given = {name: each for name, each in parameters.items() if name not in ("self", "lengths")}
    rows = table(FINETUNING, "argument")
    assert list(rows) == list(given)
    for name, row in rows.items():
        default = given[name].default
        said = row.split("|")[0].strip(" `")
        assert said == (
            "" if default is inspect.Parameter.empty else repr(default).replace("'", '"')
        )


def test_every_length_is_listed_with_its_default() -> None:
    rows = {task: code(rest) for task, rest in table(FINETUNING, "task | arguments").items()}
    assert rows == {
        task: [f"{name}={most}" for name, most in ways_of_task[0].arguments]
        for task, ways_of_task in ways().items()
        if ways_of_task[0].arguments
    }


def test_what_each_class_learns_is_what_it_says() -> None:
    rows = table(FINETUNING, "class")
    for name, row in rows.items():
        tasks, models = row.split("|")
        learns = getattr(backprop.models, name).LEARNS
        assert set(code(tasks)) == set(learns), name
        assert {catalogue.get(each).model for each in code(models)} == {name}
    can = {entry.model for entry in catalogue.entries(finetunable=True)}
    assert can <= set(rows)
