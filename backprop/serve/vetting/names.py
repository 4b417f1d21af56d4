"""Keys that would bring code along, and values that would name places: refused at any depth."""

from __future__ import annotations

import re
from typing import Any

from backprop.serve.vetting.refusing import refuse, shown

__all__ = ["check_names", "is_plain_name"]

CODE = frozenset(
    {
        "auto_map",
        "code_paths",
        "code_revision",
        "custom_code",
        "custom_generate",
        "custom_objects",
        "custom_pipelines",
        "py/object",
        "py/reduce",
        "remote_code",
        "trust_remote_code",
        "_target_",
        "_partial_",
        "__class__",
        "__init__",
        "__module__",
        "__reduce__",
    }
)
"""What other libraries take for "import this"."""

NAMING = re.compile(
    r".*(_|^)(name_or_path|path|paths|file|files|dir|repo|repo_id|revision|url|uri)"
)
"""Keys whose values name a model, a file or a place."""

PLAIN = re.compile(r"\w[\w .+-]{0,99}(/\w[\w.+-]{0,99})?")
ADDRESS = re.compile(
    r"\s*(?:[a-z][a-z0-9+.-]{1,20}://|data:|javascript:|\\\\|file:)", re.IGNORECASE
)


def check_names(content: Any, where: str, *, values: bool = True) -> None:
    """Look at every key and string below ``content``.

    Args:
        content: JSON.
        where: the file.
        values: whether strings are looked at; in words for people an address is fine.

    Raises:
        ArtefactError: a key that brings code, a URL, or a path where a name belongs.
    """
    pending: list[tuple[str, Any]] = [("", content)]
    while pending:
        key, value = pending.pop()
        if isinstance(value, dict):
            for name, item in value.items():
                if name in CODE or name.lower() in CODE:
                    refuse(
                        where,
                        f"the key {shown(name)} would bring code along, which is never run",
                        "remove it and use a model that needs no code of its own",
                    )
                pending.append((name, item))
        elif isinstance(value, list):
            pending += [(key, item) for item in value]
        elif values and isinstance(value, str):
            _check_value(key, value, where)


def is_plain_name(value: str) -> bool:
    """Return whether ``value`` is the name of a model, with or without its owner's; no path."""
    return PLAIN.fullmatch(value) is not None and ".." not in value


def _check_value(key: str, value: str, where: str) -> None:
    if ADDRESS.match(value):
        refuse(where, f"{shown(key)} holds the address {shown(value)}", "remove it")
    if value and NAMING.fullmatch(key.lower()) and not is_plain_name(value):
        refuse(where, f"{shown(key)} holds the path {shown(value)}", "remove it")
