"""The gate that a converted network must pass: its results are compared with torch's."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from backprop.engines import Decoding
from backprop.engines.torch import TorchEngine
from backprop.engines.torch_generator import TorchGenerator
from backprop.handlers.pixels import Pixels
from backprop.handlers.plans import Unit
from backprop.handlers.tokens import Tokens

__all__ = [
    "LEAST_COSINES",
    "PROBE_TEXTS",
    "Refused",
    "compare",
    "compare_logits",
    "compare_texts",
    "pads_left",
    "probes_of",
]

logger = logging.getLogger(__name__)

LEAST_COSINES = {False: 0.9999, True: 0.97}
"""Between a vector, or a row of logits, by torch and by a converted network; in 8 bits or not."""

PROBE_TEXTS = (
    "A cat.",
    "The library hopes to open again in June, with a new roof and more seats for readers.",
    "Where does it hurt? " * 12,
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich - 1,234.5 €!",
)


class Refused(Exception):
    """A network can't be converted, or came out differently; the message says why."""


def probes_of(
    function: str, tokens: list[Tokens], pixels: list[Pixels]
) -> list[Mapping[str, NDArray[Any]]]:
    """Return batches to compare engines by: padded and not, short and long."""
    if function in IMAGES or (function == "logits" and not tokens):
        edge = pixels[0].shortest_edge or 224
        size = pixels[0].crop or pixels[0].resize or (edge, edge)
        random = np.random.default_rng(0)
        shape = (3, 3, *size)
        return [{"pixel_values": random.standard_normal(shape, np.float32)}]
    own = tokens[0]
    room = own.max_length - own.special
    encodings = own.plain(PROBE_TEXTS)
    for encoding in encodings:
        encoding.truncate(room)
    whole = [own.wrap(encoding) for encoding in encodings]
    return [own.arrays(whole), own.arrays(whole[:1])]


IMAGES = ("image_vectors",)


def pads_left(probes: list[Mapping[str, NDArray[Any]]]) -> bool:
    """Whether the shorter rows of a batch are filled before their tokens."""
    mask = probes[0]["attention_mask"]
    return bool((mask[:, 0] == 0).any())


def compare(
    engine: TorchEngine,
    unit: Unit,
    function: str,
    probes: list[Mapping[str, NDArray[Any]]],
    least: float,
) -> dict[str, float]:
    """Return how near a unit comes to torch.

    Raises:
        Refused: not near enough.
    """
    cosine, difference = 1.0, 0.0
    for arrays in probes:
        wanted = engine.run(function, **arrays)
        try:
            found = unit.open(lambda: engine).run(function, **arrays)
        except Exception as error:  # an engine's own, for what it does not know
            raise Refused(f"it could not be run ({error})") from error
        if found.shape != wanted.shape or not np.isfinite(found).all():
            raise Refused(f"it gave {found.shape} where torch gives {wanted.shape}")
        if "attention_mask" in arrays and wanted.ndim == 3:  # a result for each token
            there = arrays["attention_mask"].astype(bool)[..., None]
            wanted, found = (np.where(there, own, 0).swapaxes(1, 2) for own in (wanted, found))
            wanted, found = (own.reshape(-1, own.shape[-1]) for own in (wanted, found))
        wanted, found = (x.reshape(len(x), -1).astype(np.float64) for x in (wanted, found))
        cosine = min(cosine, _least_cosine(wanted, found))
        difference = max(difference, float(np.abs(wanted - found).max()))
    _check_cosine(cosine, least, unit.engine)
    return {"cosine": cosine, "max_difference": difference}


def _least_cosine(wanted: NDArray[np.float64], found: NDArray[np.float64]) -> float:
    """Return the least cosine between rows of the same number."""
    norms = np.linalg.norm(wanted, axis=1) * np.linalg.norm(found, axis=1)
    return float(((wanted * found).sum(1) / np.maximum(norms, 1e-12)).min())


def _check_cosine(cosine: float, least: float, name: str) -> None:
    """Check how near a conversion came, and say so where it need not be the same.

    Raises:
        Refused: not near enough.
    """
    if least == LEAST_COSINES[True]:
        logger.info("8 bits come as near to torch as a cosine of %.5f at least.", cosine)
    if cosine >= least:
        return
    logger.warning(
        "The conversion for %s was discarded: it came as near as a cosine of %.5f to torch, "
        "and %.4f is asked for.",
        name,
        cosine,
        least,
    )
    raise Refused(f"its results are too far from torch's (cosine {cosine:.5f})")


def compare_texts(engine: TorchGenerator, opened: Any, prompts: list[list[int]]) -> None:
    """Compare what is written after two prompts.

    Raises:
        Refused: other tokens than torch's.
    """
    if all(_alike(engine, opened, *probe) for probe in _writer_probes(prompts)):
        return
    logger.warning("The conversion was discarded: it wrote other tokens than torch.")
    raise Refused("it wrote other tokens than torch")


def _writer_probes(prompts: list[list[int]]) -> Iterator[tuple[list[list[int]], Decoding]]:
    """Yield what is written to compare engines: together, by beams, and alone with more to say."""
    least = Decoding(max_new=PROBE_TOKENS, scored=True)
    yield prompts, least
    yield prompts, replace(least, beams=2)
    yield prompts[1:], replace(least, max_new=2 * PROBE_TOKENS, min_new=2 * PROBE_TOKENS)


def _alike(
    engine: TorchGenerator, opened: Any, prompts: list[list[int]], decoding: Decoding
) -> bool:
    """Whether an engine writes what torch does, as likely."""
    pairs = zip(engine.generate(prompts, decoding), opened.generate(prompts, decoding), strict=True)
    return all(
        one.tokens == other.tokens and abs(one.score - other.score) <= 1e-2
        for (one, *_), (other, *_) in pairs
    )


PROBE_TOKENS = 12


def compare_logits(engine: TorchGenerator, opened: Any, prompts: list[list[int]]) -> None:
    """Compare the logits after each prompt, as near as 8 bits come.

    Raises:
        Refused: not near enough.
    """
    found = np.stack([opened.logits(prompt) for prompt in prompts]).astype(np.float64)
    with torch.inference_mode():
        rows = [engine.module(torch.tensor([prompt])).logits[0, -1] for prompt in prompts]
    wanted = torch.stack(rows).double().numpy()
    _check_cosine(_least_cosine(wanted, found), LEAST_COSINES[True], "decoder")
