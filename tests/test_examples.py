"""The programs in ``examples/`` run, and do what they say."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.guard import ROOT


def test_a_model_of_your_own_learns() -> None:
    process = subprocess.run(
        [sys.executable, "examples/own_model.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    [accuracy] = re.findall(r"accuracy (\d\.\d+) on 2 validation rows", process.stdout)
    assert float(accuracy) == 1
    shares = dict(re.findall(r"'(\w+)': ([\d.e-]+)", process.stdout))
    assert float(shares["English"]) > float(shares["Spanish"])
