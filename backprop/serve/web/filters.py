"""Search and filters of the catalogue, as the query of its address says them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Choices", "Filter", "choices"]

MULTILINGUAL = "multilingual"
UPLOADED = "uploaded"
LONGEST = 200
"""Characters of a search that are read."""


@dataclass(frozen=True)
class Filter:
    """What is looked for; an empty value asks for nothing.

    Args:
        q: words, each of which must be there.
        task: task string.
        language: ISO 639-1 code; multilingual models fit each.
        size: ``starter``, ``base``, ``large`` or ``uploaded``.
        licence: SPDX identifier.
    """

    q: str = ""
    task: str = ""
    language: str = ""
    size: str = ""
    licence: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Filter:
        """Return the filter of an address; keys it does not know mean nothing."""
        return cls(
            **{name: query.get(name, "").strip()[:LONGEST] for name in cls.__dataclass_fields__}
        )

    @property
    def is_on(self) -> bool:
        """Whether anything is looked for."""
        return self != Filter()

    def apply(self, models: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the models that fit, in their order."""
        return [model for model in models if self._fits(model)]

    def _fits(self, model: Mapping[str, Any]) -> bool:
        languages = model["languages"] or ()
        return (
            (not self.task or self.task in model["tasks"])
            and (not self.language or self.language in languages or MULTILINGUAL in languages)
            and (not self.size or self.size == size_of(model))
            and (not self.licence or self.licence.lower() == (model["licence"] or "").lower())
            and all(word in _words(model) for word in self.q.lower().split())
        )


def size_of(model: Mapping[str, Any]) -> str:
    """Return the badge of a model: its size, or ``uploaded``."""
    return UPLOADED if model["source"] == "hub" else model["size"] or ""


@dataclass(frozen=True)
class Choices:
    """What can be filtered by: the values that some model has.

    Args:
        languages: codes, sorted.
        sizes: from small to large, ``uploaded`` last.
        licences: identifiers, sorted.
    """

    languages: Sequence[str]
    sizes: Sequence[str]
    licences: Sequence[str]


def choices(models: Iterable[Mapping[str, Any]]) -> Choices:
    """Return the values to choose from."""
    languages: set[str] = set()
    sizes: set[str] = set()
    licences: set[str] = set()
    for model in models:
        languages.update(model["languages"] or ())
        sizes.add(size_of(model))
        licences.add(model["licence"] or "")
    order = ("starter", "base", "large", UPLOADED)
    return Choices(
        sorted(languages - {MULTILINGUAL}),
        [size for size in order if size in sizes],
        sorted(licences - {""}),
    )


def _words(model: Mapping[str, Any]) -> str:
    parts = (
        model["name"],
        model["description"] or "",
        *model["tasks"],
        *(model["languages"] or ()),
        model["licence"] or "",
        size_of(model),
        *(model["aliases"] or ()),
    )
    return " ".join(parts).lower()
