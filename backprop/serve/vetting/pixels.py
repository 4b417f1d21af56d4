"""``preprocessor_config.json``: how pictures become arrays, of bounded size."""

from __future__ import annotations

from collections.abc import Mapping

from backprop.serve.vetting.names import check_names
from backprop.serve.vetting.places import Place
from backprop.serve.vetting.schema import (
    Check,
    either,
    list_of,
    maybe,
    nothing,
    number,
    one_of,
    record,
    text,
    truth,
    whole,
)
from backprop.serve.vetting.strict import read_object

__all__ = ["check_pixels"]

PROCESSORS = frozenset(
    f"{name}{ending}"
    for name in ("BeitImage", "BitImage", "CLIPImage", "ConvNextImage", "DeiTImage")
    for ending in ("Processor", "ProcessorFast")
) | frozenset(
    f"{name}{ending}"
    for name in ("EfficientNetImage", "SiglipImage", "Siglip2Image", "ViTImage")
    for ending in ("Processor", "ProcessorFast")
)
EXTRACTORS = frozenset({"CLIPFeatureExtractor", "ViTFeatureExtractor", "DeiTFeatureExtractor"})

_side = whole(1, 2048)
_size = maybe(
    either(
        _side,
        record({key: _side for key in ("height", "width", "shortest_edge", "longest_edge")}),
    )
)
_colour = maybe(either(number(-1000, 1000), list_of(number(-1000, 1000), 4)))

FIELDS: Mapping[str, Check] = {
    "image_processor_type": one_of(PROCESSORS),
    "feature_extractor_type": one_of(EXTRACTORS),
    "processor_class": maybe(text(100, r"\w*")),
    "size": _size,
    "crop_size": _size,
    "pad_size": _size,
    "resample": maybe(whole(0, 5)),
    "crop_pct": maybe(number(0.01, 1)),
    "rescale_factor": maybe(number(0, 1)),
    "image_mean": _colour,
    "image_std": _colour,
    "data_format": maybe(one_of({"channels_first", "channels_last"})),
    "input_data_format": maybe(one_of({"channels_first", "channels_last"})),
    "return_tensors": nothing,
    "device": nothing,
    **{
        key: maybe(truth)
        for key in (
            *("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb"),
            *("rescale_offset", "include_top", "do_pad", "default_to_square", "use_square_size"),
            *("do_reduce_labels", "disable_grouping"),
        )
    },
}
"""Every key of an image processor that is let through."""

_rules = record(FIELDS)


def check_pixels(place: Place) -> None:
    """Refuse a ``preprocessor_config.json`` with unknown keys or pictures of great size.

    Raises:
        ArtefactError: it is.
    """
    name = "preprocessor_config.json"
    if name in place.files:
        content = read_object(place.folder / name, place.where(name), 64 << 10)
        check_names(content, place.where(name))
        _rules(content, place.where(name))
