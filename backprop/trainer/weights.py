"""What training changes in a module: trained weights, and buffers such as running means."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from backprop.errors import ArtefactError

__all__ = ["Weights"]


class Weights:
    """Trained weights and buffers of a module, by name.

    Args:
        module: parameters without ``requires_grad`` are left out: they stay as they are.
    """

    def __init__(self, module: nn.Module) -> None:
        named = dict(module.named_parameters())
        self.trained = {name: each for name, each in named.items() if each.requires_grad}
        self.buffers = dict(module.named_buffers())

    def now(self) -> dict[str, Tensor]:
        """Return the tensors themselves, not copies."""
        weights = {f"weights.{name}": each.detach() for name, each in self.trained.items()}
        return {**weights, **{f"buffers.{name}": each for name, each in self.buffers.items()}}

    def copy(self) -> dict[str, Tensor]:
        """Return copies in main memory."""
        return {name: each.to("cpu", copy=True) for name, each in self.now().items()}

    def check(self, saved: Mapping[str, Tensor]) -> None:
        """See that ``put`` can take ``saved``, which comes from a file.

        Raises:
            ArtefactError: it has other tensors, or others of a name.
        """
        found, own = (
            {name: (each.shape, each.dtype) for name, each in tensors.items()}
            for tensors in (saved, self.now())
        )
        if found != own:
            differing = sorted(name for name in {*found, *own} if found.get(name) != own.get(name))
            raise ArtefactError(
                f"The checkpoint does not fit the model: {', '.join(differing[:5])} differ; delete "
                "its folder to train from the start."
            )

    def put(self, saved: Mapping[str, Tensor]) -> None:
        """Overwrite all by what ``copy`` or ``now`` returned."""
        with torch.no_grad():
            for name, tensor in self.now().items():
                tensor.copy_(saved[name])

    def copy_buffers(self) -> list[Tensor]:
        """Return copies of the buffers, where they are."""
        return [each.clone() for each in self.buffers.values()]

    def put_buffers(self, saved: list[Tensor]) -> None:
        """Overwrite the buffers by what ``copy_buffers`` returned."""
        with torch.no_grad():
            for buffer, before in zip(self.buffers.values(), saved, strict=True):
                buffer.copy_(before)
