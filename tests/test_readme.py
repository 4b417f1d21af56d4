"""What README shows is what happens."""

import doctest
import re
from pathlib import Path

import pytest

from backprop import catalogue
from backprop.specs import SPECS

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"


def test_every_python_block_prints_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    flags = doctest.ELLIPSIS | doctest.REPORT_NDIFF
    result = doctest.testfile(str(README), module_relative=False, optionflags=flags)
    assert result.attempted > 20
    assert result.failed == 0


def test_every_task_has_an_example() -> None:
    text = README.read_text("utf-8")
    missing = [
        spec.task_class for spec in SPECS.values() if f"backprop.{spec.task_class}(" not in text
    ]
    assert missing == []


def test_the_table_of_defaults_names_real_models() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \|(.+)\|$", README.read_text("utf-8"), re.MULTILINE)
    assert [task for task, _ in rows] == list(SPECS)
    for task, row in rows:
        named = re.findall(r"`([a-z0-9-]+)`", row)
        assert named[0] == SPECS[task].default
        assert all(task in catalogue.get(name).tasks for name in named)
        assert catalogue.get(named[-1]).size != "starter"


def test_every_link_leads_to_a_file() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README.read_text("utf-8"))
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
