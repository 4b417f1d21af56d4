"""Engines: arrays in, arrays out. A handler runs on any of them.

An encoder-like engine is an ``Engine``: named functions over NumPy arrays. The functions and
their arrays, by convention:

================  ===================================================  ======================
function          arrays in                                            array out
================  ===================================================  ======================
``text_vectors``  ``input_ids``, ``attention_mask`` (n, length) int64  (n, dimensions)
``logits``        the same (and ``token_type_ids`` where the           (n, classes)
                  tokenizer has them), or ``pixel_values``
``spans``         the same                                             (n, length, 2)
``image_vectors`` ``pixel_values`` (n, 3, height, width) float32       (n, dimensions)
================  ===================================================  ======================

All arrays out are float32. A text generator is a ``Generator``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ASKED",
    "ENCODERS",
    "ENGINES",
    "PRECISIONS",
    "WRITERS",
    "Allowed",
    "Array",
    "Decoding",
    "Engine",
    "Generation",
    "Generator",
]

Array: TypeAlias = NDArray[np.floating[Any]]
Ints: TypeAlias = NDArray[np.int64]

ENGINES = {
    "torch": "backprop.engines.torch:TorchEngine",
    "ctranslate2": "backprop.engines.ctranslate2:CTranslate2Engine",
    "onnx": "backprop.engines.onnx:ONNXEngine",
}
"""Engine name to the class that runs it, imported when first chosen."""

ENCODERS = {"encoder": "backprop.engines.encoder:ONNXEncoder"}
"""Further classes that ``onnx`` has, for networks that are written for them."""

WRITERS = {
    "decoder": "backprop.engines.decoder:ONNXDecoder",
    "generator": "backprop.engines.ctranslate2_text:CTranslate2Generator",
    "translator": "backprop.engines.ctranslate2_text:CTranslate2Translator",
}
"""The same for what writes: decoders on ONNX Runtime or CTranslate2, and encoder-decoders."""

PRECISIONS = ("float32", "int8")
"""Of weights: as they are, or in 8 bits with a scale for every 32 of them."""

ASKED = ("auto", *ENGINES)
"""What can be asked for; ``auto`` is the fastest that gives torch's results."""

Allowed: TypeAlias = Callable[[int, Sequence[int]], list[int]]
"""Given a row's number and its new tokens so far, the tokens that may come next."""


@dataclass(frozen=True)
class Decoding:
    """How to choose tokens. Lengths count new tokens.

    Args:
        max_new: most new tokens.
        min_new: fewest new tokens.
        sample: whether to sample; otherwise the likeliest token or beam is taken.
        temperature: divides the logits before sampling.
        top_k: sample among so many; 0 is all.
        top_p: sample among the likeliest that reach this probability together.
        repetition_penalty: Keskar et al. 2019, arXiv:1909.05858; 1 is none.
        length_penalty: power of the length that beam scores are divided by.
        beams: beams of beam search.
        stop_early: whether to end once so many beams have ended, rather than when no other can
            become better.
        sequences: how many to return for each prompt, best first.
        seed: makes sampling repeatable, each row by itself.
        stop: called with a row's new tokens; True ends the row.
        scored: whether ``Generation.score`` is wanted; it costs memory for long outputs.
    """

    max_new: int
    min_new: int = 0
    sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    length_penalty: float = 1.0
    beams: int = 1
    stop_early: bool = False
    sequences: int = 1
    seed: int | None = None
    stop: Callable[[Sequence[int]], bool] | None = None
    scored: bool = False


@dataclass(frozen=True)
class Generation:
    """New tokens, without the end token.

    Args:
        tokens: token ids.
        score: mean log-probability of the tokens, end token included, among those allowed; NaN
            unless ``Decoding.scored``.
    """

    tokens: list[int]
    score: float


class Engine(Protocol):
    """Runs a model's named functions on arrays."""

    @property
    def batch_tokens(self) -> int:
        """Padded tokens of a batch that the engine is fastest with."""
        ...

    @property
    def single(self) -> Engine | None:
        """The same engine, computing on one core a call; None where there is none."""
        ...

    def run(self, function: str, **arrays: NDArray[np.generic]) -> Array:
        """Return the function's result for one padded batch."""
        ...


class Generator(Protocol):
    """Continues token sequences."""

    @property
    def limits(self) -> Mapping[str, int]:
        """How much at once: limits of ``in_batches``, in place of its own."""
        ...

    @property
    def ends(self) -> frozenset[int]:
        """Tokens that end a text."""
        ...

    def generate(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, allowed: Allowed | None = None
    ) -> list[list[Generation]]:
        """Return ``decoding.sequences`` generations for each prompt of one batch."""
        ...

    def stream(self, prompt: Sequence[int], decoding: Decoding) -> Iterator[int]:
        """Yield the new tokens of one prompt as they come, without the end token."""
        ...
