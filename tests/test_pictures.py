"""Images from wherever people have them, in every mode; what is no image is refused."""

from __future__ import annotations

import base64
import gc
import io
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from backprop.errors import InputError
from backprop.handlers.images import look
from backprop.handlers.pixels import Pixels
from backprop.pictures import MAX_PIXELS, describe, open_picture
from tests import tiny
from tests.fakes import ColourEngine

PHOTO = tiny.photo(3, (40, 24))


def saved(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def rgb(value: object) -> Image.Image:
    return open_picture(value, "image").rgb()


def same(image: Image.Image, other: Image.Image) -> bool:
    return (image.mode, image.size, image.tobytes()) == (other.mode, other.size, other.tobytes())


PNG = saved(PHOTO)
BASE64 = base64.b64encode(PNG).decode()
IN_LINES = base64.encodebytes(PNG).decode()

SOURCES: dict[str, Any] = {
    "PIL": PHOTO,
    "bytes": PNG,
    "bytearray": bytearray(PNG),
    "memoryview": memoryview(PNG),
    "base64": BASE64,
    "base64 in lines": IN_LINES,
    "base64 in Windows' lines": f"\r\n{IN_LINES}".replace("\n", "\r\n"),
    "data URL": f"data:image/png;base64,{BASE64}",
    "data URL in capitals": f"DATA:image/png;name=a.png;BASE64,{BASE64}",
}


@pytest.mark.parametrize("value", SOURCES.values(), ids=SOURCES.keys())
def test_the_same_photo_comes_from_every_kind_of_source(value: object) -> None:
    assert same(rgb(value), PHOTO)


def test_a_file_may_be_named_by_string_or_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a photo.png").write_bytes(PNG)
    monkeypatch.chdir(tmp_path)
    for value in (
        "a photo.png",
        " a photo.png\n",
        str(tmp_path / "a photo.png"),
        Path("a photo.png"),
    ):
        assert same(rgb(value), PHOTO)


def test_a_file_whose_name_is_also_base64_is_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "AAAA").write_bytes(PNG)
    monkeypatch.chdir(tmp_path)
    assert same(rgb("AAAA"), PHOTO)


@pytest.mark.parametrize("form", ["JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF", "MPO"])
def test_known_formats_open_whatever_the_file_is_called(form: str, tmp_path: Path) -> None:
    path = tmp_path / "image.bin"
    path.write_bytes(saved(PHOTO, form))
    found = np.asarray(rgb(path), np.int16)
    assert np.abs(found - np.asarray(PHOTO, np.int16)).mean() < 12  # some formats lose detail


# --- orientation and frames ---------------------------------------------------------------------

# What each EXIF orientation asks a viewer to do: EXIF 2.3, tag 0x0112.
UPRIGHT = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_photos_are_turned_upright_as_exif_says(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turn = UPRIGHT[orientation]
    expected = PHOTO if turn is None else PHOTO.transpose(turn)
    content = saved(PHOTO, "PNG", exif=exif)
    assert same(rgb(content), expected)
    assert same(rgb(Image.open(io.BytesIO(content))), expected)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "TIFF", "PNG"])
def test_the_first_frame_of_an_animation_is_taken(form: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    content = saved(frames[0], form, save_all=True, append_images=frames[1:])
    red, green, blue = rgb(content).getpixel((4, 4))  # type: ignore[misc]  # a pixel of mode RGB
    assert red > 240
    assert max(green, blue) < 15


# --- modes ----------------------------------------------------------------------------------------


def test_photos_with_three_channels_stay_as_they_are() -> None:
    assert same(rgb(PHOTO), PHOTO)
    assert rgb(PHOTO) is not PHOTO


@pytest.mark.parametrize("mode", ["1", "L", "P", "YCbCr", "CMYK", "HSV"])
def test_modes_pillow_converts_by_itself_look_the_same(mode: str) -> None:
    image = PHOTO.convert(mode)
    assert same(rgb(image), image.convert("RGB"))


@pytest.mark.parametrize("mode", ["LAB", "RGBX", "La"])
def test_rare_modes_give_three_channels_or_our_error(mode: str) -> None:
    image = Image.new(mode, (4, 4))
    try:
        assert rgb(image).mode == "RGB"
    except InputError as error:
        assert mode in str(error)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGBa"])
def test_what_is_transparent_becomes_white(mode: str) -> None:
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    if mode == "PA":
        alpha = image.getchannel("A")
        image = image.convert("RGB").convert("P")
        image.putalpha(alpha)
    else:
        image = image.convert(mode)
    assert image.mode == mode
    assert pixels(rgb(image)) == [(0, 0, 0), (255, 255, 255)]


def test_what_is_half_transparent_lets_half_of_the_white_through() -> None:
    [pixel] = pixels(rgb(Image.new("RGBA", (1, 1), (200, 0, 100, 128))))
    assert pixel == pytest.approx((227, 127, 177), abs=1)


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "1"])
def test_a_colour_declared_transparent_becomes_white(mode: str) -> None:
    image = Image.new(mode, (2, 1), 0)
    draw = ImageDraw.Draw(image)
    draw.point((1, 0), fill="#404040" if mode == "RGB" else 1 if mode in "1P" else 64)
    key: Any = (0, 0, 0) if mode == "RGB" else 0
    content = saved(image, "PNG", transparency=key)
    assert pixels(rgb(content))[0] == (255, 255, 255)
    assert pixels(rgb(content))[1] != (255, 255, 255) or mode == "1"


