"""How models that see images are finetuned: pictures to batches, heads for labels of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from backprop.collate import Features
from backprop.errors import InputError, UnsupportedTaskError
from backprop.handlers.pixels import Pixels
from backprop.models.augment import augment
from backprop.models.base import BaseModel, Model
from backprop.models.heads import last_layers, replace_layer
from backprop.models.training_rows import Classes
from backprop.pictures import Picture, describe, open_picture

__all__ = ["ImageTraining", "head_name", "join_sides", "replace_head"]

VECTORS = "vectors"
"""Name that a batch of pictures has where vectors are asked for, not classes."""


class ImageTraining(BaseModel):
    """The training hooks of a model that sees images.

    A row is ``pixel_values``, a tensor of bytes of shape (3, height, width), and for
    ``image-vectorisation`` also ``vectors``, which tells ``training_step`` what to return. Bytes
    are scaled in ``training_step`` and, while training, seen a little differently each time;
    ``pixel_values`` of floats are a batch of the caller's own and taken as they are.

    A subclass has ``preprocessor`` and fills in ``_vectors``, ``_logits`` and ``_new_head``.
    """

    LEARNS: ClassVar[tuple[str, ...]] = ("image-classification", "image-vectorisation")

    preprocessor: dict[str, Any]
    labels: list[str]
    """The classes, in the order of the outputs; empty while the model has none of its own."""
    multi_label: bool = False

    def pixels(self) -> Pixels:
        """Return the model's input rules."""
        return Pixels.from_config(self.preprocessor)

    def process_batch(self, params: Mapping[str, Any], task: str) -> Features:
        """Return one picture as the model takes it.

        Args:
            params: ``image``: path, PIL image, bytes, base64, data URL or ``Picture``.
            task: task string.

        Raises:
            UnsupportedTaskError: the model can't be finetuned on ``task``.
            InputError: there is no image, or it can't be read.
        """
        if task not in ImageTraining.LEARNS or not self.learns(task):
            return super().process_batch(params, task)
        fitted = torch.from_numpy(self.pixels().fitted(_picture(params).rgb()))
        row = {"pixel_values": fitted}
        return {**row, VECTORS: True} if task == "image-vectorisation" else row

    def training_step(self, batch: Mapping[str, Any]) -> Tensor:
        """Return logits, shape (n, classes), or vectors, shape (n, dim).

        Args:
            batch: what ``collate`` made of rows, on the model's device.
        """
        pixel_values = self._seen(batch["pixel_values"])
        return self._vectors(pixel_values) if VECTORS in batch else self._logits(pixel_values)

    def pre_finetuning(
        self,
        labels: Mapping[int, str] | None = None,
        num_classes: int | None = None,
        multi_label: bool = False,
    ) -> None:
        """Give the model classes of its own; with the same labels again, its head stays.

        A new head is drawn from torch's random numbers.

        Args:
            labels: index, from 0 on, to label; without any, for vectors, nothing is done.
            num_classes: how many there are; checked.
            multi_label: whether a picture may have several of them.

        Raises:
            InputError: the indices have gaps, two labels are alike, or the numbers differ.
            UnsupportedTaskError: the model has no single linear head to replace.
        """
        if labels is None and num_classes is None:
            return
        names = list(Classes.read(labels, multi_label).labels)
        if num_classes is not None and num_classes != len(names):
            raise InputError(
                f"num_classes is {describe(num_classes)} but there are {len(names)} labels; pass "
                "one label for each class."
            )
        if names != self.labels:
            self._new_head(names)
        self.labels, self.multi_label = names, multi_label
        self._tell_config()
        if "image-classification" not in self.tasks:
            self.tasks = ["image-classification", *self.tasks]
        self.forget_handlers()

    def classifies(self, task: str) -> bool:
        """Return whether it learns ``task`` as classes: true of ``image-classification``."""
        return task == "image-classification"

    def train(self: Model, mode: bool = True) -> Model:
        """Switch training on or off; batch norms keep the statistics they came with.

        Those of a few rows, and of few steps, are too rough to put in their place.
        """
        super().train(mode)
        for part in self.modules():
            if isinstance(part, _BatchNorm):
                part.eval()
        return self

    def _seen(self, pixel_values: Tensor) -> Tensor:
        """Return bytes scaled as the model wants them, varied while training."""
        if pixel_values.dtype != torch.uint8:
            return pixel_values
        pixels = self.pixels()
        values = pixel_values.float()
        if self.training:
            values = augment(values / 255) * 255
        scale, shift = (torch.from_numpy(own).to(values) for own in (pixels.scale, pixels.shift))
        return values * scale - shift

    def _vectors(self, pixel_values: Tensor) -> Tensor:
        raise NotImplementedError

    def _logits(self, pixel_values: Tensor) -> Tensor:
        raise NotImplementedError

    def _new_head(self, labels: Sequence[str]) -> None:
        """Put an untrained last layer of so many outputs in place of the present one."""
        raise NotImplementedError

    def _tell_config(self) -> None:
        """Write ``labels`` and ``multi_label`` where saving finds them."""


def _picture(params: Mapping[str, Any]) -> Picture:
    value = params.get("image")
    if value is None:
        raise InputError(f"A row needs 'image'; received only: {', '.join(params) or 'nothing'}.")
    return value if isinstance(value, Picture) else open_picture(value, "image")


def head_name(model: Any) -> str | None:
    """Return the name of a transformers classifier's last layer; None of several, or without."""
    names = last_layers(model)
    return names[0] if len(names) == 1 else None


def replace_head(model: Any, outputs: int) -> None:
    """Put an untrained last layer in place of a transformers classifier's.

    Raises:
        UnsupportedTaskError: it has no such layer, or several.
    """
    name = head_name(model)
    if name is None:
        raise UnsupportedTaskError(
            f"{type(model).__name__} can't learn classes of its own: one linear layer with an "
            f"output for each of its {model.config.num_labels} classes was looked for; use "
            "another model, such as efficientnet-lite0."
        )
    replace_layer(model, name, outputs)


def join_sides(images: Tensor, texts: Tensor) -> Tensor:
    """Return image-text vectors of norm 1, each side with an equal say, as inference does.

    Args:
        images: shape (n, dim of images).
        texts: shape (n, dim of texts).
    """
    sides = [functional.normalize(side, dim=1) for side in (images, texts)]
    return functional.normalize(torch.cat(sides, 1), dim=1)
