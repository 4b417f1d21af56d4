"""Pictures seen a little differently each time, so that a model learns what they show."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["augment"]

SMALLEST = 0.7
"""Shortest side of the part that is seen, of the whole picture's."""

STRETCH = 0.1
"""How much wider than high, or higher than wide, that part may be."""

COLOUR = 0.2
"""How far brightness, contrast and saturation may move from 1."""


def augment(pictures: Tensor) -> Tensor:
    """Return a part of each picture, at random mirrored and its colours changed.

    Random numbers come from torch's generator of the CPU, whatever the device.

    Args:
        pictures: shape (n, 3, height, width), values from 0 to 1.

    Returns:
        The same shape and range.

    Source: random crops, flips and colours as Howard 2013, arXiv:1312.5402, milder since the
        data is small; all moves of place in one bilinear look-up.
    """
    return _recoloured(_moved(pictures))


def _moved(pictures: Tensor) -> Tensor:
    """Return the pictures cropped and mirrored, filled to their size again."""
    rows = len(pictures)
    side = _between(SMALLEST, 1.0, rows)
    stretch = _between(1 - STRETCH, 1 + STRETCH, rows)
    wide, high = (side * stretch).clamp(max=1), (side / stretch).clamp(max=1)
    mirrored = torch.randint(2, (rows,)) * 2 - 1
    # Each row: where a place of the result, from -1 to 1, lies in the picture.
    places = torch.zeros(rows, 2, 3)
    places[:, 0, 0] = wide * mirrored
    places[:, 1, 1] = high
    places[:, 0, 2] = (1 - wide) * _between(-1, 1, rows)
    places[:, 1, 2] = (1 - high) * _between(-1, 1, rows)
    shape = list(pictures.shape)
    grid = functional.affine_grid(places.to(pictures), shape, align_corners=False)
    return functional.grid_sample(
        pictures, grid, mode="bilinear", padding_mode="border", align_corners=False
    )


def _recoloured(pictures: Tensor) -> Tensor:
    """Return the pictures with other brightness, contrast and saturation."""
    brightness, contrast, saturation = (
        _between(1 - COLOUR, 1 + COLOUR, len(pictures))[:, None, None, None].to(pictures)
        for _ in range(3)
    )
    grey = pictures.mean(1, keepdim=True)
    middle = grey.mean((2, 3), keepdim=True)
    coloured = grey + (pictures - grey) * saturation
    return ((middle + (coloured - middle) * contrast) * brightness).clamp(0, 1)


def _between(low: float, high: float, count: int) -> Tensor:
    return torch.rand(count) * (high - low) + low
