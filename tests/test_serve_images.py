"""Pictures that come over HTTP are bounded before any of their pixels is decoded."""

from __future__ import annotations

import base64
import io
import time
import tracemalloc
from typing import Any

import pytest
from PIL import Image

from backprop import inputs
from backprop.errors import InputError
from backprop.serve.images import MAX_IMAGES, MAX_PIXELS, bound_decoders, check_images
from backprop.serve.picture_headers import HeaderFault, exif_bytes, read_header
from backprop.specs import SPECS
from tests import tiny
from tests.image_bombs import bombs, exif, picture, png

SPEC = SPECS["image-classification"]


@pytest.fixture(autouse=True)
def bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bounds of a server, which are taken away again afterwards."""
    from PIL import PngImagePlugin

    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_MEMORY", PngImagePlugin.MAX_TEXT_MEMORY)
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_CHUNK", PngImagePlugin.MAX_TEXT_CHUNK)
    bound_decoders()


def sent(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def saved(form: str, image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


FORMS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 90},
    "JPEG progressive": {"progressive": True},
    "PNG": {},
    "GIF": {},
    "WEBP": {},
    "WEBP without loss": {"lossless": True},
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_pictures_that_people_send_are_read_as_they_were(name: str, prefix: str) -> None:
    image = tiny.photo(1)
    raw = saved(name.split()[0], image, **FORMS[name])
    body = {"image": prefix + sent(raw), "labels": ["cat", "dog"]}
    checked = check_images(SPEC, body)
    assert checked["image"] == raw and checked["labels"] == body["labels"]
    assert body["image"] == prefix + sent(raw)
    [row] = inputs.read(SPEC.name, checked, paths=False).rows
    assert row["image"].rgb().size == image.size


def test_a_turned_picture_is_still_turned_upright() -> None:
    image = tiny.photo(1, size=(64, 48))
    tags = Image.Exif()
    tags[0x0112] = 6
    tags.get_ifd(0x8769)[0x9003] = "2024:01:01 00:00:00"
    for form in ("JPEG", "PNG", "WEBP"):
        checked = check_images(SPEC, {"image": sent(saved(form, image, exif=tags))})
        [row] = inputs.read(SPEC.name, checked, paths=False).rows
        assert row["image"].rgb().size == (48, 64)


def test_animations_and_phones_pictures_are_let_in() -> None:
    frames = [tiny.photo(i) for i in range(3)]
    for form in ("GIF", "WEBP", "PNG", "MPO"):
        raw = saved(form, frames[0], save_all=True, append_images=frames[1:])
        check_images(SPEC, {"image": [sent(raw)]})


def test_bombs_are_refused_at_once_and_without_memory() -> None:
    count = 0
    for name, bomb in bombs():
        body = {"image": bomb if isinstance(bomb, str) else sent(bomb)}
        start = time.process_time()
        with pytest.raises(InputError) as caught:
            check_images(SPEC, body)
        took = time.process_time() - start
        tracemalloc.start()
        with pytest.raises(InputError):
            check_images(SPEC, body)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert took < 0.2 and most < 70 << 20, name
        assert len(str(caught.value)) < 500, name
        count += 1
    assert count >= 30


@pytest.mark.parametrize("value", [3, True, {"a": 1}, [[]], [None], b"bytes", 1.5])
def test_what_is_no_string_is_refused(value: object) -> None:
    with pytest.raises(InputError, match="must be a string"):
        check_images(SPEC, {"image": value})


def test_many_pictures_are_refused_before_any_is_decoded() -> None:
    with pytest.raises(InputError, match=f"at most {MAX_IMAGES}"):
        check_images(SPEC, {"image": ["!"] * (MAX_IMAGES + 1)})


def test_the_pixels_of_all_pictures_are_counted() -> None:
    raw = sent(png(5000, 5000))
    check_images(SPEC, {"image": [raw] * 4})
    with pytest.raises(InputError, match="in all"):
        check_images(SPEC, {"image": [raw] * 5})


def test_the_largest_picture_is_let_in_and_one_more_row_is_not() -> None:
    assert 5000 * 5000 == MAX_PIXELS
    check_images(SPEC, {"image": sent(png(5000, 5000))})
    with pytest.raises(InputError, match="5000 x 5001 pixels"):
        check_images(SPEC, {"image": sent(png(5000, 5001))})


def test_exif_is_counted_over_all_its_tables() -> None:
    assert exif_bytes(exif(3, 100)) == 300
    circle = b"II*\0" + b"\x08\0\0\0" + b"\x01\0" + b"\x69\x87\x04\0\x01\0\0\0\x04\0\0\0"
    with pytest.raises(HeaderFault):
        exif_bytes(circle)


def test_a_header_says_what_pillow_finds() -> None:
    for form in ("JPEG", "PNG", "GIF", "WEBP"):
        header = read_header(picture(form, (31, 17)))
        assert header.sizes[0] == (31, 17) and header.kind == form