def test_sixteen_bits_become_eight() -> None:
    values = np.array([[0, 256 * 100 + 255, 32767, 65535]], np.uint16)
    for image in (
        Image.fromarray(values),
        Image.open(io.BytesIO(saved(Image.fromarray(values), "PNG"))),
        Image.open(io.BytesIO(saved(Image.fromarray(values), "TIFF"))),
    ):
        assert pixels(rgb(image)) == [(0,) * 3, (100,) * 3, (127,) * 3, (255,) * 3]


@pytest.mark.parametrize("mode", ["I", "F"])
def test_wide_modes_hold_grey_values(mode: str) -> None:
    grey = PHOTO.convert("L")
    assert same(rgb(grey.convert(mode)), grey.convert("RGB"))


def pixels(image: Image.Image) -> list[tuple[int, ...]]:
    assert image.mode == "RGB"
    return [tuple(pixel) for pixel in np.asarray(image).reshape(-1, 3).tolist()]


# --- refusals ---------------------------------------------------------------------------------


def png_header(width: int, height: int) -> bytes:
    """Return a PNG that claims a size and holds next to nothing."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


@pytest.mark.parametrize(
    ("width", "height"),
    [(MAX_PIXELS + 1, 1), (12_000, 12_000), (50_000, 50_000)],
    ids=["one too many", "Pillow warns", "Pillow refuses"],
)
def test_decompression_bombs_are_refused_before_they_are_decoded(width: int, height: int) -> None:
    for value in (png_header(width, height), base64.b64encode(png_header(width, height)).decode()):
        with pytest.raises(InputError, match=r"image\[3\].*(pixels).*(smaller|resize)"):
            open_picture(value, "image[3]")


def test_the_largest_size_allowed_is_not_refused() -> None:
    width = 8191
    picture = open_picture(png_header(width, MAX_PIXELS // width), "image")
    assert picture.where == "image"


def test_large_pil_images_and_empty_ones_are_refused() -> None:
    with pytest.raises(InputError, match="0 x 4 pixels"):
        open_picture(Image.new("RGB", (0, 4)), "image")


SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>'
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
NO_IMAGES = {
    "SVG": SVG,
    "EPS": EPS,
    "PDF": b"%PDF-1.7\n1 0 obj\n<</Type/Catalog>>\nendobj\ntrailer<</Root 1 0 R>>\n%%EOF",
    "text": b"A text about images.\n",
    "nothing": b"",
    "ICO": saved(PHOTO.resize((16, 16)), "ICO"),
    "only a header": PNG[:20],
}


@pytest.mark.parametrize("content", NO_IMAGES.values(), ids=NO_IMAGES.keys())
def test_other_formats_are_refused_with_those_that_are_known(
    content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(content)
    for value in (content, path, str(path), f"data:image/png;base64,{base64_of(content)}"):
        with pytest.raises(InputError, match=r"image is not an image in a known format \(JPEG,"):
            open_picture(value, "image")


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_truncated_file_is_refused_when_it_is_decoded(form: str) -> None:
    content = saved(tiny.photo(1, (200, 200)), form)
    with pytest.raises(InputError, match=r"image.*(complete|known format)"):
        rgb(content[: len(content) * 2 // 3])


@pytest.mark.parametrize(
    "url", ["https://example.com/cat.jpg", " HTTP://example.com/cat.jpg", "ftp://a/b", "file:///a"]
)
def test_urls_are_never_followed(url: str) -> None:
    with pytest.raises(InputError, match="image is a URL .*download it") as caught:
        open_picture(url, "image")
    assert url.strip() in str(caught.value)


@pytest.mark.parametrize("text", ["photos/of a cat.jpg", "kätzchen.png", "a", "", "a\x00b", "-_-_"])
def test_a_string_that_is_neither_a_file_nor_base64_says_so(text: str) -> None:
    with pytest.raises(InputError) as caught:
        open_picture(text, "image")
    said = str(caught.value)
    assert (
        "neither an existing file nor base64" in said
        or "no such file" in said
        or "is blank" in said
    )
    assert repr(text) in said or "is blank" in said
    assert "pass a path, a PIL image, bytes, base64 or a data URL" in said


def test_a_missing_file_whose_name_is_also_base64_is_told_as_both() -> None:
    with pytest.raises(InputError, match="no such file, and as base64 it is no image"):
        open_picture("photos/a/cat", "image")


def test_a_missing_path_says_that_there_is_no_such_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(InputError, match="there is no file"):
            open_picture(path, "image")


@pytest.mark.parametrize("url", ["data:image/png", "data:image/png,abc", "data:;base64"])
def test_data_urls_hold_base64(url: str) -> None:
    with pytest.raises(InputError, match="data URL without base64"):
        open_picture(url, "image")


def test_a_data_url_never_names_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "AAAA").write_bytes(PNG)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="known format"):
        open_picture("data:image/png;base64,AAAA", "image")


@pytest.mark.parametrize("value", [None, 3, ["a.png"], {"image": PNG}, np.zeros(3)])
def test_what_is_no_image_at_all_is_refused_by_type(value: object) -> None:
    with pytest.raises(InputError, match=f"image must be an image.*{type(value).__name__}"):
        open_picture(value, "image")


def test_strings_name_no_files_where_paths_are_not_allowed(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(PNG)
    for value in (path, str(path)):
        with pytest.raises(InputError):
            open_picture(value, "image", paths=False)


# --- conduct -----------------------------------------------------------------------------------


def test_opening_reads_the_header_only_and_decoding_leaves_the_source_alone(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(PNG)
    picture = open_picture(path, "image")
    assert picture.source == path
    assert same(picture.rgb(), picture.rgb())
    assert path.read_bytes() == PNG


def test_no_file_stays_open(tmp_path: Path) -> None:
    path = tmp_path / "photo.gif"
    path.write_bytes(saved(PHOTO, "GIF"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        open_picture(path, "image").rgb()
        gc.collect()
    assert [str(one.message) for one in caught if one.category is ResourceWarning] == []


def test_a_message_never_holds_the_whole_image() -> None:
    for value in (PNG, bytearray(PNG), PHOTO, BASE64):
        assert len(describe(value)) < 120


FORMS: dict[str, Callable[[], bytes]] = {
    form: lambda form=form: saved(tiny.photo(2, (16, 12)), form)  # type: ignore[misc]
    for form in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM")
}
WHOLE = {form: make() for form, make in FORMS.items()}
damages = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=6)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's own words on the damage
@settings(max_examples=1500, deadline=None)
@given(form=st.sampled_from(list(WHOLE)), damage=damages, keep=st.floats(0.02, 1))
def test_damaged_files_give_pixels_or_our_error(
    form: str, damage: list[tuple[int, int]], keep: float
) -> None:
    content = bytearray(WHOLE[form])
    for place, value in damage:
        content[place % len(content)] = value
    try:
        image = rgb(bytes(content[: round(len(content) * keep)]))
    except InputError:
        return
    assert image.mode == "RGB"


def test_one_image_that_is_not_read_yet_serves_many_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.effect_noise((300, 200), 90).convert("RGB").save(path)
    pixels = Pixels(None, 32, (32, 32), 3, 1 / 255, (0.5,) * 3, (0.5,) * 3)
    engine = ColourEngine(np.eye(3, dtype=np.float32))
    engine.single = engine
    with Image.open(path) as image:
        pictures = [open_picture(image, f"image[{i}]") for i in range(40)]
        found = look(engine, "image_vectors", pixels, pictures)
    with Image.open(path) as image:
        wanted = look(engine, "image_vectors", pixels, [open_picture(image, "image")])
    assert np.array_equal(found, np.repeat(wanted, 40, axis=0))
