"""Imports on demand: names by string, and optional packages that name their extra."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from backprop.errors import MissingPackageError

__all__ = ["load", "require"]


def load(name: str) -> Any:
    """Return the object ``name`` points at, importing its module now.

    Args:
        name: ``"package.module:Name"``, or ``"package.module"`` for the module itself.
    """
    place, _, attribute = name.partition(":")
    module = importlib.import_module(place)
    return getattr(module, attribute) if attribute else module


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
