"""Models opened again in a new process that can import only what backprop declares."""

from __future__ import annotations

import functools
import importlib.metadata
import inspect
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import dill
import torch

from backprop.models.base import BaseModel
from backprop.models.saving import save
from backprop.testing.reopen import ASKED, FACTS, FOUND, PICKLE, SAVED, plain
from backprop.testing.schema import Asked, one_line

__all__ = ["Found", "declared", "describe_missing", "open_again", "pickle_fault", "save_fault"]

TIMEOUT_S = 900


@dataclass(frozen=True)
class Found:
    """What a new process found.

    Args:
        missing: packages that were asked for and are not declared.
        dill: what is wrong with the unpickled model; empty where nothing is.
        saved: the same for the model that was saved and loaded.
    """

    missing: tuple[str, ...]
    dill: str
    saved: str


def pickle_fault(model: BaseModel, place: Path) -> str:
    """Return why ``model`` can't be pickled into ``place``; empty where it was."""
    place.mkdir(parents=True)
    try:
        with (place / PICKLE).open("wb") as file:
            dill.dump(model, file, recurse=True)
    except Exception as error:  # dill raises whatever the object's own hooks raise
        return one_line(
            f"dill can't pickle it ({type(error).__name__}: {error}); keep open files, locks, "
            "generators and the like out of its attributes"
        )
    return ""


def save_fault(model: BaseModel, place: Path, asked: Sequence[Asked]) -> str:
    """Return why ``model`` can't be saved into ``place``, for ``asked`` to be asked again there.

    Empty where it was.
    """
    try:
        save(model, path=place / SAVED)
    except Exception as error:  # a class of the user's own may write its files itself
        return one_line(f"backprop.save raised {type(error).__name__}: {error}")
    noted = [{"task": own.task, "given": own.given, "answer": own.answer} for own in asked]
    (place / ASKED).write_bytes(pickle.dumps(noted))
    return ""


def open_again(places: Sequence[Path], folder: Path) -> dict[Path, Found]:
    """Return what a new process found in each of ``places``.

    One process serves all. Where it dies, that is put down to the model it was at, and another
    one goes on behind it.

    Args:
        places: folders filled by ``pickle_fault`` and ``save_fault``.
        folder: an empty folder, to work in.
    """
    found: dict[Path, Found] = {}
    while len(found) < len(places):
        rest = [place for place in places if place not in found]
        process = _run(rest, folder)
        found.update(_read(folder / FOUND))
        broken = next((place for place in rest if place not in found), None)
        if broken is not None:
            last = (process.stderr.strip().splitlines() or [""])[-1]
            fault = one_line(f"the new process ended with code {process.returncode}: {last}")
            found[broken] = Found((), fault, fault)
    return found


def _run(places: Sequence[Path], folder: Path) -> subprocess.CompletedProcess[str]:
    facts = {
        "modules": sorted(declared()),
        "packages": sorted(_packages()),
        "threads": torch.get_num_threads(),
        "places": list(map(str, places)),
    }
    (folder / FACTS).write_text(json.dumps(facts), "utf-8")
    command = [sys.executable, "-m", "backprop.testing.reopen", str(folder)]
    # Run from an empty folder, so that a model can't lean on files beside its script.
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    (folder / "empty").mkdir(exist_ok=True)
    try:
        return subprocess.run(
            command,
            cwd=folder / "empty",
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"no end after {TIMEOUT_S} s")


def _read(path: Path) -> Iterator[tuple[Path, Found]]:
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    for line in lines:
        own = json.loads(line)
        missing = tuple(dict.fromkeys(name.partition(".")[0] for name in own["missing"]))
        yield Path(own["place"]), Found(missing, one_line(own["dill"]), one_line(own["saved"]))


@functools.cache
def declared() -> frozenset[str]:
    """Return the modules of backprop, of what it requires, and of what that requires in turn."""
    return frozenset({"backprop"}.union(*map(_modules, _packages().values())))


def _packages() -> dict[str, importlib.metadata.Distribution]:
    """Return backprop, what it requires, and what that requires in turn, by ``plain`` name."""
    found: dict[str, importlib.metadata.Distribution] = {}
    done, waiting = set(), [("backprop", "")]
    while waiting:
        package, extra = waiting.pop()
        if (package, extra) in done:
            continue
        done.add((package, extra))
        try:
            own = importlib.metadata.distribution(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # asked for on other systems only
        found[plain(own.metadata["Name"])] = own
        waiting += _requirements(own.requires or [], extra)
    return found


def _requirements(lines: Sequence[str], extra: str) -> Iterator[tuple[str, str]]:
    """Yield (package, extra) of the requirements that hold without an extra, or with ``extra``."""
    for line in lines:
        requirement, _, marker = line.partition(";")
        match = re.match(r"\s*([A-Za-z0-9._-]+)\s*(?:\[(.*?)\])?", requirement)
        wanted = re.search(r"""extra\s*==\s*["'](.*?)["']""", marker)
        if match and (wanted is None or wanted[1] == extra):
            yield match[1], ""
            for further in filter(None, re.split(r"[\s,]+", match[2] or "")):
                yield match[1], further


def _modules(package: importlib.metadata.Distribution) -> Iterator[str]:
    """Yield the top-level modules of an installed package."""
    for file in package.files or []:
        if len(file.parts) > 1:
            yield file.parts[0]
        elif name := inspect.getmodulename(file.name):
            yield name


def describe_missing(home: str, missing: Sequence[str]) -> str:
    """Return why packages that a model lacked are a fault, and the remedy; empty without any.

    Args:
        home: the module of the model's class.
        missing: the packages.
    """
    if not missing:
        return ""
    if home.partition(".")[0] in missing:
        return (
            f"its class is defined in the module {home!r}, which dill leaves out of the pickle, so "
            "it would have to be installed wherever the model is opened; define the class in the "
            "script or notebook that saves it, and dill takes its code along"
        )
    return (
        f"it imports {', '.join(map(repr, missing))}, neither part of Python nor required by "
        "backprop; do without, or install it wherever the model is opened"
    )
