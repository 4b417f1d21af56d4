"""Images of training data, each decoded once before training to know that it can be."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PIL import Image

from backprop.data.problems import Fault
from backprop.data.values import is_missing
from backprop.errors import InputError
from backprop.pictures import Picture, describe, open_picture

__all__ = ["read_images"]

HOW = "pass paths, PIL images, bytes, base64 or data URLs"


def read_images(
    values: Sequence[Any], name: str, folder: Path | None, note: Callable[[int, Fault], None]
) -> list[Picture | None]:
    """Return a picture a value, None for those that can't be read, which are noted.

    Every image is decoded in full, each file once: a header may be fine and the rest missing.
    That takes as long as reading them in an epoch does: on two cores, 0.3 s for 1,000 images of
    32 x 32 pixels, 2 s for 1,000 of 430 x 290.

    Args:
        values: images in any form ``open_picture`` takes, or ``{"bytes": …, "path": …}`` as
            ``datasets`` keeps them.
        name: of the column.
        folder: where relative paths may start, besides the working directory.
        note: told the row of a fault.
    """
    pictures = [_opened(i, value, name, folder, note) for i, value in enumerate(values)]
    unique = {_key(picture): picture for picture in pictures if picture is not None}
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes without the GIL
        damage = dict(zip(unique, pool.map(_damage, unique.values()), strict=True))
    return [
        picture if picture is None or _is_whole(i, picture, damage, note) else None
        for i, picture in enumerate(pictures)
    ]


def _opened(
    row: int, value: Any, name: str, folder: Path | None, note: Callable[[int, Fault], None]
) -> Picture | None:
    where = f"{name}[{row}]"
    if isinstance(value, Mapping) and {"bytes", "path"} & set(value):
        value = value.get("bytes") or value.get("path")
    if is_missing(value):
        note(row, Fault("missing", "fill in or remove such rows"))
        return None
    try:
        return open_picture(_in_folder(value, folder), where)
    except InputError as error:
        reason = str(error).removeprefix(where).split(";")[0].partition(" (")[0].strip(": ")
        note(row, Fault("not usable as an image", HOW, f"{_shown(value)}: {reason}"))
        return None


def _in_folder(value: Any, folder: Path | None) -> Any:
    """Return the path beside the file that lists it, where there is such an image."""
    if folder is None or not isinstance(value, str) or len(value) > LONGEST_PATH:
        return value
    beside = folder / value
    return beside if not Path(value).is_file() and beside.is_file() else value


LONGEST_PATH = 1000
"""Longer strings are images themselves, in base64."""


def _key(picture: Picture) -> Hashable:
    """Return what two pictures of one source share; Pillow may not load one image twice at once."""
    return id(picture.source) if isinstance(picture.source, Image.Image) else picture.source


def _damage(picture: Picture) -> str:
    """Return why a picture can't be decoded, empty where it can."""
    try:
        picture.rgb()
    except InputError as error:
        return str(error.__cause__)
    return ""


def _is_whole(
    row: int, picture: Picture, damage: Mapping[Hashable, str], note: Callable[[int, Fault], None]
) -> bool:
    reason = damage[_key(picture)]
    if reason:
        received = f"{_shown(picture.source)}, {reason}"
        note(row, Fault("damaged", "check that the file is complete", received))
    return not reason


def _shown(value: object) -> str:
    """Return ``value`` for a message: a path in full, so that it can be found."""
    return str(value) if isinstance(value, Path) else describe(value)
