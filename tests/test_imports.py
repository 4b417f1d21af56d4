"""Imports point one way, handlers stay free of torch, and ``import backprop`` stays light."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.guard import ROOT, run_python

# A module or folder may import what stands before it; inside a folder, siblings may import each
# other, but not in a circle. A name given as a string in a lazy table is no import.
ORDER = (
    *("errors", "optional", "signatures", "progress", "similarity", "specs", "pictures", "inputs"),
    *(
        "manifest",
        "folders",
        "entries",
        "artefact",
        "hub",
        "index",
        "sources",
        "catalogue",
        "client",
        "remote",
    ),
    *("collate", "losses", "engines", "handlers", "models", "metrics", "data", "trainer"),
    *("report", "finetuning"),
    *("tasks", "testing", "serve", "demo", "bench", "cli", "__main__"),
)

# The package's own __init__ loads next to nothing; the one of tasks is a lazy table too.
INIT_MAY_IMPORT = {"errors", "optional", "tasks"}

TORCH_FREE = {
    *("specs", "inputs", "artefact", "sources", "catalogue", "handlers"),
    *("data", "metrics", "report"),
}
NEEDS_TORCH = (
    *("torch", "transformers"),
    # These import torch themselves.
    *("sentence_transformers", "accelerate", "peft", "safetensors.torch"),
)

CPU_LIMIT_S = 0.060


@dataclass(frozen=True)
class Import:
    """One import of one name, wherever in its module it stands."""

    importer: str
    target: str
    line: int
    runtime: bool

    def __str__(self) -> str:
        return f"{self.importer}, line {self.line}, imports {self.target}"


class Package:
    """The modules of a package and what they import, read from source without running it."""

    def __init__(self, folder: Path) -> None:
        self.name = folder.name
        self.paths = {_dotted(folder, path): path for path in sorted(folder.rglob("*.py"))}
        found = (each for name in self.paths for each in self._imports_of(name))
        self.imports = list(dict.fromkeys(found))

    def group(self, module: str) -> str:
        """Return the part of ``module`` that ORDER ranks; "" is the package itself."""
        return module.removeprefix(self.name).removeprefix(".").partition(".")[0]

    def is_ours(self, module: str) -> bool:
        return module == self.name or module.startswith(f"{self.name}.")

    def ours(self, *, runtime: bool) -> list[Import]:
        found = [each for each in self.imports if self.is_ours(each.target)]
        return [each for each in found if each.runtime] if runtime else found

    def _imports_of(self, module: str) -> Iterator[Import]:
        path = self.paths[module]
        parent = module if path.name == "__init__.py" else module.rpartition(".")[0]
        for node, runtime in _nodes(ast.parse(path.read_text(encoding="utf-8"))):
            for target in _targets(node, parent):
                yield Import(module, self._module_of(target), node.lineno, runtime)

    def _module_of(self, target: str) -> str:
        """Return the module of ours that holds ``target``, or ``target`` itself."""
        owner, _, _ = target.rpartition(".")
        in_ours = owner.startswith(f"{self.name}.") and target not in self.paths
        return owner if in_ours else target


def _dotted(folder: Path, path: Path) -> str:
    parts = path.relative_to(folder.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _nodes(tree: ast.AST, runtime: bool = True) -> Iterator[tuple[ast.stmt | ast.expr, bool]]:
    """Yield every statement and expression, and whether it is there when the program runs."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, (ast.stmt, ast.expr)):
            yield child, runtime
        if isinstance(child, ast.If) and ast.unparse(child.test) in {
            "TYPE_CHECKING",
            "typing.TYPE_CHECKING",
        }:
            yield from _nodes(ast.Module(child.body, []), runtime=False)
            yield from _nodes(ast.Module(child.orelse, []), runtime)
        else:
            yield from _nodes(child, runtime)


def _targets(node: ast.stmt | ast.expr, parent: str) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=module, names=names, level=level):
            above = ".".join(parent.split(".")[: 1 - level or None]) if level else ""
            base = ".".join(part for part in (above, module) if part)
            return [f"{base}.{alias.name}" for alias in names]
        case ast.Call(
            func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
            args=[ast.Constant(value=str(name)), *_],
        ):
            return [name]
    return []


def unplaced(package: Package) -> list[str]:
    """Return the modules that ORDER does not mention."""
    return [name for name in package.paths if package.group(name) not in {"", *ORDER}]


def against_the_order(package: Package) -> list[str]:
    """Return the imports that point down ORDER, or at the package's lazy front door."""
    rank = {group: position for position, group in enumerate(ORDER)}

    def is_allowed(each: Import) -> bool:
        importer, target = package.group(each.importer), package.group(each.target)
        if not importer:
            return target in INIT_MAY_IMPORT or not each.runtime
        return importer == target or rank.get(target, len(ORDER)) < rank.get(importer, -1)

    return [str(each) for each in package.ours(runtime=False) if not is_allowed(each)]


def circle(package: Package) -> list[str]:
    """Return the modules of one circle of imports, if there is any."""
    graph: dict[str, set[str]] = {name: set() for name in package.paths}
    for each in package.ours(runtime=True):
        graph[each.importer].add(each.target)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        modules: list[str] = error.args[1]
        return modules
    return []


def ways_to_torch(package: Package) -> list[str]:
    """Return each import by which a module that must stay free of torch would load it."""
    start = [name for name in package.paths if package.group(name) in TORCH_FREE]
    reached = dict.fromkeys(start, "")
    for module in (queue := list(start)):
        for name in _loaded_with(package, module):
            if name not in reached:
                reached[name] = f" (which {module} loads)"
                queue.append(name)
    return [
        f"{each}{reached[each.importer]}"
        for each in package.imports
        if each.importer in reached and each.runtime and _needs_torch(each.target)
    ]


