"""Our pixels equal those of transformers' own image processors, so models see what they know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers import AutoImageProcessor

from backprop.engines import Array
from backprop.errors import ArtefactError
from backprop.handlers.pixels import MAX_PROPORTION, Pixels
from backprop.pictures import Picture
from tests import tiny
from tests.tiny_files import read_json, write_json
from tests.tiny_kinds import CLIP_COLOURS, HALVES, IMAGENET_MEAN, NORMALISE

IMAGENET: dict[str, Any] = {"image_mean": IMAGENET_MEAN, "image_std": [0.229, 0.224, 0.225]}
SQUARE = {"height": 48, "width": 48}

# Input rules in the forms that the hub's folders have them, old and new.
RULES: dict[str, dict[str, Any]] = {
    **{kind: dict(entry.pixels) for kind, entry in tiny.KINDS.items() if entry.pixels},
    "convnext that crops": {
        "image_processor_type": "ConvNextImageProcessor",
        "size": {"shortest_edge": 48},
        "crop_pct": 0.875,
        "do_resize": True,
        "resample": 3,
        **NORMALISE,
        **IMAGENET,
    },
    "convnext with another share": {
        "image_processor_type": "ConvNextImageProcessor",
        "size": {"shortest_edge": 60},
        "crop_pct": 0.95,
        "do_resize": True,
        "resample": 2,
        **NORMALISE,
        **IMAGENET,
    },
    "convnext that squeezes": {
        "image_processor_type": "ConvNextImageProcessor",
        "size": {"shortest_edge": 384},
        "do_resize": True,
        "resample": 3,
        **NORMALISE,
        **IMAGENET,
    },
    "convnext of 2022": {
        "feature_extractor_type": "ConvNextFeatureExtractor",
        "size": 48,
        "crop_pct": 0.875,
        "do_resize": True,
        "do_normalize": True,
        "resample": 3,
        **IMAGENET,
    },
    "vit of 2021": {
        "feature_extractor_type": "ViTFeatureExtractor",
        "size": 48,
        "do_resize": True,
        "do_normalize": True,
        "resample": 2,
        **HALVES,
    },
    "deit of 2021": {
        "feature_extractor_type": "DeiTFeatureExtractor",
        "size": 40,
        "crop_size": 32,
        "do_center_crop": True,
        "do_resize": True,
        "do_normalize": True,
        "resample": 3,
        **IMAGENET,
    },
    "efficientnet without its top": {
        **tiny.KINDS["efficientnet"].pixels,
        "include_top": False,
    },
    "efficientnet that crops": {
        **tiny.KINDS["efficientnet"].pixels,
        "do_center_crop": True,
    },
    "efficientnet around zero": {
        **tiny.KINDS["efficientnet"].pixels,
        "rescale_offset": True,
        "rescale_factor": 1 / 127.5,
        "do_normalize": False,
        "include_top": False,
    },
    "clip that crops more than there is": {
        **tiny.KINDS["clip"].pixels,
        "crop_size": {"height": 41, "width": 50},
    },
    "clip with a crop that is not square": {
        **tiny.KINDS["clip"].pixels,
        "crop_size": {"height": 20, "width": 31},
    },
    "clip that resizes to a square": {**tiny.KINDS["clip"].pixels, "size": SQUARE},
    "clip that only resizes": {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": 48},
        "do_center_crop": False,
        "do_rescale": False,
        "do_normalize": False,
        **CLIP_COLOURS,
    },
    "siglip with another scale": {**tiny.KINDS["siglip"].pixels, "rescale_factor": 1 / 127.5},
}

SIZES = [(64, 48), (48, 64), (50, 50), (33, 31), (20, 70), (301, 97), (7, 5), (1, 1), (31, 700)]


def theirs(rules: dict[str, Any], image: Image.Image, folder: Path) -> Array:
    write_json(folder / "preprocessor_config.json", rules)
    processor = AutoImageProcessor.from_pretrained(folder)
    pixels: Array = processor(images=image, return_tensors="np")["pixel_values"][0]
    return pixels


@pytest.mark.parametrize("name", RULES)
def test_pixels_equal_those_of_transformers(name: str, tmp_path: Path) -> None:
    pixels = Pixels.from_config(RULES[name])
    for seed, size in enumerate(SIZES):
        image = tiny.photo(seed, size)
        expected = theirs(RULES[name], image, tmp_path)
        found = pixels.array(image)
        assert found.dtype == np.float32
        assert found.shape == expected.shape, size
        # Without rescaling values go up to 255, so the tolerance grows with them.
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5, err_msg=str(size))


def test_rules_differ_from_each_other() -> None:
    image = tiny.photo(0)
    seen = {Pixels.from_config(rules).array(image).tobytes() for rules in RULES.values()}
    # The same are CLIP of 2021 and of today, ConvNeXt of both, and ViT and SigLIP 2.
    assert len(seen) == len(RULES) - 3


def test_pictures_of_every_mode_make_one_batch() -> None:
    images = [tiny.photo(0, (20, 30), mode) for mode in ("RGB", "L", "RGBA", "P", "CMYK")]
    images.append(tiny.photo(1, (70, 20)))
    pixels = Pixels.from_config(RULES["clip"])
    batch = pixels.arrays([Picture(image, "image") for image in images])
    assert batch.shape == (6, 3, 32, 32)
    assert batch.dtype == np.float32
    assert batch.flags["C_CONTIGUOUS"]
    assert np.array_equal(batch[0], pixels.array(images[0]))


def test_of_a_very_long_image_only_the_middle_is_resized(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, int]] = []
    resize = Image.Image.resize

    def noted(self: Image.Image, size: tuple[int, int], *args: Any) -> Image.Image:
        sizes.append(size)
        return resize(self, size, *args)

    pixels = Pixels.from_config(RULES["clip"])
    strip = tiny.photo(0, (4 * 100_000, 4))
    left = (strip.width - 4 * MAX_PROPORTION) // 2
    middle = strip.crop((left, 0, left + 4 * MAX_PROPORTION, 4))
    expected = pixels.array(middle)
    monkeypatch.setattr(Image.Image, "resize", noted)
    np.testing.assert_allclose(pixels.array(strip), expected, atol=1e-5)
    assert sizes == [(32 * MAX_PROPORTION, 32)]


@pytest.mark.parametrize(
    "rules",
    [
        {"do_pad": True, "size": SQUARE},
        {"size": {"longest_edge": 4}, **HALVES},
        {"size": {"max_pixels": 9}, **HALVES},
        {"size": "large", **HALVES},
        {**HALVES},
        {"size": SQUARE},
        {},
    ],
    ids=json.dumps,
)
def test_rules_we_do_not_know_are_refused_and_not_guessed(rules: dict[str, Any]) -> None:
    with pytest.raises(ArtefactError, match="not supported"):
        Pixels.from_config(rules)


def test_rules_saved_by_transformers_5_are_read_too(tmp_path: Path) -> None:
    folder = tiny.folder("clip")
    processor = AutoImageProcessor.from_pretrained(folder)
    processor.save_pretrained(tmp_path)
    saved = read_json(tmp_path / "preprocessor_config.json")
    image = tiny.photo(4, (50, 41))
    expected = Pixels.from_config(RULES["clip"]).array(image)
    np.testing.assert_allclose(Pixels.from_config(saved).array(image), expected, atol=1e-6)
