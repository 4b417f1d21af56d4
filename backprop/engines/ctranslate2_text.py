"""Text generation on CTranslate2: decoders and encoder-decoders on the CPU, without torch."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from backprop.engines import Allowed, Decoding, Generation, Generator
from backprop.engines.threads import settle, threads
from backprop.optional import require

__all__ = ["CTranslate2Generator", "CTranslate2Translator"]

logger = logging.getLogger(__name__)


class CTranslate2Generator:
    """Continues token sequences with a decoder that CTranslate2 has converted.

    What it can't do as torch does, goes to ``torch``: tokens that may come next, penalties of
    repetition, samples with a seed, and stops of several beams.

    Args:
        network: see ``network``.
        ends: tokens that end a text.
        forced: tokens one of which is always the last that there is room for.
        torch: returns the generator for all else; called when it is first needed.
    """

    limits: Mapping[str, int] = {"max_rows": 32}

    KIND = "Generator"
    """CTranslate2's class."""

    def __init__(
        self,
        network: Any,
        *,
        ends: Sequence[int],
        forced: Sequence[int] = (),
        torch: Callable[[], Generator],
    ) -> None:
        self.model = network
        self.ends = frozenset(ends)
        self.ends_at_limit = bool(forced)
        self._torch = torch
        self._others: Generator | None = None

    @classmethod
    def network(cls, folder: Path) -> Any:
        """Return the model that was converted into ``folder``."""
        settle()
        kind = getattr(require("ctranslate2", extra="fast"), cls.KIND)
        return kind(str(folder), device="cpu", intra_threads=threads())

    def generate(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, allowed: Allowed | None = None
    ) -> list[list[Generation]]:
        """Return the generations of one batch of prompts, best first for each."""
        if not _does(decoding, allowed):
            return self.others().generate(prompts, decoding, allowed)
        stops = _Stops(decoding)
        options = {**self._options(decoding), "num_hypotheses": decoding.sequences}
        if decoding.stop is not None:
            options["callback"] = stops
        results = self._run([list(map(str, prompt)) for prompt in prompts], options)
        found = [
            [
                self._generation(tokens, score, decoding)
                for tokens, score in zip(self._tokens(result), result.scores, strict=True)
            ]
            for result in results
        ]
        return self._ended(found, decoding) or self.others().generate(prompts, decoding)

    def _ended(
        self, found: list[list[Generation]], decoding: Decoding
    ) -> list[list[Generation]] | None:
        """Return the generations, those at the limit ended there; None where torch must say how."""
        at_limit = any(len(each.tokens) >= decoding.max_new for row in found for each in row)
        if not (self.ends_at_limit and at_limit):
            return found
        if decoding.beams > 1 or decoding.scored:
            return None
        last = decoding.max_new - 1
        return [[Generation(each.tokens[:last], each.score) for each in row] for row in found]

    def stream(self, prompt: Sequence[int], decoding: Decoding) -> Iterator[int]:
        """Yield the new tokens of one prompt as they come, without the end token."""
        if not _does(decoding, None) or decoding.beams > 1:
            yield from self.others().stream(prompt, decoding)
            return
        tokens: list[int] = []
        for token in self._steps(list(map(str, prompt)), decoding):
            if token in self.ends:
                return
            if self.ends_at_limit and len(tokens) == decoding.max_new - 1:
                return
            tokens.append(token)
            yield token
            if decoding.stop is not None and decoding.stop(tokens):
                return

    def others(self) -> Generator:
        """Return the generator on torch."""
        if self._others is None:
            logger.info("This needs torch, which takes some seconds to load.")
            self._others = self._torch()
        return self._others

    def _run(self, prompts: list[list[str]], options: dict[str, Any]) -> Any:
        return self.model.generate_batch(prompts, include_prompt_in_result=False, **options)

    def _tokens(self, result: Any) -> list[list[int]]:
        found: list[list[int]] = result.sequences_ids
        return found

    def _steps(self, prompt: list[str], decoding: Decoding) -> Iterator[int]:
        options = self._options(decoding)
        for name in ("beam_size", "length_penalty", "return_scores"):
            options.pop(name)
        for step in self.model.generate_tokens(prompt, **options):
            yield step.token_id

    def _options(self, decoding: Decoding) -> dict[str, Any]:
        options = {
            "max_length": decoding.max_new,
            "min_length": decoding.min_new,
            "beam_size": decoding.beams,
            "length_penalty": decoding.length_penalty if decoding.beams > 1 else 1.0,
            "end_token": sorted(self.ends),
            "sampling_topk": decoding.top_k if decoding.sample else 1,
            "return_scores": True,
        }
        if decoding.sample:
            options["sampling_topp"] = decoding.top_p
            options["sampling_temperature"] = decoding.temperature
        return options

    def _generation(self, tokens: list[int], score: float, decoding: Decoding) -> Generation:
        """Return a generation; its score as the mean of the tokens' log-probabilities."""
        length = len(tokens) if len(tokens) >= decoding.max_new else len(tokens) + 1
        if decoding.beams > 1:
            score *= length**decoding.length_penalty / length
        return Generation(tokens, score if decoding.scored else math.nan)


class CTranslate2Translator(CTranslate2Generator):
    """The same for an encoder-decoder, whose prompt is the text that it reads."""

    KIND = "Translator"

    def _run(self, prompts: list[list[str]], options: dict[str, Any]) -> Any:
        return self.model.translate_batch(prompts, **options)

    def _tokens(self, result: Any) -> list[list[int]]:
        return [list(map(int, tokens)) for tokens in result.hypotheses]

    def _options(self, decoding: Decoding) -> dict[str, Any]:
        names = {"max_length": "max_decoding_length", "min_length": "min_decoding_length"}
        own = {names.get(key, key): value for key, value in super()._options(decoding).items()}
        # An input is never cut: its length was checked before.
        return {**own, "max_input_length": 0}


def _does(decoding: Decoding, allowed: Allowed | None) -> bool:
    """Whether CTranslate2 does this as torch does."""
    samples = decoding.sample and (decoding.beams > 1 or decoding.seed is not None)
    copies = decoding.sample and decoding.top_k == 1 and decoding.sequences > 1
    stops = decoding.stop is not None and decoding.beams > 1
    plain = allowed is None and decoding.repetition_penalty == 1
    return plain and not (samples or copies or stops)


class _Stops:
    """Called with each new token; says which rows have ended by the caller's condition."""

    def __init__(self, decoding: Decoding) -> None:
        self.stop = decoding.stop
        self.tokens: dict[tuple[int, int], list[int]] = {}

    def __call__(self, step: Any) -> bool:
        own = self.tokens.setdefault((step.batch_id, step.hypothesis_id or 0), [])
        own.append(step.token_id)
        return self.stop is not None and self.stop(own)