def _loaded_with(package: Package, module: str) -> set[str]:
    """Return what importing ``module`` imports of ours, the folders above each included."""
    targets = {each.target for each in package.ours(runtime=True) if each.importer == module}
    steps = [target.split(".") for target in {module, *targets}]
    return {".".join(parts[:length]) for parts in steps for length in range(1, len(parts) + 1)}


def _needs_torch(target: str) -> bool:
    return any(target == name or target.startswith(f"{name}.") for name in NEEDS_TORCH)


@pytest.fixture(scope="module")
def backprop() -> Package:
    return Package(ROOT / "backprop")


def test_every_module_has_a_place_in_the_order(backprop: Package) -> None:
    assert unplaced(backprop) == []


def test_imports_point_one_way(backprop: Package) -> None:
    assert against_the_order(backprop) == []


def test_no_imports_go_in_a_circle(backprop: Package) -> None:
    assert circle(backprop) == []


def test_no_torch_in_what_handlers_import(backprop: Package) -> None:
    assert ways_to_torch(backprop) == []


def test_handlers_import_where_torch_is_missing(backprop: Package) -> None:
    names = [name for name in backprop.paths if backprop.group(name) in TORCH_FREE]
    code = f"import importlib\nfor name in {names}:\n    importlib.import_module(name)"
    process = run_python(code, blocked=("torch", "transformers"))
    assert process.returncode == 0, process.stderr


def test_import_backprop_loads_no_other_package() -> None:
    process = run_python(
        """
        import sys
        before = set(sys.modules)
        import backprop
        names = {name.partition(".")[0] for name in set(sys.modules) - before}
        print(*sorted(names - set(sys.stdlib_module_names)))
        """
    )
    assert process.stdout.split() == ["backprop"], process.stderr


def test_import_backprop_takes_under_60_ms_of_cpu() -> None:
    # Noise only ever adds time, so the least of several runs is the measure.
    bare = min(_cpu_s("import time") for _ in range(7))
    full = min(_cpu_s("import time, backprop") for _ in range(7))
    assert full - bare < CPU_LIMIT_S


def _cpu_s(code: str) -> float:
    """Return the seconds of CPU, user and system, of a new interpreter that runs ``code``."""
    return float(run_python(f"{code}\nprint(time.process_time())").stdout)


# The checks above must find what they are there to find.


def package(folder: Path, sources: Mapping[str, str]) -> Package:
    for name, source in sources.items():
        path = folder / "backprop" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return Package(folder / "backprop")


@pytest.mark.parametrize(
    "sources",
    [
        {"specs.py": "from backprop.cli import main"},
        {"specs.py": "import backprop.cli"},
        {"specs.py": "from backprop import cli", "cli.py": ""},
        {"specs.py": "from .cli import main"},
        {"specs.py": "def read():\n    from backprop.inputs import read"},
        {"specs.py": "import importlib\nimportlib.import_module('backprop.inputs')"},
        {"specs.py": "if TYPE_CHECKING:\n    from backprop.inputs import Row"},
        {"handlers/nli.py": "from ..models.base import BaseModel"},
        {"handlers/nli.py": "from backprop import QA"},
        {"handlers/nli.py": "import backprop"},
        {"__init__.py": "from backprop.models import BaseModel"},
    ],
    ids=lambda sources: next(iter(sources.values())),
)
def test_finds_an_import_against_the_order(tmp_path: Path, sources: dict[str, str]) -> None:
    assert len(against_the_order(package(tmp_path, sources))) == 1


def test_allows_imports_up_the_order_and_between_siblings(tmp_path: Path) -> None:
    sources = {
        "__init__.py": "import backprop.optional\nif TYPE_CHECKING:\n    from .tasks import QA",
        "optional.py": "",
        "tasks/__init__.py": "from backprop.tasks.qa import QA\nLAZY = {'QA': 'backprop.cli:main'}",
        "tasks/qa.py": "from .base import Task\nfrom ..errors import InputError\nimport json",
        "tasks/base.py": "from backprop import errors",
        "errors.py": "",
    }
    found = package(tmp_path, sources)
    assert (against_the_order(found), circle(found), unplaced(found)) == ([], [], [])


def test_finds_a_module_without_a_place(tmp_path: Path) -> None:
    assert unplaced(package(tmp_path, {"utils.py": "", "errors.py": ""})) == ["backprop.utils"]


def test_finds_a_circle_through_a_function(tmp_path: Path) -> None:
    sources = {
        "models/a.py": "from backprop.models import b",
        "models/b.py": "def build():\n    from backprop.models.a import A",
    }
    assert {"backprop.models.a", "backprop.models.b"} == set(circle(package(tmp_path, sources)))


@pytest.mark.parametrize(
    "sources",
    [
        {"handlers/nli.py": "import torch.nn"},
        {"handlers/nli.py": "from safetensors import torch"},
        {"inputs.py": "def read():\n    import transformers"},
        {
            "handlers/nli.py": "from backprop.engines.onnx import X",
            "engines/__init__.py": "import torch",
        },
        {
            "catalogue.py": "from backprop import optional",
            "optional.py": "import backprop.errors",
            "errors.py": "from peft import X",
        },
    ],
    ids=lambda sources: " > ".join(sources.values()),
)
def test_finds_a_way_to_torch(tmp_path: Path, sources: dict[str, str]) -> None:
    assert len(ways_to_torch(package(tmp_path, sources))) == 1


def test_an_import_for_type_checkers_loads_no_torch(tmp_path: Path) -> None:
    source = "if typing.TYPE_CHECKING:\n    import torch\nelse:\n    import numpy"
    assert ways_to_torch(package(tmp_path, {"handlers/nli.py": source})) == []
