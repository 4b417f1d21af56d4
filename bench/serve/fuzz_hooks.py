"""What schemathesis can't know of our document: how to draw an image."""

from __future__ import annotations

import base64
import io

import schemathesis
from hypothesis import strategies as st
from PIL import Image

KINDS = st.sampled_from(("PNG", "JPEG", "GIF", "BMP"))
SIZES = st.integers(1, 64)


@st.composite
def images(draw: st.DrawFn) -> str:
    """Draw base64 of a small image."""
    size, colour = (draw(SIZES), draw(SIZES)), draw(st.integers(0, 255))
    buffer = io.BytesIO()
    Image.new("RGB", size, (colour, colour, colour)).save(buffer, draw(KINDS))
    return base64.b64encode(buffer.getvalue()).decode()


schemathesis.openapi.format("image-base64", images())
