"""Names of models in a server's hub: ``hub://name``, ``hub://name@3``, ``hub://name@alias``."""

from __future__ import annotations

import re

from backprop import artefact
from backprop.errors import InputError

__all__ = ["SCHEME", "is_reference", "split"]

SCHEME = "hub://"
LATEST = "latest"
VERSION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def is_reference(name: object) -> bool:
    """Return whether ``name`` means a model in a server's hub."""
    return isinstance(name, str) and name.startswith(SCHEME)


def split(reference: str) -> tuple[str, str]:
    """Return the model's name and which of its versions: a number, an alias or ``latest``.

    Raises:
        InputError: it is no such reference.
    """
    name, at, version = reference.removeprefix(SCHEME).partition("@")
    if at and not VERSION.fullmatch(version):
        raise InputError(
            f"{reference!r} names no version; write {SCHEME}{name or 'name'}@3, with an alias of "
            "the server instead of the number, or leave out the '@' for the latest."
        )
    return artefact.check_name(name), version or LATEST
