"""Headers of safetensors files: what they say must be exactly what the file holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backprop.serve.vetting.places import WEIGHTS, Place
from backprop.serve.vetting.refusing import refuse, shown
from backprop.serve.vetting.schema import either, record, table_of, text, whole
from backprop.serve.vetting.strict import parse, read_object

__all__ = ["Shapes", "check_tensors", "check_weights"]

Shapes = dict[str, tuple[int, ...]]
"""Name of a tensor to its shape."""

MOST_HEADER_BYTES = 16 << 20
MOST_TENSORS = 65_536
MOST_DIMENSIONS = 8
MOST_ELEMENTS = 1 << 40

BYTES = {
    **{"BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "I32": 4, "I64": 8},
    **{"F16": 2, "BF16": 2, "F32": 4, "F64": 8},
}
"""Types of numbers that a saved model has, with the bytes of one."""

_metadata = table_of(text(200), text(65_536), 64)
_tensor = record({"dtype": text(10), "shape": lambda *_: None, "data_offsets": lambda *_: None})
_index = record(
    {
        "metadata": table_of(text(200), either(whole(0, 1 << 50), text(1000)), 64),
        "weight_map": table_of(text(500), text(60), MOST_TENSORS),
    },
    required=("weight_map",),
)


def check_weights(place: Place) -> Shapes:
    """Return the shapes of a model's own tensors, all files of weights in its folder checked.

    Raises:
        ArtefactError: a header is not what its file holds, or files and index differ.
    """
    found: Shapes = {}
    for name in sorted(place.files):
        if not WEIGHTS.fullmatch(name):
            continue
        own = check_tensors(place.folder / name, place.where(name))
        if name != "classifier.safetensors":
            if twice := sorted(found.keys() & own.keys()):
                refuse(place.where(name), f"the tensor {shown(twice[0])} stands in two files")
            found |= own
    _check_index(place)
    if not found:
        refuse(place.where("model.safetensors"), "it is missing or empty")
    return found


def check_tensors(path: Path, where: str) -> Shapes:
    """Return the shapes of the tensors in a safetensors file.

    Raises:
        ArtefactError: its header is damaged, or the tensors it lists are not one after the other
            from the header's end to the file's.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or not 2 <= length <= min(MOST_HEADER_BYTES, size - 8):
            refuse(where, f"its header of {length:,} bytes does not fit its {size:,} bytes")
        raw = file.read(length)
    if not raw.startswith(b"{"):
        refuse(where, "its header is no JSON object")
    header = parse(raw.rstrip(b" "), where)
    _metadata(header.pop("__metadata__", {}), f"{where}, __metadata__")
    if len(header) > MOST_TENSORS:
        refuse(where, f"it holds {len(header):,} tensors; at most {MOST_TENSORS:,} are allowed")
    spans = [_span(own, f"{where}, {shown(name)}") for name, own in header.items()]
    _check_spans(spans, size - 8 - length, where)
    for name in header:
        text(500)(name, f"{where}, a name")
    return {name: tuple(own["shape"]) for name, own in header.items()}


def _span(tensor: Any, where: str) -> tuple[int, int]:
    """Return where a tensor's bytes begin and end, as many as its shape and type need."""
    _tensor(tensor, where)
    if len(tensor) != 3:
        refuse(where, "it lacks dtype, shape or data_offsets")
    if tensor["dtype"] not in BYTES:
        known = ", ".join(BYTES)
        refuse(where, f"the dtype {shown(tensor['dtype'])} is not one of {known}")
    shape, span = tensor["shape"], tensor["data_offsets"]
    if not _whole_numbers(shape) or len(shape) > MOST_DIMENSIONS:
        refuse(where, f"the shape {str(shape)[:80]!r} is no list of few whole numbers")
    if not _whole_numbers(span) or len(span) != 2 or span[0] > span[1]:
        refuse(where, f"the data_offsets {str(span)[:80]!r} are no beginning and end")
    elements = math.prod(shape)
    if max(elements, *shape, 0) > MOST_ELEMENTS:
        refuse(where, f"it has more than {MOST_ELEMENTS:,} elements")
    if elements * BYTES[tensor["dtype"]] != span[1] - span[0]:
        refuse(where, "its shape and type need another number of bytes than its data_offsets say")
    return span[0], span[1]


def _whole_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _check_spans(spans: list[tuple[int, int]], size: int, where: str) -> None:
    """Refuse tensors that overlap, leave holes or end elsewhere than the file."""
    place = 0
    for start, end in sorted(spans):
        if start != place:
            what = "overlap" if start < place else "leave a hole"
            refuse(where, f"its tensors {what} at byte {min(start, place):,} of the data")
        place = end
    if place != size:
        refuse(
            where,
            f"its tensors end at byte {place:,} of {size:,}; it was cut off or something was added",
        )


def _check_index(place: Place) -> None:
    """Refuse an index that lists other files than those that are there."""
    name, shards = "model.safetensors.index.json", sorted(filter(_is_shard, place.files))
    if name not in place.files:
        if shards:
            refuse(place.where(name), "it is missing, but the weights are in several files")
        return
    where = place.where(name)
    content: Mapping[str, Any] = read_object(place.folder / name, where, 8 << 20)
    _index(content, where)
    listed = sorted(set(content["weight_map"].values()))
    if listed != shards or "model.safetensors" in place.files:
        refuse(where, f"it lists {shown(listed)} of other files than the {len(shards)} there are")


def _is_shard(name: str) -> bool:
    return WEIGHTS.fullmatch(name) is not None and "-of-" in name
