"""Run as a program: opens models in a process where only declared packages can be imported.

``python -m backprop.testing.reopen FOLDER`` reads ``FOLDER/facts.json`` and adds a line to
``FOLDER/found.jsonl`` for each model. Only the standard library is imported before the fence.
"""

from __future__ import annotations

import json
import pickle
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from backprop.optional import load

__all__ = ["ASKED", "FACTS", "FOUND", "PICKLE", "SAVED", "main", "plain"]

# What stands in the folder that is worked in,
FACTS, FOUND = "facts.json", "found.jsonl"
# and in that of each model.
PICKLE, SAVED, ASKED = "model.dill", "saved", "asked.pickle"


class Fence(MetaPathFinder):
    """Finds what another finder finds, if it is among what is allowed.

    Args:
        finder: the other one.
        allowed: top-level modules.
        packages: those whose versions may be asked for, as ``plain`` writes them.
    """

    def __init__(self, finder: Any, allowed: frozenset[str], packages: frozenset[str]) -> None:
        self.finder = finder
        self.allowed = allowed
        self.packages = packages

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the module's spec; None for a module that is not allowed, as if not there."""
        if not _is_among(name, self.allowed):
            return None
        found: ModuleSpec | None = self.finder.find_spec(name, path, target)
        return found

    def find_distributions(self, *args: Any) -> Any:
        """Yield the installed distributions that are allowed, for ``importlib.metadata``."""
        find = getattr(self.finder, "find_distributions", None)
        for found in find(*args) if find else ():
            if plain(found.metadata.get("Name") or "") in self.packages:
                yield found

    def invalidate_caches(self) -> None:
        """Pass the call on."""
        getattr(self.finder, "invalidate_caches", lambda: None)()


def plain(package: str) -> str:
    """Return the name of a package as it is compared: ``Foo.Bar_baz`` is ``foo-bar-baz``."""
    return re.sub(r"[-_.]+", "-", package).lower()


def main(folder: Path) -> None:
    """Open each model of ``folder/facts.json`` and note what was found."""
    facts = json.loads((folder / FACTS).read_text("utf-8"))
    allowed = frozenset(facts["modules"]) | sys.stdlib_module_names
    packages = frozenset(facts["packages"])
    sys.meta_path[:] = [Fence(finder, allowed, packages) for finder in sys.meta_path]
    load("torch:set_num_threads")(facts["threads"])
    for place in map(Path, facts["places"]):
        found = json.dumps({"place": str(place), **_reopen(place, allowed)})
        with (folder / FOUND).open("a", encoding="utf-8") as file:
            file.write(f"{found}\n")


def _reopen(place: Path, allowed: frozenset[str]) -> dict[str, Any]:
    """Return what went wrong with the pickle and the saved folder, and modules they lack."""
    ways: dict[str, Callable[[Path], Any]] = {"dill": _undill, "saved": _load_saved}
    found: dict[str, Any] = {"missing": []}
    for way, opener in ways.items():
        try:
            found[way] = _fault(opener(place), place)
        except Exception as error:  # whatever a user's own code raises is the finding
            found[way] = f"{type(error).__name__}: {error}"
            found["missing"] += [name for name in _missing(error) if not _is_among(name, allowed)]
    return found


def _is_among(name: str, allowed: frozenset[str]) -> bool:
    package = name.partition(".")[0]
    # Python's own list leaves out the one module that is named after the machine.
    return package in allowed or package.startswith("_sysconfigdata_")


def _undill(place: Path) -> Any:
    with (place / PICKLE).open("rb") as file:
        return load("dill:load")(file)


def _load_saved(place: Path) -> Any:
    return load("backprop.models.saving:load")(place / SAVED, trust_pickle=True)


def _fault(model: Any, place: Path) -> str:
    """Return how the model's answers differ from those noted; empty where they don't."""
    difference = load("backprop.testing.answers:difference")
    # Not dill: these are plain data, written by the process that started this one.
    for asked in pickle.loads((place / ASKED).read_bytes()):
        fault = difference(model(asked["given"], task=asked["task"]), asked["answer"])
        if fault:
            return f"asked to do {asked['task']}, it gave {fault}"
    return ""


def _missing(error: BaseException | None) -> Iterator[str]:
    """Yield the packages whose absence led to ``error``."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name:
            yield error.name
        error = error.__cause__ or error.__context__


if __name__ == "__main__":
    main(Path(sys.argv[1]))
