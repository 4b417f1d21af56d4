"""Makes the peers' own environment, so that their requirements never meet the project's.

Run as ``python bench/finetune/peers/install.py [--folder bench/.peers]``; Python 3.11 or newer.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from bench.finetune.peers.processes import PEERS, python_of

PINS = Path(__file__).parents[1] / "peers.txt"


def main() -> None:
    """Make the environment, or bring the one there is up to the pins."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=PEERS)
    folder = parser.parse_args().folder
    if sys.version_info < (3, 11):
        raise SystemExit(f"The pinned peers need Python 3.11 or newer; this is {sys.version}.")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    (folder / ".gitignore").write_text("*\n", encoding="utf-8")  # as venv itself does from 3.13 on
    install = [python_of(folder), "-m", "pip", "install", "--requirement", PINS]
    subprocess.run([str(part) for part in install], check=True)


if __name__ == "__main__":
    main()
