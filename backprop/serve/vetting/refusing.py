"""How an upload is refused: one sentence that names the file, what is wrong and what to do."""

from __future__ import annotations

from typing import NoReturn

from backprop.errors import ArtefactError

__all__ = ["refuse", "shown"]


def refuse(where: str, what: str, remedy: str = "save the model again with backprop") -> NoReturn:
    """Raise the error of an upload that may not be served.

    Args:
        where: the file, and the field in it; never a path of the server.
        what: what is wrong, with the value received made safe by ``shown``.
        remedy: what the uploader can do.

    Raises:
        ArtefactError: always.
    """
    raise ArtefactError(f"{where}: {what}; {remedy}.")


def shown(value: object) -> str:
    """Return a short picture of a value in one printable line."""
    if isinstance(value, (dict, list)):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    if isinstance(value, int) and value.bit_length() > 200:
        return "a huge number"
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:50]}... ({len(text)} characters)"
