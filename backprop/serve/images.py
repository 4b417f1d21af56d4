"""Pictures over HTTP: base64 alone, bounded before they are decoded.

Of Pillow's many formats four are read: JPEG, PNG, GIF and WebP, which is what browsers and phones
send. TIFF, with its tables of tables, and AVIF are large decoders rarely asked for; BMP and PPM
have forms that Pillow decodes in Python, byte by byte. All are easily saved as PNG before.
"""

from __future__ import annotations

import base64
import binascii
import io
import sys
from collections.abc import Mapping
from typing import Any

from PIL import Image, PngImagePlugin

from backprop.errors import InputError
from backprop.pictures import describe
from backprop.serve.picture_headers import Header, HeaderFault, exif_bytes, read_header
from backprop.specs import TaskSpec

__all__ = ["MAX_IMAGE_BYTES", "MAX_PIXELS", "bound_decoders", "check_images"]

MAX_PIXELS = 25_000_000
MAX_IMAGE_BYTES = 10 << 20
MAX_IMAGES = 64
MAX_TOTAL_PIXELS = 100_000_000
"""Of all pictures of one request; each is decoded to three bytes a pixel."""

MAX_SCANS = 64
MAX_EXTRAS = 2 << 20
MAX_EXIF = 256 << 10
MAX_TEXT_BYTES = 1 << 20

URLS = ("http:", "https:", "ftp:", "file:")
HOW = "send base64 or a data URL of a JPEG, PNG, GIF or WebP picture"


def bound_decoders() -> None:
    """Bound what Pillow unpacks by itself, in this process; call it once at the start."""
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    PngImagePlugin.MAX_TEXT_MEMORY = MAX_TEXT_BYTES
    PngImagePlugin.MAX_TEXT_CHUNK = MAX_TEXT_BYTES


def check_images(spec: TaskSpec, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``body`` with its pictures as bytes, each of known format and bounded size.

    No pixel is decoded, so this takes about as long as decoding the base64.

    Args:
        spec: the task's.
        body: its input as it came; values of other fields are left to ``inputs.read``.

    Raises:
        InputError: a picture is no base64, of another format, or too large.
    """
    checked = dict(body)
    pixels = 0
    for field in spec.fields:
        value = body.get(field.name)
        if field.kind != "image" or value is None:
            continue
        several = isinstance(value, list)
        items = value if several else [value]
        if len(items) > MAX_IMAGES:
            raise InputError(
                f"{field.name} has {len(items)} pictures; at most {MAX_IMAGES} are allowed in one "
                "request; send several requests."
            )
        found = []
        for i, item in enumerate(items):
            where = f"{field.name}[{i}]" if several else field.name
            raw = _decode(item, where)
            pixels += _check(raw, where)
            if pixels > MAX_TOTAL_PIXELS:
                raise InputError(
                    f"{field.name} has more than {MAX_TOTAL_PIXELS:,} pixels in all; send fewer "
                    "pictures in one request, or smaller ones."
                )
            found.append(raw)
        checked[field.name] = found if several else found[0]
    return checked


def _decode(value: Any, where: str) -> bytes:
    """Return the bytes that a string of base64 stands for."""
    if not isinstance(value, str):
        kind = type(value).__name__
        raise InputError(f"{where} must be a string; received {describe(value)} ({kind}); {HOW}.")
    if len(value) > MAX_IMAGE_BYTES * 4 // 3 + 256:
        raise InputError(
            f"{where} has {len(value):,} characters; a picture may have {MAX_IMAGE_BYTES:,} bytes; "
            "make it smaller first."
        )
    text = value.strip()
    if text[:6].lower().startswith(URLS):
        raise InputError(f"{where} is a URL ({describe(text)}), and none is followed; {HOW}.")
    if text[:5].lower() == "data:":
        head, comma, text = text.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise InputError(f"{where} is a data URL without base64 content; {HOW}.")
    try:
        raw = _unbased(text)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{where} is not base64; received {describe(text)}; {HOW}.") from error
    if not raw:
        raise InputError(f"{where} is empty; {HOW}.")
    return raw


def _unbased(text: str) -> bytes:
    """Return what base64 stands for; the strict way of newer Pythons is the faster one, too."""
    text = "".join(text.split())
    if sys.version_info >= (3, 11):
        return binascii.a2b_base64(text, strict_mode=True)
    return base64.b64decode(text, validate=True)


def _check(raw: bytes, where: str) -> int:
    """Return the pixels of a picture that is fine."""
    try:
        header = read_header(raw)
        _check_extras(header)
    except HeaderFault as fault:
        raise InputError(
            f"{where} can't be used: {fault}; received {describe(raw)}; {HOW}, without metadata."
        ) from fault
    pixels = max(width * height for width, height in header.sizes)
    if not 0 < pixels <= MAX_PIXELS or min(min(size) for size in header.sizes) < 1:
        width, height = max(header.sizes, key=lambda size: size[0] * size[1])
        raise InputError(
            f"{where} has {width} x {height} pixels; between 1 and {MAX_PIXELS:,} are allowed; "
            "resize it first."
        )
    Image.init()
    try:
        with Image.open(io.BytesIO(raw), formats=(header.kind,)) as image:
            width, height = image.size
    except Exception as error:  # Pillow's readers raise whatever damaged bytes lead them to
        raise InputError(f"{where} is damaged; received {describe(raw)}; {HOW}.") from error
    if width * height > MAX_PIXELS:
        raise InputError(f"{where} has more than {MAX_PIXELS:,} pixels; resize it first.")
    return pixels


def _check_extras(header: Header) -> None:
    if header.scans > MAX_SCANS:
        raise HeaderFault(f"its pixels come in {header.scans} passes, more than {MAX_SCANS}")
    if header.extras > MAX_EXTRAS:
        raise HeaderFault(f"it has more than {MAX_EXTRAS:,} bytes of metadata")
    if sum(map(exif_bytes, header.exif)) > MAX_EXIF:
        raise HeaderFault(f"its EXIF tells of more than {MAX_EXIF:,} bytes")
