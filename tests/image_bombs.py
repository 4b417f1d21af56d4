"""Pictures that are small to send and huge to decode, or that are none; all are to be refused."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Iterator

from PIL import Image

__all__ = ["bombs", "chunk", "picture", "png"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def picture(form: str, size: tuple[int, int], mode: str = "RGB", **options: object) -> bytes:
    """Return a plain picture in a format of Pillow's."""
    file = io.BytesIO()
    Image.new(mode, size, 255).save(file, form, **options)
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def png(width: int, height: int, *more: bytes, data: bytes = b"\0" * 64) -> bytes:
    """Return a PNG of any size, whose pixels may be missing, with further chunks before them."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(data, 9))
    return SIGNATURE + chunk(b"IHDR", head) + b"".join(more) + pixels + chunk(b"IEND", b"")


def exif(tags: int, count: int) -> bytes:
    """Return EXIF whose tags all hold the same great block."""
    table = b"".join(struct.pack("<HHII", 0x9000 + i, 7, count, 8) for i in range(tags))
    return b"II*\0" + struct.pack("<IH", 8, tags) + table + struct.pack("<I", 0)


def _jpeg(*segments: bytes, size: tuple[int, int] = (8, 8)) -> bytes:
    plain = picture("JPEG", size)
    return plain[:2] + b"".join(segments) + plain[2:]


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _frame(width: int, height: int) -> bytes:
    return struct.pack(">BHHB", 8, height, width, 3) + b"\1\x22\0\2\x11\1\3\x11\1"


def _gif(canvas: tuple[int, int], frame: tuple[int, int], frames: int = 1) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", *canvas, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    one = b"," + struct.pack("<4HB", 0, 0, *frame, 0) + b"\2\2\x44\1\0"
    return head + one * frames + b";"


def _webp(width: int, height: int) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    inner = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + size
    inner += b"ANIM" + struct.pack("<IIH", 6, 0, 0)
    return b"RIFF" + struct.pack("<I", len(inner)) + inner


def _lossless(width: int, height: int) -> bytes:
    bits = width - 1 | height - 1 << 14
    body = b"\x2f" + struct.pack("<I", bits) + b"\0" * 8
    inner = b"WEBPVP8L" + struct.pack("<I", len(body)) + body + b"\0"
    return b"RIFF" + struct.pack("<I", len(inner)) + inner


def _zip_text(kind: bytes, size: int, name: bytes = b"Comment") -> bytes:
    packed = zlib.compress(b"\0" * size, 6)
    head = name + b"\0\0" if kind == b"zTXt" else name + b"\0\1\0\0\0"
    return chunk(kind, head + packed)


def bombs() -> Iterator[tuple[str, bytes | str]]:
    """Yield each bomb's name and its bytes, or the string that is sent in place of base64."""
    yield "PNG of 2^31 x 2^31", png(0x7FFFFFFF, 0x7FFFFFFF)
    yield "PNG of 50,000 x 50,000, all there", png(50_000, 50_000, data=b"\0" * (16 << 20))
    yield "PNG of 5,001 x 5,000", png(5001, 5000)
    yield "PNG of 100,000,000 x 1", png(100_000_000, 1)
    yield "PNG of no width", png(0, 10)
    yield "PNG, text unpacked to 60 MB", png(8, 8, *[_zip_text(b"zTXt", 1 << 20)] * 60)
    yield "PNG, one text of 64 MB", png(8, 8, _zip_text(b"zTXt", 1 << 26))
    yield "PNG, UTF-8 text unpacked", png(8, 8, *[_zip_text(b"iTXt", 1 << 20)] * 40)
    profile = chunk(b"iCCP", b"p\0\0" + zlib.compress(b"\0" * (1 << 26), 6))
    yield "PNG, colour profile of 64 MB", png(8, 8, profile)
    yield "PNG, EXIF that points at itself", png(8, 8, chunk(b"eXIf", exif(5000, 60_000)))
    raw = _zip_text(b"zTXt", 1 << 18, b"Raw profile type exif")
    yield "PNG, EXIF as text", png(8, 8, raw)
    yield "PNG, many chunks", png(8, 8, *[chunk(b"tEXt", b"a\0" + b"b" * 1000)] * 6000)
    yield "PNG, cut", png(8, 8)[:20]
    yield (
        "PNG, two sizes",
        png(8, 8, chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))),
    )
    yield "GIF of 65,535 x 65,535", _gif((65_535, 65_535), (1, 1))
    yield "GIF, first frame beyond the canvas", _gif((1, 1), (65_535, 65_535))
    yield "GIF, many large frames", _gif((60_000, 60_000), (60_000, 60_000), 10_000)
    yield "GIF, cut", b"GIF89a\1\0"
    yield (
        "GIF, endless comment",
        b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0) + b"!\xfe" + b"\xffa" * 99,
    )
    yield (
        "JPEG of 65,500 x 65,500",
        b"\xff\xd8" + _segment(0xC0, _frame(65_500, 65_500)) + b"\xff\xda",
    )
    yield "JPEG, a second size", _jpeg(_segment(0xC0, _frame(60_000, 60_000)))
    yield (
        "JPEG, EXIF that points at itself",
        _jpeg(_segment(0xE1, b"Exif\0\0" + exif(5000, 60_000))),
    )
    yield "JPEG, a thousand passes", _jpeg() + b"\xff\xda\0\x08\1\1\0\0\x3f\0" * 1000
    yield "JPEG, no pixels", b"\xff\xd8\xff\xd9"
    yield "JPEG, cut", picture("JPEG", (64, 64))[:30]
    yield "PNG, a million empty chunks", png(8, 8, chunk(b"teXt", b"") * 800_000)
    yield "GIF, blocks of one byte", b"GIF89a\1\0\1\0\0\0\0!\xfe" + b"\1a" * 4_000_000
    yield "JPEG, nothing between segments", b"\xff\xd8" + b"\0" * 9_000_000
    yield "JPEG, fill bytes only", b"\xff" * 9_000_000
    yield "JPEG, restarts only", b"\xff\xd8" + b"\xff\xd0" * 4_500_000
    yield "WebP of 16,777,216 x 256", _webp(1 << 24, 256)
    yield "WebP, canvas of 16,000 x 16,000", _webp(16_000, 16_000)
    yield "WebP without loss, 16,384 x 16,384", _lossless(16_384, 16_384)
    yield "TIFF", picture("TIFF", (8, 8))
    strips = b"II*\0" + struct.pack("<IH", 8, 3)
    strips += struct.pack("<HHII", 256, 4, 1, 1 << 30) + struct.pack("<HHII", 257, 4, 1, 1 << 30)
    yield "TIFF of 2^60 pixels", strips + struct.pack("<HHII", 273, 4, 1 << 30, 8) + b"\0" * 4
    yield "TIFF, tables in a circle", b"II*\0" + struct.pack("<IHI", 8, 0, 8)
    yield (
        "BMP of 2^31 x 2^31",
        b"BM"
        + struct.pack(
            "<IIIIiiHHIIiiII", 99, 0, 54, 40, 2**31 - 1, 2**31 - 1, 1, 24, 0, 0, 0, 0, 0, 0
        ),
    )
    yield "PPM of a huge size", b"P6 99999999 99999999 255\n"
    yield "SVG", b"<svg xmlns='http://www.w3.org/2000/svg' width='99999' height='99999'/>"
    entity = b"<!DOCTYPE a [<!ENTITY b 'bbbbbbbbbb'><!ENTITY c '&b;&b;&b;&b;'>]><svg>&c;</svg>"
    yield "SVG with entities", b"<?xml version='1.0'?>" + entity
    yield "EPS", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n(touch /tmp/x) run\n"
    yield "PDF", b"%PDF-1.7\n"
    yield "zip", b"PK\3\4" + b"\0" * 100
    yield "ICO", picture("ICO", (16, 16))
    yield "ICNS", b"icns\0\0\0\x10ic10\0\0\0\x08"
    yield "PSD", b"8BPS\0\1" + b"\0" * 6 + struct.pack(">HIIHH", 3, 30_000, 30_000, 8, 3)
    yield "AVIF", b"\0\0\0\x20ftypavif" + b"\0" * 20
    yield "a path", "/etc/passwd"
    yield "a URL", "http://127.0.0.1/picture.png"
    yield "file URL", "file:///etc/passwd"
    yield "data URL without base64", "data:image/png,%89PNG"
    yield "data URL of SVG", "data:image/svg+xml;base64," + base64.b64encode(b"<svg/>").decode()
    yield "no base64", "!" * 1000
    yield "nothing", ""
    yield "11 MB of zeros", "A" * (15 << 20)
