"""Imports on demand: names by string, and optional packages that name their extra."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from backprop.errors import MissingPackageError

__all__ = ["lazy", "load", "require"]


def load(name: str) -> Any:
    """Return the object ``name`` points at, importing its module now.

    Args:
        name: ``"package.module:Name"``, or ``"package.module"`` for the module itself.
    """
    place, _, attribute = name.partition(":")
    module = importlib.import_module(place)
    return getattr(module, attribute) if attribute else module


def lazy(
    module: str, names: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` of a module whose names are imported when used.

    Args:
        module: the module's ``__name__``.
        names: public name to where it is, as ``load`` takes it.
    """

    def get(name: str) -> Any:
        if name in names:
            return load(names[name])
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return get, lambda: sorted({*vars(sys.modules[module]), *names})


def require(package: str, *, extra: str) -> ModuleType:
    """Return ``package``, imported.

    Args:
        package: import name.
        extra: the extra of backprop that installs it.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"The package {package!r} is not installed (received: {error}); "
            f"install it with: pip install 'backprop[{extra}]'"
        ) from error
