"""What functions of other people's can be called with."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

__all__ = ["needed", "takes"]

PLACES = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def needed(function: Callable[..., Any]) -> int:
    """Return how many arguments must be given by place; 0 where the function does not tell."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # some callables written in C have none
        return 0
    return sum(each.kind in PLACES and each.default is each.empty for each in parameters)


def takes(function: Callable[..., Any], name: str) -> bool:
    """Return whether a function has an argument called ``name``, or takes any."""
    parameters = inspect.signature(function).parameters
    return name in parameters or any(
        each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values()
    )
