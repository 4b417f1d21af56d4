"""The environment of what we are measured beside: its requirements never meet the project's.

Made by ``python -m bench.environment [--folder bench/.peers]``, from ``peers.txt``; Python 3.11 or
newer.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

__all__ = ["FOLDER", "python_of"]

FOLDER = Path(__file__).parent / ".peers"
PINS = Path(__file__).parent / "peers.txt"


def python_of(folder: Path) -> str:
    """Return the peers' interpreter; end with what to type if they are not installed."""
    python = _python(folder)
    if not python.exists():
        raise SystemExit(
            f"The peers are not installed in {folder}; first run\n"
            f"  python -m bench.environment --folder {folder}"
        )
    return str(python)


def main() -> None:
    """Make the environment, or bring the one there is up to the pins."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    folder = parser.parse_args().folder
    if sys.version_info < (3, 11):
        raise SystemExit(f"The pinned peers need Python 3.11 or newer; this is {sys.version}.")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    (folder / ".gitignore").write_text("*\n", encoding="utf-8")  # as venv itself does from 3.13 on
    install = [str(_python(folder)), "-m", "pip", "install", "--requirement", str(PINS)]
    subprocess.run(install, check=True)


def _python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


if __name__ == "__main__":
    main()
