"""The library's own trained adapters: what finetuning added to a starter model, in few bits.

A file holds the differences between a model's weights after and before. Those of matrices are
numbers of a few bits with one scale a group of neighbours; the others, biases, norms and heads,
are float16. Added to the starter they give the trained model.

Source: blockwise quantisation of weights, Dettmers & Zettlemoyer 2022, arXiv:2212.09720.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from backprop.errors import ArtefactError

__all__ = ["Adapter", "add", "pack", "read", "write"]

FOLDER = Path(__file__).with_name("starter")
FORMAT = "backprop-adapter-1"
GROUP = 128
"""Neighbours in a row of a matrix that share a scale."""

CODES, SCALES = ":codes", ":scales"
CLIPS = (0.55, 0.65, 0.75, 0.85, 1.0)
"""Shares of a group's largest difference that are tried as the largest code."""


@dataclass(frozen=True)
class Adapter:
    """Differences of weights, unpacked.

    Args:
        changes: name of a weight in the encoder to what is added to it.
        head: weights of the head by name, ``weight`` and ``bias``.
        details: what else the adapter says, such as labels; JSON.
    """

    changes: Mapping[str, Tensor]
    head: Mapping[str, Tensor]
    details: Mapping[str, Any]


def read(name: str) -> Adapter:
    """Return the adapter called ``name`` that ships with the library.

    Raises:
        ArtefactError: there is none, or it has another form.
    """
    there = sorted(path.stem for path in FOLDER.glob("*.safetensors"))
    if name not in there:
        raise ArtefactError(f"There is no adapter {name!r}; there are: {', '.join(there)}.")
    with safe_open(FOLDER / f"{name}.safetensors", framework="pt") as file:
        meta = file.metadata() or {}
        if meta.get("format") != FORMAT:
            raise ArtefactError(f"The adapter {name!r} has another form; install backprop again.")
        packed = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a dict
    head = {key.removeprefix("head."): packed.pop(key).float() for key in _heads(packed)}
    return Adapter(_unpacked(packed), head, json.loads(meta["details"]))


def write(
    path: Path,
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
    head: Mapping[str, Tensor],
    details: Mapping[str, Any],
    bits: int = 4,
) -> None:
    """Write the differences between two states of an encoder, and a head.

    Args:
        path: ends with ``.safetensors``.
        before: weights by name.
        after: those that were trained; names that are missing, or equal, cost nothing.
        head: weights of the head, kept whole.
        details: see ``Adapter``.
        bits: of a difference in a matrix, 2 to 8.
    """
    tensors = {f"head.{name}": value.half().contiguous() for name, value in head.items()}
    for name, value in after.items():
        change = value.float() - before[name].float()
        if not change.any():
            continue
        if change.ndim != 2 or change.shape[1] % GROUP:
            tensors[name] = change.half()
            continue
        codes, scales = pack(change, bits)
        tensors[name + CODES], tensors[name + SCALES] = codes, scales
    save_file(tensors, path, {"format": FORMAT, "details": json.dumps(dict(details))})


def add(adapter: Adapter, encoder: nn.Module) -> None:
    """Add an adapter to the encoder it was made for.

    Raises:
        ArtefactError: the encoder has other weights.
    """
    weights = dict(encoder.named_parameters())
    for name, change in adapter.changes.items():
        if name not in weights or weights[name].shape != change.shape:
            raise ArtefactError(f"The adapter does not fit the model: it changes {name!r}.")
        with torch.no_grad():
            weights[name].add_(change.to(weights[name]))


def pack(values: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Return a matrix in few bits: codes and the scales of groups.

    Args:
        values: shape (rows, columns), columns a multiple of ``GROUP``.
        bits: 2 to 8; ``2**bits - 1`` levels, symmetric about 0.

    Returns:
        uint8 of shape (rows, columns * bits / 8), and float16 of shape (rows, columns / GROUP).
    """
    groups = values.float().reshape(len(values), -1, GROUP)
    most = 2 ** (bits - 1) - 1
    largest = groups.abs().amax(-1, keepdim=True)
    best = torch.full_like(largest, torch.inf)
    scales = largest.clone()
    for clip in CLIPS:
        tried = (largest * clip / most).half().float().clamp_min(TINY)
        error = (_rounded(groups, tried, most) * tried - groups).square().sum(-1, keepdim=True)
        scales = torch.where(error < best, tried, scales)
        best = torch.minimum(best, error)
    codes = (_rounded(groups, scales, most) + most).to(torch.uint8).numpy()
    # The last bits of each code, one code after the other.
    planes = np.unpackbits(codes.reshape(len(values), -1, 1), axis=-1)[..., 8 - bits :]
    packed = np.packbits(planes.reshape(len(values), -1), axis=-1)
    return torch.from_numpy(packed), scales.squeeze(-1).half()


TINY = 6e-8
"""The least number float16 knows; a group without changes has it as its scale."""


def _rounded(groups: Tensor, scales: Tensor, most: int) -> Tensor:
    return (groups / scales).round().clamp(-most, most)


def unpack(packed: Tensor, scales: Tensor) -> Tensor:
    """Return the matrix that ``pack`` made small, float32; the bits follow from the shapes."""
    columns = scales.shape[1] * GROUP
    bits = 8 * packed.shape[1] // columns
    planes = np.unpackbits(packed.numpy(), axis=-1).reshape(len(packed), columns, bits)
    whole = np.pad(planes, ((0, 0), (0, 0), (8 - bits, 0)))
    codes = torch.from_numpy(np.packbits(whole, axis=-1)).reshape(len(packed), -1, GROUP)
    most = 2 ** (bits - 1) - 1
    values: Tensor = (codes.float() - most) * scales.float()[..., None]
    return values.reshape(len(packed), columns)


def _heads(packed: Mapping[str, Tensor]) -> list[str]:
    return [key for key in packed if key.startswith("head.")]


def _unpacked(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    changes = {}
    for key, value in packed.items():
        if key.endswith(CODES):
            name = key.removesuffix(CODES)
            changes[name] = unpack(value, packed[name + SCALES])
        elif not key.endswith(SCALES):
            changes[key] = value.float()
    return changes
