"""Pictures to arrays, by the rules of a hub model's ``preprocessor_config.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backprop.engines import Array
from backprop.errors import ArtefactError
from backprop.pictures import Picture

__all__ = ["Pixels"]


@dataclass(frozen=True)
class Pixels:
    """How to turn an image into a model's input: resize, crop, scale, normalise.

    Args:
        resize: (height, width), or None.
        shortest_edge: length of the shorter side after resizing, keeping proportions, or None.
        crop: (height, width) cut out of the centre, or None.
        resample: Pillow's filter number.
        factor: what 8-bit values are multiplied by.
        mean: subtracted from each channel.
        std: each channel is divided by it.
    """

    resize: tuple[int, int] | None
    shortest_edge: int | None
    crop: tuple[int, int] | None
    resample: int
    factor: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Pixels:
        """Return the rules of a ``preprocessor_config.json``, read as transformers does.

        Raises:
            ArtefactError: it asks for something this does not do.
        """
        if config.get("do_pad"):
            raise ArtefactError("Image models that pad their input (do_pad) are not supported.")
        size = config.get("size")
        if not config.get("do_resize", True):
            size = None
        elif size is None:
            raise ArtefactError("Image rules without a size are not supported.")
        kind = str(config.get("image_processor_type", config.get("feature_extractor_type", "")))
        resize, shortest, crop = _sizes(size, kind, config)
        mean, std = _statistics(kind, config)
        factor = config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0
        resample = int(config.get("resample", Image.Resampling.BICUBIC))
        return cls(resize, shortest, crop, resample, factor, mean, std)

    def arrays(self, pictures: Sequence[Picture]) -> Array:
        """Return the decoded pictures, shape (len(pictures), 3, height, width), float32.

        Raises:
            InputError: a picture's pixel data is damaged.
        """
        return np.stack([self.array(picture.rgb()) for picture in pictures])

    def array(self, image: Image.Image) -> Array:
        """Return one RGB image, shape (3, height, width), float32."""
        values: Array = self.fitted(image) * self.scale - self.shift
        return values

    def fitted(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return one RGB image resized and cropped, not scaled yet, shape (3, height, width)."""
        if self.shortest_edge is not None:
            image = _without_far_ends(image)
            image = image.resize(_keep_proportions(image.size, self.shortest_edge), self.resample)
        if self.resize is not None:
            image = image.resize(self.resize[::-1], self.resample)
        if self.crop is not None:
            image = _centre(image, *self.crop)
        return np.ascontiguousarray(np.asarray(image, np.uint8).transpose(2, 0, 1))

    @property
    def scale(self) -> Array:
        """What 8-bit values are multiplied by, shape (3, 1, 1), float32."""
        return np.asarray(self.factor / np.asarray(self.std), np.float32)[:, None, None]

    @property
    def shift(self) -> Array:
        """What is subtracted after that, shape (3, 1, 1), float32."""
        return np.asarray(np.asarray(self.mean) / np.asarray(self.std), np.float32)[:, None, None]


Sizes = tuple[tuple[int, int] | None, int | None, tuple[int, int] | None]


def _sizes(size: Any, kind: str, config: Mapping[str, Any]) -> Sizes:
    """Return (resize, shortest edge, crop)."""
    crop = None
    if config.get("do_center_crop", kind.startswith("CLIP")):
        crop = _pair(config.get("crop_size", 224))
    if size is None:
        return None, None, crop
    shortest = size.get("shortest_edge") if isinstance(size, Mapping) else None
    if kind.startswith("ConvNext"):
        return _convnext(shortest or _pair(size)[0], config)
    if isinstance(size, int) and kind.startswith("CLIP"):
        shortest = size
    if shortest is not None:
        return None, int(shortest), crop
    return _pair(size), None, crop


def _statistics(kind: str, config: Mapping[str, Any]) -> tuple[Triple, Triple]:
    """Return (mean, standard deviation) of each channel.

    Raises:
        ArtefactError: they are to be used and not given.
    """
    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (1.0, 1.0, 1.0)
    if config.get("do_normalize", True):
        if not {"image_mean", "image_std"} <= set(config):
            raise ArtefactError("Image rules without image_mean and image_std are not supported.")
        mean, std = tuple(config["image_mean"]), tuple(config["image_std"])
    if kind.startswith("EfficientNet"):
        if config.get("include_top", True):
            # Its classifier was trained on input divided by the deviation a second time.
            std = tuple(a * b for a, b in zip(std, config["image_std"], strict=True))
        if config.get("rescale_offset", False):  # to values from -1 on
            mean = tuple(value + 1 for value in mean)
    return mean, std


Triple = tuple[float, ...]


def _convnext(edge: int, config: Mapping[str, Any]) -> Sizes:
    """ConvNeXt below 384 pixels resizes a little larger and crops; from there it squeezes."""
    if edge >= CONVNEXT_SQUEEZES_FROM:
        return (edge, edge), None, None
    return None, int(edge / config.get("crop_pct", 224 / 256)), (edge, edge)


CONVNEXT_SQUEEZES_FROM = 384


def _pair(size: Any) -> tuple[int, int]:
    """Return (height, width) of a config's size.

    Raises:
        ArtefactError: it has another form.
    """
    if isinstance(size, int):
        return size, size
    if isinstance(size, Mapping) and {"height", "width"} <= set(size):
        return int(size["height"]), int(size["width"])
    if isinstance(size, Mapping) and "shortest_edge" in size:
        return int(size["shortest_edge"]), int(size["shortest_edge"])
    raise ArtefactError(f"An image size of the form {size!r} is not supported.")


def _keep_proportions(size: tuple[int, int], shortest: int) -> tuple[int, int]:
    """Return (width, height) with the shorter side ``shortest`` pixels long."""
    width, height = size
    if width <= height:
        return shortest, max(1, int(shortest * height / width))
    return max(1, int(shortest * width / height)), shortest


def _without_far_ends(image: Image.Image) -> Image.Image:
    """Return the middle of a very long or tall image, which resizing would make enormous."""
    reach = MAX_PROPORTION * min(image.size)
    if max(image.size) <= reach:
        return image
    return _centre(image, min(image.height, reach), min(image.width, reach))


MAX_PROPORTION = 32


def _centre(image: Image.Image, height: int, width: int) -> Image.Image:
    """Return the middle of ``image``; what lies beyond its borders is black."""
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
