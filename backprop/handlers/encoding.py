"""Labels as vectors, by a model of the catalogue that is loaded when the first label comes."""

from __future__ import annotations

from collections.abc import Sequence

from backprop.engines import Array
from backprop.handlers.kept import KeptVectors
from backprop.handlers.text_vectors import TextVectors
from backprop.optional import load

__all__ = ["LabelEncoder"]


class LabelEncoder:
    """Encodes texts with a catalogue model, loaded when first asked.

    Args:
        name: of a model that does ``text-vectorisation``.
        vectors: its handler, if it is loaded already.
    """

    def __init__(self, name: str, vectors: TextVectors | None = None) -> None:
        self.name = name
        self._encode = None if vectors is None else KeptVectors(vectors)

    def __call__(self, texts: Sequence[str]) -> Array:
        """Return unit vectors, shape (len(texts), dimensions)."""
        if self._encode is None:
            # By name: the catalogue's loader knows the handlers, so this file can't import it.
            handler_of = load("backprop.models.ready:handler_of")
            self._encode = KeptVectors(handler_of(self.name, "text-vectorisation"))
        return self._encode(texts)
