"""One hash of all training data, by which a checkpoint knows its own."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from PIL import Image

from backprop.data.reading import Data
from backprop.pictures import Picture

__all__ = ["fingerprint"]


def fingerprint(data: Data) -> str:
    """Return a sha256 of the task, the labels and every value of every row, in hexadecimal.

    Files of images count by their path, size and time of change, so that they need not be read.
    """
    digest = hashlib.sha256()
    head = [data.task, data.variant, data.multi_label, data.labels, list(data.columns)]
    digest.update(json.dumps(head).encode())
    for values in data.columns.values():
        for value in values:
            content = _content(value)
            digest.update(len(content).to_bytes(8, "big"))  # else "ab", "c" were "a", "bc"
            digest.update(content)
    return digest.hexdigest()


def _content(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    return _picture(value) if isinstance(value, Picture) else repr(value).encode()


def _picture(picture: Picture) -> bytes:
    source = picture.source
    if isinstance(source, bytes):
        return source
    if isinstance(source, Path):
        stat = source.stat()
        return f"{source}\0{stat.st_size}\0{stat.st_mtime_ns}".encode()
    if isinstance(source, Image.Image):
        return f"{source.mode}{source.size}".encode() + source.tobytes()
    return repr(source).encode()
