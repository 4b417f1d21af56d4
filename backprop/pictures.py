"""Images from wherever people have them: checked at the door, decoded when needed."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from backprop.errors import InputError

__all__ = ["FORMATS", "MAX_PIXELS", "Picture", "open_picture"]

FORMATS = ("JPEG", "MPO", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF")
MAX_PIXELS = 89_478_485
"""Largest image decoded, in pixels: Pillow's own bound against decompression bombs."""

HOW = "pass a path, a PIL image, bytes, base64 or a data URL"


@dataclass(frozen=True)
class Picture:
    """An image whose format and size are known to be fine, not decoded yet.

    Args:
        source: where the pixels are.
        where: how errors name it, such as ``image[3]``.
    """

    source: Path | bytes | Image.Image
    where: str

    def load(self) -> None:
        """Read the pixels of a caller's own image, which two threads can't do at once.

        Raises:
            InputError: the pixel data is damaged.
        """
        with self._decoding():
            if isinstance(self.source, Image.Image):
                self.source.load()

    def rgb(self) -> Image.Image:
        """Return the pixels: mode RGB, upright, first frame; the source stays as it was.

        Raises:
            InputError: the pixel data is damaged.
        """
        with self._decoding(), _opened(self.source) as image:
            if image is self.source:  # stays as it was
                return _to_rgb(ImageOps.exif_transpose(image))
            ImageOps.exif_transpose(image, in_place=True)
            return _to_rgb(image)

    @contextmanager
    def _decoding(self) -> Iterator[None]:
        """Say which picture can't be decoded."""
        try:
            yield
        except Exception as error:  # Pillow's readers raise whatever damaged bytes lead them to
            raise InputError(
                f"{self.where} can't be decoded ({error}); received {describe(self.source)}; "
                "check that the file is complete."
            ) from error


def open_picture(value: object, where: str, *, paths: bool = True) -> Picture:
    """Return ``value`` as a picture, having read no more than its header.

    Args:
        value: path, ``pathlib.Path``, PIL image, bytes, base64 or data URL.
        where: how errors name it, such as ``image[3]``.
        paths: whether strings may name files; a server says no.

    Raises:
        InputError: not an image, a format or size that is not allowed, or nothing there.
    """
    picture = Picture(_find(value, where, paths=paths), where)
    try:
        with _opened(picture.source) as image:
            width, height = image.size
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{where} is too large ({error}); make it smaller first.") from error
    except Exception as error:  # Pillow's readers raise whatever damaged bytes lead them to
        hint = _hint(value)
        raise InputError(
            f"{where} is not an image in a known format ({', '.join(FORMATS)}); "
            f"received {describe(value)}{hint}; {HOW}."
        ) from error
    if not 0 < width * height <= MAX_PIXELS:
        raise InputError(
            f"{where} has {width} x {height} pixels; between 1 and {MAX_PIXELS:,} are allowed; "
            "resize it first."
        )
    return picture


def describe(value: object) -> str:
    """Return a short, safe picture of ``value`` for an error message."""
    if isinstance(value, (bytes, bytearray)):
        return f"{len(value)} bytes starting {bytes(value[:8])!r}"
    if isinstance(value, Image.Image):
        return f"a PIL image of mode {value.mode} and size {value.size}"
    try:
        text = repr(value)
    except Exception:  # a value's own repr may raise anything; Python's does for huge numbers
        return f"a {type(value).__name__} that can't be shown"
    return text if len(text) <= 80 else f"{text[:60]}… ({len(text)} characters)"


@contextmanager
def _opened(source: Path | bytes | Image.Image) -> Iterator[Image.Image]:
    """Open a file or bytes and close it again; a caller's own image stays open."""
    if isinstance(source, Image.Image):
        yield source
        return
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    with Image.open(file, formats=formats) as image:
        yield image


def _find(value: object, where: str, *, paths: bool) -> Path | bytes | Image.Image:
    if isinstance(value, Image.Image):
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, Path):
        if not (paths and value.is_file()):
            raise InputError(f"{where}: there is no file {str(value)!r}; {HOW}.")
        return value
    if isinstance(value, str):
        return _find_text(value.strip(), where, paths=paths)
    raise InputError(
        f"{where} must be an image; received {describe(value)} of type "
        f"{type(value).__name__}; {HOW} (for an array: PIL.Image.fromarray)."
    )


def _find_text(text: str, where: str, *, paths: bool) -> Path | bytes:
    if not text:
        raise InputError(f"{where} is blank; {HOW}.")
    if text.lower().startswith(("http://", "https://", "ftp://", "file://")):
        raise InputError(
            f"{where} is a URL ({describe(text)}), and URLs are never followed; "
            "download it and pass the path or the bytes."
        )
    if text.lower().startswith("data:"):
        header, comma, text = text.partition(",")
        if not comma or not header.lower().endswith(";base64"):
            raise InputError(
                f"{where} is a data URL without base64 content ({describe(header)}); "
                "use data:image/png;base64,…"
            )
        paths = False
    if paths and _is_file(text):
        return Path(text)
    if paths and _is_folder(text):
        raise InputError(f"{where} is a folder ({describe(text)}); pass the files in it.")
    try:
        return base64.b64decode("".join(text.split()), validate=True) or b"empty"
    except (binascii.Error, ValueError) as error:
        kinds = "neither an existing file nor base64" if paths else "not base64"
        raise InputError(f"{where} is {kinds}; received {describe(text)}; {HOW}.") from error


def _is_file(text: str) -> bool:
    """Whether ``text`` names a file; base64 is often too long or odd to ask the system about."""
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


def _is_folder(text: str) -> bool:
    try:
        return Path(text).is_dir()
    except (OSError, ValueError):
        return False


def _hint(value: object) -> str:
    if isinstance(value, str) and not _is_file(value):
        return " (there is no such file, and as base64 it is no image)"
    return ""


def _to_rgb(image: Image.Image) -> Image.Image:
    """Return ``image`` in mode RGB; what is transparent becomes white, 16 bits become 8."""
    if image.mode == "RGB" and "transparency" not in image.info:
        image.load()
        return image
    if image.mode in ("F", "I"):
        return _grey(image).convert("RGB")
    if image.mode.startswith("I;16"):
        return image.convert("I").point(lambda value: value / 256).convert("L").convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        canvas = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(canvas, layer).convert("RGB")
    return image.convert("RGB")


def _grey(image: Image.Image) -> Image.Image:
    """Return an image of wide numbers in mode L: from 0 to 1, to 255 or, beyond that, to 65,535."""
    values = image.convert("F")
    low, high = values.getextrema()
    if not isinstance(high, (int, float)) or not isinstance(low, (int, float)):
        return values.convert("L")
    factor = 255.0 if high <= 1 and low < high else 1.0 if high <= 255 else 1 / 257
    return values.point(lambda value: value * factor + 0.0).convert("L")
