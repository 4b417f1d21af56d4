"""What a client may say to the hub: each value checked before anything is done with it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from backprop import artefact, catalogue, manifest
from backprop.errors import InputError
from backprop.manifest import SHA256, Digest, FolderFault
from backprop.serve.faults import HTTPFault
from backprop.specs import SPECS

__all__ = [
    "MAX_FILES",
    "check_alias",
    "check_description",
    "check_files",
    "check_new_name",
    "check_number",
    "check_sha256",
    "check_size",
    "parse_ref",
]

MAX_FILES = 64
MAX_DESCRIPTION = 2000
MAX_NUMBER = 2**31 - 1
LATEST = "latest"
ALIAS = re.compile(r"[a-z0-9_-]{1,50}")
NUMBER = re.compile(r"[0-9]{1,10}")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
SHOWN = 80


def check_new_name(name: object) -> str:
    """Return ``name`` if a model may be uploaded under it.

    Raises:
        InputError: it is not a model name.
        HTTPFault: 409, it is a name or alias of the catalogue.
    """
    checked = artefact.check_name(name)
    if _is_in_catalogue(checked):
        raise HTTPFault(
            409, f"{checked!r} is a name of the catalogue; choose another one for your model."
        )
    return checked


def check_sha256(value: object) -> str:
    """Return ``value`` if it is a sha256 in 64 lower-case hex digits, else raise InputError."""
    if not isinstance(value, str) or not SHA256.fullmatch(value):
        raise InputError(
            f"A sha256 is 64 hex digits in lower case; received {_shown(value)}. Send the one of "
            "the file's bytes."
        )
    return value


def check_size(value: object, upload_bytes: int) -> int:
    """Return ``value`` if it is a size in bytes that may be uploaded.

    Raises:
        InputError: it is no size.
        HTTPFault: 413, it is over ``upload_bytes``.
    """
    if type(value) is not int or value < 0:
        raise InputError(f"A size is a whole number of bytes from 0; received {_shown(value)}.")
    if value > upload_bytes:
        raise HTTPFault(
            413, f"A file of {value} bytes is too large; this server takes up to {upload_bytes}."
        )
    return value


def check_files(value: object, upload_bytes: int) -> dict[str, Digest]:
    """Return the files of a version, by path, sorted.

    Args:
        value: what came: ``{path: {"sha256": ..., "size_bytes": ...}}``, or a ``Digest`` each.
        upload_bytes: largest file there may be.

    Raises:
        InputError: it is not of that form, holds over 64 files or none, a path is refused or
            stands in another's way, or a file every saved model has is not among them.
        HTTPFault: 413, a file is over ``upload_bytes``.
    """
    if not isinstance(value, Mapping) or not 1 <= len(value) <= MAX_FILES:
        raise InputError(
            f'"files" must be an object of 1 to {MAX_FILES} paths; received {_shown(value)}.'
        )
    files = {path: _check_file(path, facts, upload_bytes) for path, facts in value.items()}
    for needed in (artefact.META, artefact.MANIFEST):
        if needed not in files:
            raise InputError(f"{needed!r} is not among the files; send the folder backprop saved.")
    _check_apart(files)
    return dict(sorted(files.items()))


def check_description(value: object) -> str:
    """Return ``value`` if it is text of at most 2000 characters, else raise InputError."""
    if not isinstance(value, str) or len(value) > MAX_DESCRIPTION or CONTROL.search(value):
        raise InputError(
            f'"description" must be text of at most {MAX_DESCRIPTION} characters without control '
            f"characters; received {_shown(value)}."
        )
    return value


def check_alias(value: object) -> str:
    """Return ``value`` if versions can be given this further name, else raise InputError."""
    if (
        not isinstance(value, str)
        or not ALIAS.fullmatch(value)
        or value == LATEST
        or NUMBER.fullmatch(value)
    ):
        raise InputError(
            "An alias is 1 to 50 characters of a-z, 0-9, '-', '_', neither 'latest' nor a number; "
            f"received {_shown(value)}."
        )
    return value


def check_number(value: object) -> int:
    """Return ``value`` if it can be the number of a version, else raise InputError."""
    if type(value) is not int or not 1 <= value <= MAX_NUMBER:
        raise InputError(f"A version is a whole number from 1; received {_shown(value)}.")
    return value


def parse_ref(ref: object) -> int | str | None:
    """Return what ``ref`` says: a version's number, an alias, or None for the latest.

    Raises:
        InputError: it is none of them.
    """
    if ref == LATEST:
        return None
    if isinstance(ref, int):
        return check_number(ref)
    if isinstance(ref, str) and NUMBER.fullmatch(ref):
        return check_number(int(ref))
    return check_alias(ref)


def _check_file(path: object, facts: object, upload_bytes: int) -> Digest:
    if isinstance(facts, Digest):
        facts = vars(facts)
    try:
        manifest.check_path(path if isinstance(path, str) else "")
    except FolderFault as fault:
        raise InputError(f"{_capitalised(str(fault)[:300])}.") from fault
    if not isinstance(facts, Mapping) or set(facts) != {"sha256", "size_bytes"}:
        raise InputError(
            f'{path!r} needs "sha256" and "size_bytes", and no more; received {_shown(facts)}.'
        )
    return Digest(check_sha256(facts["sha256"]), check_size(facts["size_bytes"], upload_bytes))


def _check_apart(files: Mapping[str, Digest]) -> None:
    """Refuse paths that can't stand in one folder, on systems that ignore letter case too."""
    seen: dict[str, str] = {}
    for path in files:
        other = seen.setdefault(path.casefold(), path)
        if other != path:
            raise InputError(f"{other!r} and {path!r} differ in letter case only; rename one.")
    for path in files:
        parts = path.casefold().split("/")
        for end in range(1, len(parts)):
            above = seen.get("/".join(parts[:end]))
            if above is not None:
                raise InputError(f"{above!r} is both a file and a folder; rename one.")


def _is_in_catalogue(name: str) -> bool:
    is_alias = any(name in catalogue.task_aliases(task) for task in SPECS)
    return is_alias or catalogue.find(name) is not None


def _shown(value: object) -> str:
    if isinstance(value, Mapping | list):
        return f"{'an object' if isinstance(value, Mapping) else 'a list'} of {len(value)}"
    # Sliced first: what came may be long.
    text = repr(value[:SHOWN] if isinstance(value, str) else value)
    return text if len(text) <= 2 * SHOWN else f"{text[:SHOWN]}..."


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]
