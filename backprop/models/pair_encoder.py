"""Any image model beside any text model: image-text vectors without a model made for pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from backprop.collate import Features
from backprop.errors import UnsupportedTaskError
from backprop.handlers.images import ImageVectors
from backprop.handlers.pairs import PairVectors
from backprop.handlers.text_vectors import TextVectors
from backprop.models.base import BaseModel
from backprop.models.image_training import join_sides

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

    LEARNS: ClassVar[tuple[str, ...]] = tuple(HANDLERS)

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
        return cast(ImageVectors, self.image.torch_handler("image-vectorisation"))

    def text_vectors(self) -> TextVectors:
        """Return the handler of ``text-vectorisation``."""
        return cast(TextVectors, self.text.torch_handler("text-vectorisation"))

    def pair_vectors(self) -> PairVectors:
        """Return the handler of ``image-text-vectorisation``."""
        return PairVectors(self.image_vectors(), self.text_vectors())

    # --- Finetuning ----------------------------------------------------------------------

    def learns(self, task: str) -> bool:
        """Return whether each side that ``task`` needs can be finetuned."""
        return task in SIDES and all(
            self.parts()[side].learns(f"{side}-vectorisation") for side in SIDES[task]
        )

    def process_batch(self, params: Mapping[str, Any], task: str) -> Features:
        """Return one row as both models take it, names beginning ``image.`` and ``text.``.

        Args:
            params: ``image`` and ``text``, as far as the task has them; anything else goes to
                both sides.
            task: task string.

        Raises:
            UnsupportedTaskError: a side can't be finetuned.
            InputError: a key is missing, or holds something else.
        """
        if not self.learns(task):
            return super().process_batch(params, task)
        row = {}
        for side in SIDES[task]:
            own = _params_of(side, params)
            features = self.parts()[side].process_batch(own, task=f"{side}-vectorisation")
            row.update(_named(side, features))
        return row

    def cut(self, params: Mapping[str, Any], task: str) -> int:
        """Return how many tokens ``process_batch`` cuts off a row, on all sides of ``task``."""
        return sum(
            self.parts()[side].cut(_params_of(side, params), f"{side}-vectorisation")
            for side in SIDES[task]
        )

    def training_step(self, batch: Mapping[str, Any]) -> Tensor:
        """Return the vectors of the sides the batch has, shape (n, dim); of both, with norm 1."""
        vectors = [self.parts()[side].training_step(_side(side, batch)) for side in _sides(batch)]
        return join_sides(*vectors) if len(vectors) == len(BOTH) else vectors[0]

    def collate(self, rows: Sequence[Features]) -> Mapping[str, Any]:
        """Return the rows as one batch, each side's as its model pads them."""
        batch = {}
        for side in _sides(rows[0]):
            own = self.parts()[side].collate([_side(side, row) for row in rows])
            batch.update(_named(side, own))
        return batch


BOTH = ("image", "text")
SIDES: Mapping[str, tuple[str, ...]] = {
    "image-text-vectorisation": BOTH,
    "image-vectorisation": BOTH[:1],
    "text-vectorisation": BOTH[1:],
}
"""Task string to the sides it needs."""


def _params_of(side: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row without what is the other side's."""
    return {name: value for name, value in params.items() if name not in {*BOTH} - {side}}


def _named(side: str, features: Features) -> dict[str, Any]:
    return {f"{side}.{name}": value for name, value in features.items()}


def _side(side: str, features: Features) -> dict[str, Any]:
    start = f"{side}."
    return {
        name.removeprefix(start): value
        for name, value in features.items()
        if name.startswith(start)
    }


def _sides(names: Iterable[str]) -> list[str]:
    """Return the sides that have names here."""
    return [side for side in BOTH if any(name.startswith(f"{side}.") for name in names)]
