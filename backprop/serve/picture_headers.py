"""What a picture's own bytes say of its size and extras, before any decoder sees them.

Decoders trust headers: WebP's sets memory aside for the canvas when it is opened, GIF's first frame
may be larger than the picture, and metadata can point at itself ten thousand times.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

__all__ = ["Header", "HeaderFault", "exif_bytes", "read_header"]


MOST_PARTS = 10_000
"""Chunks, blocks or segments of a file; a photo has some hundreds at most."""


class HeaderFault(Exception):
    """What is wrong with a picture, in words."""


def _counted(number: int) -> int:
    """Return the next number; a file of too many parts would take long to walk through."""
    if number >= MOST_PARTS:
        raise HeaderFault(f"it has more than {MOST_PARTS:,} parts")
    return number + 1


@dataclass
class Header:
    """What was found.

    Args:
        kind: format by Pillow's name.
        sizes: width and height, wherever the file gives them.
        exif: blocks of EXIF.
        extras: bytes of text, colour profiles and other metadata.
        scans: passes that the pixels come in.
    """

    kind: str
    sizes: list[tuple[int, int]] = field(default_factory=list)
    exif: list[bytes] = field(default_factory=list)
    extras: int = 0
    scans: int = 1


def read_header(raw: bytes) -> Header:
    """Return what a JPEG, PNG, GIF or WebP file says of itself.

    Raises:
        HeaderFault: it is none of these, or damaged.
    """
    for start, reader in READERS.items():
        if raw.startswith(start):
            try:
                header = reader(raw)
            except (struct.error, IndexError) as error:
                raise HeaderFault("it is cut off") from error
            if not header.sizes:
                raise HeaderFault("it is cut off before it gives its size")
            return header
    raise HeaderFault("it is in no known format")


def _png(raw: bytes) -> Header:
    header, place, parts = Header("PNG"), 8, 0
    while place < len(raw):
        parts = _counted(parts)
        length, kind = struct.unpack_from(">I4s", raw, place)
        content = raw[place + 8 : place + 8 + length]
        if kind == b"IHDR":
            header.sizes.append(struct.unpack_from(">II", content))
        elif kind == b"eXIf":
            header.exif.append(content)
        elif kind not in (b"IDAT", b"fdAT"):
            header.extras += len(content)
        if kind in (b"tEXt", b"zTXt", b"iTXt") and content.startswith(b"Raw profile type exif"):
            raise HeaderFault("it holds EXIF as text")
        place += 12 + length
        if kind == b"IEND":
            break
    return header


def _gif(raw: bytes) -> Header:
    """Read the canvas and the first frame, which is all that is used."""
    header = Header("GIF")
    width, height, flags = struct.unpack_from("<HHB", raw, 6)
    header.sizes.append((width, height))
    place, parts = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0), 0
    while raw[place] == 0x21:  # an extension: its kind, then blocks up to an empty one
        place, parts = place + 2, _counted(parts)
        while raw[place]:
            parts = _counted(parts)
            header.extras += raw[place]
            place += 1 + raw[place]
        place += 1
    if raw[place] != 0x2C:
        raise HeaderFault("it has no frame")
    left, top, width, height = struct.unpack_from("<4H", raw, place + 1)
    header.sizes.append((left + width, top + height))
    return header


def _jpeg(raw: bytes) -> Header:
    header, place, parts = Header("JPEG"), 2, 0
    header.scans = raw.count(b"\xff\xda")
    while True:
        parts = _counted(parts)
        place = raw.find(b"\xff", place)  # as decoders do, skip what stands between segments
        if place < 0:
            raise HeaderFault("it is cut off")
        while raw[place] == 0xFF:
            place, parts = place + 1, _counted(parts)
        marker = raw[place]
        place += 1
        if marker == 0xDA:
            return header
        if marker == 0xD9:
            raise HeaderFault("it has no pixels")
        if marker in (0x01, 0x00) or 0xD0 <= marker <= 0xD8:
            continue
        (length,) = struct.unpack_from(">H", raw, place)
        content = raw[place + 2 : place + length]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", content, 1)
            header.sizes.append((width, height))
        elif marker == 0xE1 and content.startswith(b"Exif\0\0"):
            header.exif.append(content[6:])
        elif 0xE0 <= marker <= 0xEF or marker == 0xFE:
            header.extras += len(content)
        place += max(2, length)


def _webp(raw: bytes) -> Header:
    header, place, parts = Header("WEBP"), 12, 0
    if raw[8:12] != b"WEBP":
        raise HeaderFault("it is in no known format")
    while place + 8 <= len(raw):
        parts = _counted(parts)
        kind, length = struct.unpack_from("<4sI", raw, place)
        content = raw[place + 8 : place + 8 + min(length, len(raw))]
        if kind == b"VP8X":
            wide, high = (int.from_bytes(content[i : i + 3], "little") + 1 for i in (4, 7))
            header.sizes.append((wide, high))
        elif kind == b"VP8L":
            (bits,) = struct.unpack_from("<I", content, 1)
            header.sizes.append(((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1))
        elif kind == b"VP8 ":
            wide, high = struct.unpack_from("<HH", content, 6)
            header.sizes.append((wide & 0x3FFF, high & 0x3FFF))
        elif kind == b"EXIF":
            header.exif.append(content.removeprefix(b"Exif\0\0"))
        elif kind not in (b"ALPH", b"ANIM", b"ANMF"):
            header.extras += len(content)
        place += 8 + length + (length & 1)
    return header


READERS: Mapping[bytes, Callable[[bytes], Header]] = {
    b"\x89PNG\r\n\x1a\n": _png,
    b"GIF87a": _gif,
    b"GIF89a": _gif,
    b"\xff\xd8\xff": _jpeg,
    b"RIFF": _webp,
}
"""First bytes of a file to what reads its header."""

UNITS = (1, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 2, 8, 8, 8, 8)
"""Bytes of each type of value in EXIF."""

INNER = (0x8769, 0x8825, 0xA005, 0x014A)
"""Tags that point at further tables."""

MOST_TABLES = 8
MOST_TAGS = 512


def exif_bytes(block: bytes) -> int:
    """Return how many bytes of values a block of EXIF tells of, be they there or not.

    Raises:
        HeaderFault: it is damaged, or its tables go on and on.
    """
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        raise HeaderFault("its EXIF is damaged")
    pending, seen, total = [4], 0, 0
    while pending:
        seen += 1
        if seen > MOST_TABLES:
            raise HeaderFault("its EXIF has too many tables")
        try:
            (place,) = struct.unpack_from(f"{order}I", block, pending.pop())
            if place:
                for tag, size, value in _tags(block, place, order):
                    total += size
                    pending += [value] if tag in INNER else []
        except struct.error as error:
            raise HeaderFault("its EXIF is damaged") from error
    return total


def _tags(block: bytes, place: int, order: str) -> Iterator[tuple[int, int, int]]:
    """Yield each tag of a table, the bytes of its values and where these, or their place, stand."""
    (count,) = struct.unpack_from(f"{order}H", block, place)
    if count > MOST_TAGS:
        raise HeaderFault(f"its EXIF has a table of {count:,} tags")
    for i in range(count):
        here = place + 2 + 12 * i
        tag, kind, items = struct.unpack_from(f"{order}HHI", block, here)
        yield tag, items * (UNITS[kind] if kind < len(UNITS) else 8), here + 8
