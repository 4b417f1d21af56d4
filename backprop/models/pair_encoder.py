"""Any image model beside any text model: image-text vectors without a model made for pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch

from backprop.errors import UnsupportedTaskError
from backprop.handlers.images import ImageVectors
from backprop.handlers.pairs import PairVectors
from backprop.handlers.text_vectors import TextVectors
from backprop.models.base import BaseModel

__all__ = ["PairEncoder"]


class PairEncoder(BaseModel):
    """An image encoder and a text encoder side by side.

    Args:
        image: a model that does ``image-vectorisation``.
        text: a model that does ``text-vectorisation``.
        name: see ``BaseModel``.
        description: see ``BaseModel``.
        tasks: see ``BaseModel``.
        details: see ``BaseModel``.
        device: moves both; by default they stay where they are.

    Raises:
        UnsupportedTaskError: one of them does not do its task.
    """

    HANDLERS: ClassVar[Mapping[str, str]] = {
        "image-text-vectorisation": "pair_vectors",
        "image-vectorisation": "image_vectors",
        "text-vectorisation": "text_vectors",
    }

    def __init__(
        self,
        image: BaseModel,
        text: BaseModel,
        name: str | None = None,
        description: str | None = None,
        tasks: list[str] | None = None,
        details: Mapping[str, Any] | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        super().__init__(None, name, description, tasks, details)
        for model, task in ((image, "image-vectorisation"), (text, "text-vectorisation")):
            if task not in model.tasks:
                raise UnsupportedTaskError(
                    f"{model.name or type(model).__name__} does not do {task!r}, which this side "
                    f"of a PairEncoder needs; it does: {', '.join(model.tasks)}."
                )
        self.image = image
        self.text = text
        if device is not None:
            self.to(device)

    def parts(self) -> dict[str, BaseModel]:
        """Return the models this one is made of, by the name of their folder."""
        return {"image": self.image, "text": self.text}

    def image_vectors(self) -> ImageVectors:
        """Return the handler of ``image-vectorisation``."""
        return cast(ImageVectors, self.image.handler("image-vectorisation"))

    def text_vectors(self) -> TextVectors:
        """Return the handler of ``text-vectorisation``."""
        return cast(TextVectors, self.text.handler("text-vectorisation"))

    def pair_vectors(self) -> PairVectors:
        """Return the handler of ``image-text-vectorisation``."""
        return PairVectors(self.image_vectors(), self.text_vectors())
